//! Long short-term memory, in both directions.

use tch::{Kind, Tensor};

use super::matrix::Matrix;
use crate::builder::{Builder, Init, Wanted};
use crate::error::Result;
use crate::forward::Forward;
use crate::packed::{Packed, signed};
use crate::select::Role;
use crate::shim;

/// A bidirectional LSTM (Hochreiter and Schmidhuber 1997) of one layer, with torch's names and order of gates: i, f, g, o. It begins each
/// sequence anew and ends it where it ends, in either direction: there is no padding to pass through.
#[derive(Debug)]
pub(crate) struct BiLstm {
    /// `[8 * hidden, in]`: the way forward, then the way back.
    inputs: Matrix,
    /// `[8 * hidden, hidden]`.
    recurrent: Matrix,
    /// `[8 * hidden]`, of the inputs and of the states.
    biases: [Tensor; 2],
    hidden: i64,
}

impl BiLstm {
    /// An LSTM over states of a width, `hidden` wide in each direction: `prefix.weight_ih_l0` and its like on disk. Weights begin evenly
    /// between ±1/√hidden; the forget gate begins open (Jozefowicz, Zaremba, Sutskever 2015).
    pub(crate) fn new(builder: &mut Builder<'_>, prefix: &str, width: i64, hidden: i64) -> Result<Self> {
        #[allow(clippy::cast_precision_loss)]
        let even = Init::Uniform((hidden as f64).sqrt().recip());
        let names = |name: &str| ["", "_reverse"].map(|direction| format!("{prefix}.{name}_l0{direction}"));
        let mut weight = |name: &str, width: i64| {
            let wanted = Wanted { names: &names(name), shape: &[8 * hidden, width], inits: &[even], decay: true };
            builder.matrix(&wanted, Role::Recurrent)
        };
        let (inputs, recurrent) = (weight("weight_ih", width)?, weight("weight_hh", hidden)?);
        let mut bias =
            |name: &str, init: Init| builder.tensor(&Wanted { names: &names(name), shape: &[8 * hidden], inits: &[init], decay: false });
        let biases = [bias("bias_ih", Init::ForgetGate)?, bias("bias_hh", Init::Zeros)?];
        Ok(Self { inputs, recurrent, biases, hidden })
    }

    /// Of states `[tokens, in]`: `[tokens, 2 * hidden]`, the way forward first.
    pub(crate) fn forward(&self, states: &Tensor, packed: &Packed, forward: &Forward) -> Result<Tensor> {
        if shim::lstm_takes(states, self.hidden)? {
            let bias = self.biases[0].f_add(&self.biases[1])?;
            let inflow = self.inputs.product(states, Some(&bias), forward)?;
            return shim::lstm(&inflow, &self.recurrent.value()?, &packed.cu_seqlens()?);
        }
        self.by_libtorch(states, packed)
    }

    /// By libtorch's own LSTM, which takes the first tokens of all sequences, then the second ones, and so on.
    fn by_libtorch(&self, states: &Tensor, packed: &Packed) -> Result<Tensor> {
        let (device, kind) = (states.device(), states.kind());
        // libtorch knows no LSTM in bf16 on every device.
        let exact = if kind == Kind::BFloat16 { Kind::Float } else { kind };
        let Turn { order, back, sizes } = turn(packed.lengths());
        let moved = |list: &[i64]| Tensor::f_from_slice(list)?.f_to(device);
        let data = states.f_to_kind(exact)?.f_index_select(0, &moved(&order)?)?;
        let zero = Tensor::f_zeros([2, packed.sequences(), self.hidden], (exact, device))?;
        let parameters = self.of_each_direction(exact)?;
        let sizes = Tensor::f_from_slice(&sizes)?;
        let train = states.requires_grad() || parameters.iter().any(Tensor::requires_grad);
        let (out, _, _) =
            Tensor::f_lstm_data(&data, &sizes, &[&zero, &zero], &parameters.iter().collect::<Vec<_>>(), true, 1, 0.0, train, true)?;
        Ok(out.f_index_select(0, &moved(&back)?)?.f_to_kind(kind)?)
    }

    /// Weights and biases of the way forward, then of the way back, as libtorch takes them.
    fn of_each_direction(&self, kind: Kind) -> Result<Vec<Tensor>> {
        let (inputs, recurrent) = (self.inputs.value()?, self.recurrent.value()?);
        let mut parameters = Vec::with_capacity(8);
        for direction in 0..2 {
            for tensor in [&inputs, &recurrent, &self.biases[0], &self.biases[1]] {
                parameters.push(tensor.f_narrow(0, direction * 4 * self.hidden, 4 * self.hidden)?.f_to_kind(kind)?);
            }
        }
        Ok(parameters)
    }
}

/// How packed tokens are put in the order of time, and back.
struct Turn {
    /// Which packed token stands in each place of time's order.
    order: Vec<i64>,
    /// Where in time's order each packed token stands.
    back: Vec<i64>,
    /// How many sequences have so many tokens.
    sizes: Vec<i64>,
}

fn turn(lengths: &[i64]) -> Turn {
    let begins: Vec<i64> = lengths
        .iter()
        .scan(0, |at, length| {
            *at += length;
            Some(*at - length)
        })
        .collect();
    let mut rows: Vec<usize> = (0..lengths.len()).collect();
    rows.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let (mut order, mut sizes) = (Vec::new(), Vec::new());
    for time in 0..longest {
        let left = rows.iter().take_while(|&&row| lengths[row] > time);
        let before = order.len();
        order.extend(left.map(|&row| begins[row] + time));
        sizes.push(signed(order.len() - before));
    }
    let mut back = vec![0; order.len()];
    for (place, &token) in order.iter().enumerate() {
        if let Some(found) = usize::try_from(token).ok().and_then(|token| back.get_mut(token)) {
            *found = signed(place);
        }
    }
    Turn { order, back, sizes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_by_over_all_sequences_at_once() {
        let turned = turn(&[2, 3, 1]);
        assert_eq!(turned.sizes, [3, 2, 1]);
        assert_eq!(turned.order, [2, 0, 5, 3, 1, 4]);
        assert_eq!(turned.back, [1, 4, 0, 3, 5, 2]);
    }
}
