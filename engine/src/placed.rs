//! Outputs that lie in the pipeline's folder as well: put there, and put back when deleted or altered.

use qapipe_cache::Record;
use rayon::prelude::*;

use crate::decide::{Keyed, Settled, Verdict, cache_error};
use crate::engine::Engine;
use crate::error::StageError;
use crate::pipeline::StageSpec;

/// Paths that had to be written, as in the pipeline file.
type Placed = Result<Vec<String>, StageError>;

impl Engine {
    /// Makes the placed outputs of a stage equal its result; gives the paths that were not.
    pub(crate) fn place(&self, spec: &StageSpec, record: &Record) -> Placed {
        let mut restored = Vec::new();
        for output in &spec.outputs {
            let (Some(place), Some(artifact)) = (&output.place, record.outputs.get(&output.name)) else { continue };
            let target = self.pipeline.resolve(place);
            if self.stats.digest(&target).is_ok_and(|there| there.digest == artifact.digest) {
                continue;
            }
            self.store.materialise(artifact, &target).map_err(|error| cache_error(&error))?;
            restored.push(place.display().to_string());
        }
        Ok(restored)
    }

    /// The same for all stages whose results are there, side by side; none for the others.
    pub(crate) fn place_all(&self, settled: &Settled) -> Vec<Option<Placed>> {
        let place = |(spec, decided): (&StageSpec, &Option<Result<Keyed, StageError>>)| match decided {
            Some(Ok(Keyed { verdict: Verdict::Cached(record), .. })) => Some(self.place(spec, record)),
            _ => None,
        };
        self.pipeline.stages.par_iter().with_min_len(16).zip(settled).map(place).collect()
    }
}
