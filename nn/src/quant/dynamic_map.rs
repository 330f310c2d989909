//! The 256 numbers that eight bits stand for where the scales of nf4 are themselves quantized.

/// The signed dynamic map of eight bits (8-Bit Approximations for Parallelism in Deep Learning, arXiv 1511.04561): 0, 1, and of each power
/// of ten from 10^-6 to 1, with either sign, the middles of equal steps between a tenth of it and itself, of which each power has twice as
/// many as the one below. In ascending order.
#[must_use]
pub fn dynamic_map() -> [f32; 256] {
    let magnitudes = (0..7).flat_map(|exponent| middles(1 << exponent).map(move |middle| power(exponent) * middle));
    let mut map = [0.0; 256];
    for (place, value) in map.iter_mut().zip(magnitudes.flat_map(|value| [value, -value]).chain([1.0])) {
        *place = value;
    }
    map.sort_by(f32::total_cmp);
    map
}

/// 10^(exponent - 6).
#[allow(clippy::cast_possible_truncation)]
fn power(exponent: i32) -> f32 {
    10.0_f64.powi(exponent - 6) as f32
}

/// The middles of equal steps from 0.1 to 1. Each boundary is counted from the end that is nearer and rounded once, as torch's `linspace`
/// has it.
fn middles(steps: u8) -> impl Iterator<Item = f32> {
    let step = (1.0 - 0.1_f32) / f32::from(steps);
    let boundary = move |at: u8| {
        if at < steps.div_ceil(2) { step.mul_add(f32::from(at), 0.1) } else { (-step).mul_add(f32::from(steps - at), 1.0) }
    };
    (0..steps).map(move |at| (boundary(at) + boundary(at + 1)) / 2.0)
}
