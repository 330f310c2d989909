//! Results: reads the Parquet tables of a store by the names of their columns, and answers with plain tables. The one user of
//! polars, none of whose types its interface shows.

mod error;
mod frame;
mod results;
mod standings;
mod table;

pub use error::ReportError;
pub use results::{Results, Scope, TABLES};
pub use standings::{Heading, Standings, Unit};
pub use table::Table;
