//! Arrow IPC files of one record batch: written with equal bytes for equal content, read by mmap.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::writer::FileWriter;
use arrow_ipc::{Block, root_as_footer};
use arrow_schema::{ArrowError, Field, Schema};

use crate::error::Error;

/// What stands at the end of an Arrow file: the footer's length and the magic word.
const TRAILER: usize = 10;

/// Writes named columns as one batch. Equal columns give equal bytes.
pub(crate) fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) -> Result<(), Error> {
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), false)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch =
        RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, array)| array).collect()).map_err(Error::arrow(path))?;
    let file = File::create_new(path).map_err(Error::io(path))?;
    let mut writer = FileWriter::try_new(BufWriter::new(file), &schema).map_err(Error::arrow(path))?;
    writer.write(&batch).map_err(Error::arrow(path))?;
    writer.finish().map_err(Error::arrow(path))?;
    let mut file = writer.into_inner().map_err(Error::arrow(path))?;
    file.flush().map_err(Error::io(path))
}

/// Reads the one batch of a file; its arrays point into the mapped file.
pub(crate) fn read(path: &Path) -> Result<RecordBatch, Error> {
    let buffer = map(path)?;
    Error::unless_damaged(path, || decode(&buffer).map_err(Error::arrow(path)))
}

/// A file's bytes without reading them.
#[expect(unsafe_code, reason = "there is no safe way to map a file")]
fn map(path: &Path) -> Result<Buffer, Error> {
    let file = File::open(path).map_err(Error::io(path))?;
    if file.metadata().map_err(Error::io(path))?.len() == 0 {
        return Ok(Buffer::from_vec(Vec::<u8>::new()));
    }
    // SAFETY: the files that this crate maps lie in the store, which publishes them read-only and never writes into a published
    // file; text in them is checked to be UTF-8 when it is decoded.
    let mapped = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io(path))?;
    Ok(Buffer::from(bytes::Bytes::from_owner(mapped)))
}

fn decode(buffer: &Buffer) -> Result<RecordBatch, ArrowError> {
    let damaged = |what: &str| ArrowError::ParseError(what.to_owned());
    let body = buffer.len().checked_sub(TRAILER).ok_or_else(|| damaged("the file is too short"))?;
    let trailer: [u8; TRAILER] = buffer[body..].try_into().map_err(|_| damaged("the file is too short"))?;
    let length = read_footer_length(trailer)?;
    let start = body.checked_sub(length).ok_or_else(|| damaged("the footer is longer than the file"))?;
    let footer = root_as_footer(&buffer[start..body]).map_err(|e| damaged(&format!("the footer does not parse: {e}")))?;
    let schema = footer.schema().ok_or_else(|| damaged("the footer has no schema"))?;
    let mut decoder = FileDecoder::new(Arc::new(fb_to_schema(schema)), footer.version());
    for block in footer.dictionaries().iter().flatten() {
        decoder.read_dictionary(block, &slice(buffer, block)?)?;
    }
    let batches = footer.recordBatches().ok_or_else(|| damaged("the footer lists no batch"))?;
    if batches.len() != 1 {
        return Err(damaged(&format!("{} batches where one is wanted", batches.len())));
    }
    let block = batches.get(0);
    decoder.read_record_batch(block, &slice(buffer, block)?)?.ok_or_else(|| damaged("the batch is empty"))
}

fn slice(buffer: &Buffer, block: &Block) -> Result<Buffer, ArrowError> {
    let damaged = || ArrowError::ParseError("a block lies outside of the file".to_owned());
    let at = usize::try_from(block.offset()).map_err(|_| damaged())?;
    let body = usize::try_from(block.bodyLength()).map_err(|_| damaged())?;
    let length = usize::try_from(block.metaDataLength()).map_err(|_| damaged())?.checked_add(body).ok_or_else(damaged)?;
    if at.checked_add(length).is_none_or(|end| end > buffer.len()) {
        return Err(damaged());
    }
    Ok(buffer.slice_with_length(at, length))
}

/// A column of a batch as an array of the wanted type.
pub(crate) fn column<A: Array + Clone + 'static>(batch: &RecordBatch, name: &str, path: &Path) -> Result<A, Error> {
    let wrong = |what: &str| Error::arrow(path)(ArrowError::SchemaError(format!("column `{name}` {what}")));
    let array = batch.column_by_name(name).ok_or_else(|| wrong("is missing"))?;
    let typed = array.as_any().downcast_ref::<A>().ok_or_else(|| wrong(&format!("is of type {}", array.data_type())))?;
    if typed.null_count() > 0 {
        return Err(wrong("holds nulls"));
    }
    Ok(typed.clone())
}
