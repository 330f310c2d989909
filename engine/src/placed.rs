//! Outputs that lie in the pipeline's folder as well: put there, and put back when deleted or altered. What the user has put there is left alone.

use std::fs;
use std::path::{Path, PathBuf};

use qapipe_cache::{Artifact, CacheError, Outputs};

use crate::artifact::OutputSpec;
use crate::decide::{Keyed, Settled, Verdict, cache_error};
use crate::engine::Engine;
use crate::error::StageError;
use crate::event::Event;
use crate::looks::look_at_each;
use crate::paths::absolute;
use crate::pipeline::StageSpec;

/// An output that had to be written.
pub(crate) struct Written {
    /// Where, as in the pipeline file.
    place: String,
    /// Where to what was there was moved, if it was worth keeping.
    kept: Option<PathBuf>,
}

impl Written {
    /// That it was put back.
    pub(crate) fn restored(&self, stage: &str) -> Event {
        Event::Restored { stage: stage.to_owned(), path: self.place.clone() }
    }

    /// That something was moved away, if so.
    pub(crate) fn kept(&self, stage: &str) -> Option<Event> {
        let kept = self.kept.as_ref()?;
        let to = absolute(kept).display().to_string();
        Some(Event::Kept { stage: stage.to_owned(), path: self.place.clone(), to })
    }
}

type Placed = Result<Vec<Written>, StageError>;

impl Engine {
    /// Makes the placed outputs of a stage equal its result; gives those that were not.
    pub(crate) fn place(&self, spec: &StageSpec, outputs: &Outputs) -> Placed {
        let mut written = Vec::new();
        for output in &spec.outputs {
            let (Some(place), Some(artifact)) = (&output.place, outputs.get(&output.name)) else { continue };
            let target = self.pipeline.resolve(place);
            if self.stats.digest(&target).is_ok_and(|there| there.digest == artifact.digest) {
                continue;
            }
            let kept = self.store.place(artifact, &plain(&target), || self.earlier(spec, output)).map_err(|error| refused(&error))?;
            written.push(Written { place: place.display().to_string(), kept });
        }
        Ok(written)
    }

    /// The same for all stages whose results are there, side by side; none for the others.
    pub(crate) fn place_all(&self, settled: &Settled) -> Vec<Option<Placed>> {
        let pairs: Vec<_> = self.pipeline.stages.iter().zip(settled).collect();
        look_at_each(&pairs, |(spec, decided)| match decided {
            Some(Ok(Keyed { verdict: Verdict::Cached(brief), .. })) => Some(self.place(spec, brief.outputs())),
            _ => None,
        })
    }

    /// Looks before a stage runs whether the user has a folder (or a link, or something special) where an output goes. A plain file may
    /// turn out to equal the result, and is looked at then.
    pub(crate) fn look_for_room(&self, spec: &StageSpec) -> Result<(), StageError> {
        for output in &spec.outputs {
            let Some(place) = &output.place else { continue };
            let target = plain(&self.pipeline.resolve(place));
            let is_in_the_way = fs::symlink_metadata(&target).is_ok_and(|there| !there.is_file());
            if is_in_the_way && !self.store.may_place(&target, || self.earlier(spec, output)) {
                return Err(refused(&CacheError::Occupied { path: target }));
            }
        }
        Ok(())
    }

    /// What the stage gave last, which is in its place even if another store put it there.
    fn earlier(&self, spec: &StageSpec, output: &OutputSpec) -> Option<Artifact> {
        self.last_record(&spec.name)?.outputs.remove(&output.name)
    }
}

/// Without `.` and doubled or trailing slashes.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

fn refused(error: &CacheError) -> StageError {
    let told = cache_error(error);
    match error {
        CacheError::Occupied { .. } => told.help("move it away, or give the output another path"),
        _ => told,
    }
}
