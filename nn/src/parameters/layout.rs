//! Where parameters lie in the flat tensors.

use super::Parameter;

/// Neighbours in the flat tensors that the optimiser treats alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Segment {
    pub(crate) start: i64,
    pub(crate) length: i64,
    /// Whether weight decay applies to them.
    pub(crate) decay: bool,
    /// What their learning rate is to the optimiser's.
    pub(crate) rate: f64,
}

/// Where the flat tensors' parts end.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) segments: Vec<Segment>,
    /// Where weight decay ends.
    pub(super) decaying: i64,
    /// Where what stays in f32 begins.
    pub(super) precise: i64,
    /// Where all ends.
    pub(super) total: i64,
}

/// Parameters begin at multiples of this many numbers, so that matrix kernels find them aligned in any kind.
const ALIGNMENT: i64 = 64;

/// Gives every parameter its place: those with weight decay first, those that stay in f32 last.
pub(super) fn lay_out(list: &mut [Parameter]) -> Layout {
    let (mut at, mut segments, mut ends) = (0, Vec::new(), Vec::new());
    for (decay, precise) in [(true, false), (false, false), (false, true)] {
        let alike = |parameter: &Parameter| parameter.decay == decay && parameter.precise == precise;
        let mut rates: Vec<f64> = list.iter().filter(|parameter| alike(parameter)).map(|parameter| parameter.rate).collect();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        for rate in rates {
            let start = at;
            for parameter in list.iter_mut().filter(|parameter| alike(parameter) && parameter.rate.total_cmp(&rate).is_eq()) {
                parameter.offset = at;
                at += (parameter.numel() + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
            }
            segments.push(Segment { start, length: at - start, decay, rate });
        }
        ends.push(at);
    }
    Layout { segments, decaying: ends[0], precise: ends[1], total: at.max(1) }
}
