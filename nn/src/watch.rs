//! What goes into a model's matrices, seen over some batches.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tch::{Kind, Tensor};

use crate::error::Result;

/// Sums of squares of what goes into each matrix, by the name of its tensor (of several in one, the first).
#[derive(Clone, Debug, Default)]
pub struct Watch(Rc<RefCell<BTreeMap<String, Seen>>>);

#[derive(Debug)]
struct Seen {
    squares: Tensor,
    tokens: i64,
}

impl Watch {
    /// Adds states `[tokens, in]`.
    pub(crate) fn add(&self, matrix: &str, states: &Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let states = states.f_to_kind(Kind::Float)?.f_reshape([-1, states.size().last().copied().unwrap_or(1)])?;
        let (squares, tokens) = (states.f_square()?.f_sum_dim_intlist(0_i64, false, Kind::Float)?, states.size()[0]);
        let mut all = self.0.borrow_mut();
        let seen = match all.remove(matrix) {
            Some(seen) => Seen { squares: seen.squares.f_add(&squares)?, tokens: seen.tokens + tokens },
            None => Seen { squares, tokens },
        };
        all.insert(matrix.to_owned(), seen);
        Ok(())
    }

    /// The mean square of each input of a matrix, f32 `[in]`; none for a matrix that nothing went into.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn mean_squares(&self, matrix: &str) -> Result<Option<Tensor>> {
        #[allow(clippy::cast_precision_loss)]
        let mean = |seen: &Seen| Ok(seen.squares.f_div_scalar(seen.tokens.max(1) as f64)?);
        self.0.borrow().get(matrix).map(mean).transpose()
    }
}
