//! What a fetch brought of one partition: its batches as they came, and two ways to read the records in them.

use bytes::Bytes;

use crate::record::{BatchError, BatchHeader, Record, RecordBatch, RecordView, TimestampType, batches};
use crate::types::Offset;

/// Whole batches from one fetch. The first may begin below the offset that was asked for.
#[derive(Clone, Debug)]
pub struct FetchedBatches {
    pub(super) bytes: Bytes,
    /// The offset that was asked for.
    pub(super) from: Offset,
    pub(super) decompressed_bytes_max: usize,
}

impl FetchedBatches {
    /// The records from the offset that was asked for on, and whose clock their timestamps are. Each batch's checksum is
    /// checked, control records are passed over. After an error nothing more is to be trusted.
    pub fn records(&self) -> impl Iterator<Item = Result<(TimestampType, Record), BatchError>> {
        let clients =
            |batch: &Result<(usize, BatchHeader), BatchError>| !matches!(batch, Ok((_, header)) if header.is_control());
        batches(&self.bytes).filter(clients).flat_map(|batch| {
            let opened = batch.and_then(|(position, header)| self.open(position, &header));
            let (records, error) = match opened {
                Ok(records) => (Some(records), None),
                Err(error) => (None, Some(Err(error))),
            };
            records.into_iter().flatten().chain(error)
        })
    }

    /// The same records for a reader that keeps nothing of them: each where it stands.
    pub fn for_each(&self, mut each: impl FnMut(Result<RecordView<'_>, BatchError>)) {
        for batch in batches(&self.bytes) {
            let read = batch.and_then(|(position, header)| match header.is_control() {
                true => Ok(()),
                false => {
                    let batch = RecordBatch::parse(self.bytes.slice(position..position + header.size()))?;
                    batch.for_each(self.decompressed_bytes_max, |record| {
                        if record.offset >= self.from {
                            each(Ok(record));
                        }
                    })
                }
            });
            if let Err(error) = read {
                each(Err(error));
            }
        }
    }

    fn open(
        &self,
        position: usize,
        header: &BatchHeader,
    ) -> Result<impl Iterator<Item = Result<(TimestampType, Record), BatchError>> + use<>, BatchError> {
        let batch = RecordBatch::parse(self.bytes.slice(position..position + header.size()))?;
        let (from, timestamp_type) = (self.from, header.timestamp_type());
        let is_wanted = move |record: &Result<Record, BatchError>| record.as_ref().map_or(true, |r| r.offset >= from);
        let records = batch.records(self.decompressed_bytes_max)?.filter(is_wanted);
        Ok(records.map(move |record| record.map(|record| (timestamp_type, record))))
    }

    /// Size of the batches in bytes, as they came.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}
