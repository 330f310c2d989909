//! Two questions as the hub keeps them.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::Field;

/// A question with an answer, and one without.
pub fn parquet() -> Vec<u8> {
    let text = |texts: [&str; 2]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
    let list = |item: ArrayRef| -> ArrayRef {
        let field = Arc::new(Field::new("item", item.data_type().clone(), true));
        Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([1, 0]), item, None))
    };
    let (texts, starts) = (list(Arc::new(StringArray::from(vec!["Zoé"]))), list(Arc::new(Int32Array::from(vec![0]))));
    let field = |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
    let answers = StructArray::from(vec![(field("text", &texts), texts.clone()), (field("answer_start", &starts), starts.clone())]);
    let context = "Zoé saw 😀 the cat. The cat sat.";
    let columns = [
        ("id", text(["q1", "q2"])),
        ("title", text(["T", "T"])),
        ("context", text([context, context])),
        ("question", text(["Who?", "Why?"])),
        ("answers", Arc::new(answers) as ArrayRef),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}
