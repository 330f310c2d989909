//! Outputs that lie in the pipeline's folder as well: put there, and put back when deleted or altered.

use qapipe_cache::Record;

use crate::decide::cache_error;
use crate::engine::Engine;
use crate::error::StageError;
use crate::pipeline::StageSpec;

impl Engine {
    /// Makes the placed outputs of a stage equal its result; gives the paths that were not.
    pub(crate) fn place(&self, spec: &StageSpec, record: &Record) -> Result<Vec<String>, StageError> {
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
}
