//! Adapters of matrices.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::{Builder, Init, Wanted, joined, module};
use crate::adapter_file::ModuleAdapter;
use crate::error::{NnError, Result};
use crate::layers::{Adapters, Up};
use crate::parameters::Part;
use crate::select::Role;
use crate::tuning::{Lora, Tuning};

impl Builder<'_> {
    /// The adapters of a matrix: those of a file, and those that a tuning brings.
    pub(super) fn adapters(&mut self, wanted: &Wanted<'_>, role: Role) -> Result<Option<Adapters>> {
        let (parts, shape) = wanted.parts();
        let (mut downs, mut down_parts, mut ups, mut adapted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for part in &parts {
            let module = module(&part.name);
            if let Some(adapter) = self.adapter_of(module, [shape[0], shape[1]], role)? {
                down_parts.push(Part { name: format!("{module}.lora_A.weight"), height: adapter.down.size()[0] });
                adapted.push(part.name.clone());
                downs.push(adapter.down.shallow_clone());
                ups.push(self.up(module, start, adapter));
            }
            start += part.height;
        }
        if downs.is_empty() {
            return Ok(None);
        }
        let (down, (trains, dropout)) = (joined(&downs)?, self.adapting());
        self.pieces.put(down_parts, &down, trains);
        let adapters = Adapters::new(down, ups, wanted.shape[0], dropout);
        self.pieces.adapted.push((adapted, adapters.shared()));
        Ok(Some(adapters))
    }

    /// Whether adapters train, and what share of the input they then do not see.
    fn adapting(&self) -> (bool, f64) {
        match &self.tuning {
            Tuning::Adapters(lora) => (true, lora.dropout),
            _ => (false, 0.0),
        }
    }

    /// The adapter of a module, whose matrix has a shape; none where its shape is another, and that is told in the end.
    fn adapter_of(&mut self, module: &str, shape: [i64; 2], role: Role) -> Result<Option<ModuleAdapter>> {
        let stored = self.adapter.map(|file| file.module(module)).transpose()?.flatten();
        let adapter = match (stored, self.tuning.adapters(module, role).cloned()) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err(NnError::Fit(format!("{module} has an adapter already"))),
            (Some(stored), None) => stored,
            (None, Some(lora)) => self.fresh_adapter(module, shape, &lora)?,
        };
        self.used.insert(module.to_owned());
        let ([height, width], down, up) = (shape, adapter.down.size(), adapter.up.size());
        let magnitude = adapter.magnitude.as_ref().map_or_else(|| vec![height], Tensor::size);
        if down.len() == 2 && down[1] == width && up == [height, down[0]] && magnitude == [height] {
            return Ok(Some(adapter));
        }
        self.misshapen.push(format!("the adapter of {module} is {up:?} {down:?}, its matrix {shape:?}"));
        Ok(None)
    }

    /// B of an adapter, for rows from `start` on.
    fn up(&mut self, module: &str, start: i64, adapter: ModuleAdapter) -> Up {
        let (trains, _) = self.adapting();
        let ModuleAdapter { up: weight, magnitude, scale, .. } = adapter;
        let mut put = |name: &str, tensor: &Tensor| {
            let parts = vec![Part { name: format!("{module}.{name}"), height: tensor.size()[0] }];
            self.pieces.put(parts, tensor, trains);
        };
        put("lora_B.weight", &weight);
        if let Some(length) = &magnitude {
            put("lora_magnitude_vector", length);
        }
        Up { start, weight, scale, magnitude }
    }

    /// An adapter at its beginning: A as torch begins a linear map (Kaiming He et al. 2015, with a = √5), B zero, and the lengths that the rows have.
    fn fresh_adapter(&mut self, module: &str, [out, inputs]: [i64; 2], lora: &Lora) -> Result<ModuleAdapter> {
        if lora.rank > out.min(inputs) {
            return Err(NnError::Fit(format!("rank {} is larger than the matrix of {module}, [{out}, {inputs}]", lora.rank)));
        }
        #[allow(clippy::cast_precision_loss)]
        let even = Init::Uniform((inputs as f64).sqrt().recip());
        let down = self.drawn(&format!("{module}.lora_A.weight"), &[lora.rank, inputs], even)?;
        let up = Tensor::f_zeros([out, lora.rank], (Kind::Float, Device::Cpu))?;
        let magnitude = if lora.decomposed { Some(self.lengths_of(module, &[out, inputs])?) } else { None };
        Ok(ModuleAdapter { down, up, magnitude, scale: lora.scale() })
    }

    /// The lengths of the rows of a module's matrix, as it is stored.
    fn lengths_of(&mut self, module: &str, shape: &[i64]) -> Result<Tensor> {
        let name = if self.pieces.sites.iter().any(|site| site.name == module) { module.to_owned() } else { format!("{module}.weight") };
        let packed = self.pieces.packed.iter().find(|(packed, _)| *packed == name).map(|(_, weight)| Arc::clone(weight));
        let weight =
            packed.map_or_else(|| self.part(&name, shape, Init::Zeros), |weight| Ok(weight.dequantize(Kind::Float)?.f_to(Device::Cpu)?))?;
        Ok(weight.f_norm_scalaropt_dim(2.0, 1_i64, false)?)
    }
}
