//! Result tables: Parquet files whose columns are declared once, for writing, reading and documentation.

mod cell;
mod collect;

mod lineage;
mod metrics;
mod predictions;
mod stages;
mod training;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::error::Error;

pub use collect::{Collected, TABLES, cited, collect};
pub use lineage::Lineage;
pub use metrics::MetricsRow;
pub use predictions::PredictionRow;
pub use stages::StageRow;
pub use training::TrainingRow;

/// One column of a result table.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its Arrow type.
    pub ty: DataType,
    /// Whether a row may leave it out: a figure that was not measured is null, never zero.
    pub nullable: bool,
    /// What it is, with its unit.
    pub doc: &'static str,
}

/// A row type of a result table.
pub trait Row: Sized + Default {
    /// The columns, in order.
    fn columns() -> Vec<Column>;

    /// Rows as arrays, in the order of [`Row::columns`].
    fn arrays(rows: &[Self]) -> Vec<ArrayRef>;

    /// Rows of a batch. Columns that it lacks stay at their default, columns that this version does not know are passed over.
    ///
    /// # Errors
    /// With the name of a column of another type.
    fn rows(batch: &RecordBatch) -> Result<Vec<Self>, &'static str>;
}

/// Two rows side by side: a lineage and a figure.
impl<A: Row + Clone, B: Row + Clone> Row for (A, B) {
    fn columns() -> Vec<Column> {
        [A::columns(), B::columns()].concat()
    }

    fn arrays(rows: &[Self]) -> Vec<ArrayRef> {
        let (left, right): (Vec<A>, Vec<B>) = rows.iter().cloned().unzip();
        [A::arrays(&left), B::arrays(&right)].concat()
    }

    fn rows(batch: &RecordBatch) -> Result<Vec<Self>, &'static str> {
        Ok(A::rows(batch)?.into_iter().zip(B::rows(batch)?).collect())
    }
}

/// Declares a row type: fields with their documentation become columns of the same names.
macro_rules! table {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $field:ident: $ty:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $ty,)+
        }

        impl $crate::tables::Row for $name {
            fn columns() -> Vec<$crate::tables::Column> {
                use $crate::tables::cell::Cell;
                vec![$($crate::tables::Column {
                    name: stringify!($field),
                    ty: <$ty as Cell>::data_type(),
                    nullable: <$ty as Cell>::NULLABLE,
                    doc: concat!($($doc),+).trim_ascii_start(),
                },)+]
            }

            fn arrays(rows: &[Self]) -> Vec<arrow_array::ArrayRef> {
                use $crate::tables::cell::Cell;
                vec![$(Cell::array(rows.iter().map(|row| &row.$field)),)+]
            }

            fn rows(batch: &arrow_array::RecordBatch) -> Result<Vec<Self>, &'static str> {
                use $crate::tables::cell::Cell;
                let mut rows = vec![Self::default(); batch.num_rows()];
                $(if let Some(array) = batch.column_by_name(stringify!($field)) {
                    let cells = <$ty as Cell>::cells(array.as_ref()).ok_or(stringify!($field))?;
                    for (row, cell) in rows.iter_mut().zip(cells) {
                        row.$field = cell;
                    }
                })+
                Ok(rows)
            }
        }
    };
}
pub(crate) use table;

/// The Arrow schema of a row type.
fn schema<R: Row>() -> Arc<Schema> {
    let field = |column: Column| Field::new(column.name, column.ty, column.nullable);
    Arc::new(Schema::new(R::columns().into_iter().map(field).collect::<Vec<_>>()))
}

/// Writes rows as a Parquet file. Equal rows give equal bytes.
///
/// # Errors
/// What the file system says.
pub fn write_table<R: Row>(path: &Path, rows: &[R]) -> Result<(), Error> {
    let schema = schema::<R>();
    let wrong = |e: arrow_schema::ArrowError| Error::arrow(path)(e);
    let batch = RecordBatch::try_new(Arc::clone(&schema), R::arrays(rows)).map_err(wrong)?;
    let level = ZstdLevel::try_new(3).map_err(Error::parquet(path))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).set_created_by("qapipe".to_owned()).build();
    let file = File::create(path).map_err(Error::io(path))?;
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(Error::parquet(path))?;
    writer.write(&batch).map_err(Error::parquet(path))?;
    writer.close().map_err(Error::parquet(path))?;
    Ok(())
}

/// Reads rows that [`write_table`] wrote, perhaps of an older version.
///
/// # Errors
/// Where the file is missing or broken, or a column has another type.
pub fn read_table<R: Row>(path: &Path) -> Result<Vec<R>, Error> {
    Error::unless_damaged(path, || read_rows(path))
}

fn read_rows<R: Row>(path: &Path) -> Result<Vec<R>, Error> {
    let file = File::open(path).map_err(Error::io(path))?;
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build).map_err(Error::parquet(path))?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(Error::arrow(path))?;
        rows.extend(
            R::rows(&batch)
                .map_err(|column| Error::data(format!("{}: column `{column}` is of another type than wanted", path.display())))?,
        );
    }
    Ok(rows)
}
