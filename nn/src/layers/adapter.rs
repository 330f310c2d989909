//! Adapters of low rank beside a matrix.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::forward::Forward;
use crate::shim;

/// The adapters of a matrix that may be several in one, `[out, in]`: each makes up for some of its rows.
#[derive(Debug)]
pub(crate) struct Adapters {
    /// A of all of them, one below the other, `[ranks, in]`.
    down: Tensor,
    ups: Vec<Up>,
    /// Rows of the matrix.
    rows: i64,
    dropout: f64,
}

/// What an adapter does with the numbers that A gives.
#[derive(Debug)]
pub(crate) struct Up {
    /// The first of its rows.
    pub(crate) start: i64,
    /// B, `[rows, rank]`.
    pub(crate) weight: Tensor,
    pub(crate) scale: f64,
    /// The lengths of its rows, where these train apart (DoRA).
    pub(crate) magnitude: Option<Tensor>,
}

impl Up {
    fn shared(&self) -> Self {
        let magnitude = self.magnitude.as_ref().map(Tensor::shallow_clone);
        Self { start: self.start, weight: self.weight.shallow_clone(), scale: self.scale, magnitude }
    }

    fn rows(&self) -> i64 {
        self.weight.size()[0]
    }
}

impl Adapters {
    /// One of them by itself: for rows of the matrix that are a tensor of their own in a file.
    pub(crate) fn one(&self, at: usize) -> Result<Self> {
        let rank = |up: &Up| up.weight.size()[1];
        let first: i64 = self.ups[..at].iter().map(rank).sum();
        let up = Up { start: 0, ..self.ups[at].shared() };
        Ok(Self { down: self.down.f_narrow(0, first, rank(&up))?, rows: up.rows(), ups: vec![up], dropout: self.dropout })
    }

    /// The same adapters, with the same tensors.
    pub(crate) fn shared(&self) -> Self {
        let ups = self.ups.iter().map(Up::shared).collect();
        Self { down: self.down.shallow_clone(), ups, rows: self.rows, dropout: self.dropout }
    }

    pub(crate) fn new(down: Tensor, ups: Vec<Up>, rows: i64, dropout: f64) -> Self {
        Self { down, ups, rows, dropout }
    }

    /// Whether lengths of rows train apart.
    pub(crate) fn decomposed(&self) -> bool {
        self.ups.iter().any(|up| up.magnitude.is_some())
    }

    /// What they add to a product `[tokens, out]`, on top of it.
    pub(crate) fn add(&self, product: &Tensor, states: &Tensor, forward: &Forward) -> Result<Tensor> {
        let seen = forward.dropout(states.shallow_clone(), self.dropout)?.f_linear(&self.down, None::<&Tensor>)?;
        let ups: Vec<(&Tensor, i64, f64)> = self.ups.iter().map(|up| (&up.weight, up.start, up.scale)).collect();
        if product.dim() == 2 {
            return shim::low_rank(product, &seen, &ups);
        }
        let (shape, flat) = (product.size(), |tensor: &Tensor| tensor.f_reshape([-1, *tensor.size().last().unwrap_or(&1)]));
        Ok(shim::low_rank(&flat(product)?, &flat(&seen)?, &ups)?.f_view(shape.as_slice())?)
    }

    /// Every scaled B in its rows and its columns, `[out, ranks]`.
    fn up(&self) -> Result<Tensor> {
        let mut blocks = Vec::with_capacity(2 * self.ups.len() + 1);
        let mut row = 0;
        for up in &self.ups {
            blocks.push(self.gap(up.start - row)?);
            blocks.push(up.weight.f_mul_scalar(up.scale)?);
            row = up.start + up.rows();
        }
        blocks.push(self.gap(self.rows - row)?);
        blocks.retain(|block| block.size()[0] > 0);
        if let [block] = blocks.as_slice() { Ok(block.shallow_clone()) } else { Ok(Tensor::f_block_diag(&blocks)?) }
    }

    /// Rows without an adapter.
    fn gap(&self, rows: i64) -> Result<Tensor> {
        Ok(Tensor::f_zeros([rows, 0], (self.down.kind(), self.down.device()))?)
    }

    /// W + s B A, scaled to the lengths of the rows.
    pub(crate) fn merged(&self, weight: &Tensor) -> Result<Tensor> {
        let sum = self.sum(weight)?;
        if self.decomposed() { Ok(sum.f_mul(&self.lengths(weight)?.f_unsqueeze(1)?)?) } else { Ok(sum) }
    }

    fn sum(&self, weight: &Tensor) -> Result<Tensor> {
        Ok(weight.f_add(&self.up()?.f_matmul(&self.down)?)?)
    }

    /// What each row of W + s B A is multiplied with to have its own length, `[out]`: the length it has counts as constant, as in section 4.3
    /// of DoRA.
    pub(crate) fn lengths(&self, weight: &Tensor) -> Result<Tensor> {
        let now = {
            let _guard = tch::no_grad_guard();
            self.sum(weight)?.f_to_kind(Kind::Float)?.f_norm_scalaropt_dim(2.0, 1_i64, false)?
        };
        let (mut parts, mut row) = (Vec::new(), 0);
        for up in &self.ups {
            parts.push(Tensor::f_ones([up.start - row], (Kind::Float, weight.device()))?);
            row = up.start + up.rows();
            let own = now.f_narrow(0, up.start, up.rows())?;
            parts.push(up.magnitude.as_ref().map_or_else(|| own.f_ones_like(), |length| length.f_div(&own))?);
        }
        parts.push(Tensor::f_ones([self.rows - row], (Kind::Float, weight.device()))?);
        Ok(Tensor::f_cat(&parts, 0)?.f_to_kind(weight.kind())?)
    }
}
