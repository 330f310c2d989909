//! Bytes: digests, a content-addressed store, action records, locks.
//!
//! The store is one folder. Objects are files named by the blake3 digest of their bytes; folders are listings of objects and, beside them, real
//! folders of hard links, so that a model is read where it lies. Everything is written to a scratch folder first, synced, and renamed into place:
//! a killed process leaves scratch only.
//!
//! Behind a store there may be a remote, which several machines share.

mod artifact;
mod atomic;
mod brief;
mod briefs;
mod claim;
mod digest;
mod error;
mod gc;
mod guard;
mod inventory;
mod layout;
mod lease;
mod lock;
mod materialise;
mod placed;
mod publish;
mod record;
mod remote;
mod rename;
mod repair;
mod rows;
mod scratch;
mod sealed;
mod stale;
mod stamp;
mod stat_cache;
mod store;
mod tree;
mod used;

pub use artifact::{Artifact, Shape};
pub use atomic::write_atomically;
pub use brief::{Brief, Short};
pub use briefs::Briefs;
pub use digest::{Digest, Hasher, NotADigest};
pub use error::{CacheError, Damage, chain};
pub use gc::{Amount, Garbage, Gone, Leftover, Policy};
pub use guard::{Alone, Guard};
pub use inventory::Usage;
pub use lease::Lease;
pub use lock::{Holder, Lock};
pub use record::{Outputs, RECORD_FORMAT, Record};
pub use remote::{Depot, Folder, Remote, RemoteError, SharedRecord, Traffic, Watch, side_by_side};
pub use repair::{Mended, Repair};
pub use rows::Rows;
pub use scratch::Scratch;
pub use sealed::{read_sealed, write_sealed};
pub use stat_cache::StatCache;
pub use store::Store;
pub use tree::{Entry, Tree};
