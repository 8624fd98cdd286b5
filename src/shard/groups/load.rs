//! Loading: a coordinator's state is its partition's replay. The log is read from its start, out of memory or from disk,
//! one piece after the other, so that everybody else goes on.

use bytes::Bytes;
use tracing::error;

use super::owner::CoordinatorState;
use crate::coordinator::group::GroupRecord;
use crate::error_code::ErrorCode;
use crate::log::LogRead;
use crate::record::{self, BatchHeader};
use crate::shard::cold::ColdRead;
use crate::shard::{Effect, Shard};
use crate::types::{Map, Offset, PartitionId, Time};

/// Logs that are being replayed, by the token that their reads come back with.
#[derive(Default)]
pub(in crate::shard) struct Loads {
    reading: Map<u64, Load>,
}

#[derive(Clone, Copy)]
struct Load {
    partition: PartitionId,
    next: Offset,
    upto: Offset,
}

/// One piece: what is replayed between two events.
const LOAD_BYTES: usize = 1 << 20;
/// Decompressed records of one batch.
const LOAD_BATCH_BYTES_MAX: usize = 256 << 20;

impl Shard {
    pub(super) fn load_groups(&mut self, now: Time, partition: PartitionId, effects: &mut Vec<Effect>) {
        let Some(owned) = self.partitions.get(&partition) else { return };
        let (next, upto) = (owned.log.log_start_offset(), owned.high_watermark());
        self.load_on(now, Load { partition, next, upto }, effects);
    }

    fn load_on(&mut self, now: Time, mut load: Load, effects: &mut Vec<Effect>) {
        loop {
            let Some(owned) = self.partitions.get(&load.partition) else { return };
            let next = load.next.max(owned.log.log_start_offset());
            match owned.log.read(next, load.upto, LOAD_BYTES) {
                Ok(LogRead::Tail(batches)) => match self.replay_batches(load.partition, &batches) {
                    Some(next) => load.next = next,
                    None => return self.on_groups_loaded(now, load.partition, effects),
                },
                Ok(LogRead::Disk) => {
                    let token = self.token();
                    self.loads.reading.insert(token, load);
                    let read = ColdRead {
                        partition: load.partition,
                        offset: next,
                        upto: load.upto,
                        max_bytes: LOAD_BYTES,
                        waiter: Some((token, 0)),
                    };
                    return self.read_cold(now, read, effects);
                }
                Ok(LogRead::Empty) | Err(_) => return self.on_groups_loaded(now, load.partition, effects),
            }
        }
    }

    /// A read that no fetch asked for: the next piece of a log that is being replayed.
    pub(in crate::shard) fn on_load_read(
        &mut self,
        now: Time,
        token: u64,
        batches: Result<Vec<Bytes>, ErrorCode>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(load) = self.loads.reading.remove(&token) else { return };
        match batches {
            Ok(batches) => match self.replay_batches(load.partition, &batches) {
                Some(next) => self.load_on(now, Load { next, ..load }, effects),
                None => self.on_groups_loaded(now, load.partition, effects),
            },
            Err(error_code) => {
                let Some(coordinator) = self.coordinators.led.get_mut(&load.partition) else { return };
                coordinator.state = CoordinatorState::Failed;
                let partition = load.partition.index;
                error!(
                    partition,
                    offset = load.next,
                    problem = error_code.name(),
                    "the groups of this partition of __consumer_offsets are not served, because its log cannot be read"
                );
            }
        }
    }

    /// Where to go on; `None` if there were no batches.
    fn replay_batches(&mut self, id: PartitionId, batches: &[Bytes]) -> Option<Offset> {
        let mut next = None;
        for batch in batches {
            let header = BatchHeader::parse(batch)?;
            next = Some(header.next_offset());
            if header.is_control() {
                continue;
            }
            let records = match record::records(batch, LOAD_BATCH_BYTES_MAX) {
                Ok(records) => records,
                Err(problem) => {
                    error!(partition = id.index, offset = header.base_offset, %problem, "a batch of __consumer_offsets is passed over");
                    continue;
                }
            };
            for record in records {
                let Ok(record) = record else { break };
                self.replay_group_record(id, record.offset, record.key.as_deref(), record.value.as_deref());
            }
        }
        next
    }

    fn replay_group_record(&mut self, id: PartitionId, offset: Offset, key: Option<&[u8]>, value: Option<&[u8]>) {
        let Some(coordinator) = self.coordinators.led.get_mut(&id) else { return };
        match GroupRecord::decode(key.unwrap_or_default(), value) {
            Ok(Some(record)) => coordinator.replay(&record),
            Ok(None) => {}
            Err(problem) => {
                error!(partition = id.index, offset, %problem, "a record of __consumer_offsets is passed over");
            }
        }
    }
}
