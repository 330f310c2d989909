//! What may stand in a column of a result table.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, UInt64Array};
use arrow_schema::DataType;

/// A Rust type with its Arrow column.
pub(crate) trait Cell: Sized {
    /// Whether the column may hold nulls.
    const NULLABLE: bool;

    /// The column's type.
    fn data_type() -> DataType;

    /// The column of these cells.
    fn array<'a>(cells: impl Iterator<Item = &'a Self>) -> ArrayRef
    where
        Self: 'a;

    /// The cells of a column; nothing where it is of another type, or holds nulls where there may be none.
    fn cells(array: &dyn Array) -> Option<Vec<Self>>;
}

macro_rules! cell {
    ($ty:ty, $array:ty, $data:expr, $to:expr, $from:expr) => {
        impl Cell for Option<$ty> {
            const NULLABLE: bool = true;

            fn data_type() -> DataType {
                $data
            }

            fn array<'a>(cells: impl Iterator<Item = &'a Self>) -> ArrayRef {
                Arc::new(cells.map(|cell| cell.as_ref().map($to)).collect::<$array>())
            }

            fn cells(array: &dyn Array) -> Option<Vec<Self>> {
                let array = array.as_any().downcast_ref::<$array>()?;
                Some(array.iter().map(|cell| cell.map($from)).collect())
            }
        }

        impl Cell for $ty {
            const NULLABLE: bool = false;

            fn data_type() -> DataType {
                $data
            }

            fn array<'a>(cells: impl Iterator<Item = &'a Self>) -> ArrayRef {
                Arc::new(cells.map(|cell| Some(($to)(cell))).collect::<$array>())
            }

            fn cells(array: &dyn Array) -> Option<Vec<Self>> {
                let array = array.as_any().downcast_ref::<$array>()?;
                array.iter().map(|cell| cell.map($from)).collect()
            }
        }
    };
}

cell!(String, StringArray, DataType::Utf8, |text: &String| text.clone(), |text: &str| text.to_owned());
cell!(f64, Float64Array, DataType::Float64, |number: &f64| *number, |number| number);
cell!(i64, Int64Array, DataType::Int64, |number: &i64| *number, |number| number);
cell!(u64, UInt64Array, DataType::UInt64, |number: &u64| *number, |number| number);
cell!(bool, BooleanArray, DataType::Boolean, |truth: &bool| *truth, |truth| truth);
