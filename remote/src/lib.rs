//! Remotes in buckets: S3 and what speaks its language, Google Cloud Storage, Azure. The only crate with an asynchronous runtime, which starts
//! with the first request and not before.

mod bucket;
mod place;
mod trouble;
mod upload;

pub use place::{Place, SCHEMES, open};
