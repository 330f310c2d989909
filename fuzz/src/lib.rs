//! Looks for inputs that break a reader: damaged, cut, repeated and exaggerated forms of good ones.
//!
//! A reader may refuse what it likes, but it may not panic, may not hang, and may not take more memory than the size of what it reads times
//! a constant. Inputs of which it says something that it has not said before are kept, and damaged further: so that the hunt gets past the first
//! check. `QAPIPE_FUZZ` says how many inputs each reader gets, `QAPIPE_SEED` which ones.

mod hunt;
mod mutate;

pub use hunt::Hunt;
/// The allocator of tests that hunt; it knows how much was taken at most.
pub use peak_alloc::PeakAlloc;
