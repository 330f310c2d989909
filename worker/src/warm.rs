//! What a worker keeps from one stage to the next.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use qapipe_nn::models::Loaded;
use qapipe_nn::{Placement, Resident, models};

use crate::error::Error;

/// The weights of the last model that answered: adapters that stand beside the same are answered with by one copy of them.
#[derive(Debug, Default)]
pub struct Warm(RefCell<Option<Rc<Resident>>>);

impl Warm {
    /// A model for answers.
    ///
    /// # Errors
    /// As [`models::load`].
    pub fn load(&self, folder: &Path, placement: &Placement, seed: u64) -> Result<Loaded, Error> {
        Ok(models::load_beside(folder, placement, seed, &mut self.0.borrow_mut())?)
    }

    /// Lets go of the weights: another stage needs the room.
    pub fn cool(&self) {
        self.0.replace(None);
    }
}
