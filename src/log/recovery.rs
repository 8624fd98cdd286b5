//! What one log is after a crash: its checkpoint, the segment files found, and what the journal holds beyond them.
//! A plan as a value; the broker carries it out before the log is opened, so a log always opens clean.

use std::fmt;

use bytes::Bytes;

use super::cleaning_table::CleaningPoint;
use super::state::LogState;
use crate::record::{self, BatchHeader, RecordBatch};
use crate::types::Offset;

/// A `.log` file and its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    pub base_offset: Offset,
    pub size: u64,
}

/// A `.log.swap` file: a whole compacted segment that had not yet taken the place of the old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapFile {
    pub base_offset: Offset,
    /// The offset after its last batch: it stands for all segments that begin below.
    pub end_offset: Offset,
    pub size: u64,
}

impl SwapFile {
    /// So much of a batch tells where the next one begins.
    pub const HEADER_BYTES: usize = record::HEADER_BYTES;

    /// Of a batch: its size, and the offset after it. `None` if this is no header of one.
    pub fn extent(header: &[u8]) -> Option<(u64, Offset)> {
        let header = BatchHeader::parse(header)?;
        let is_batch = header.magic == 2 && header.size() >= record::HEADER_BYTES;
        is_batch.then(|| (header.size() as u64, header.next_offset()))
    }
}

/// What finishes a replacement: these segments go, with their index files, and the swap file gets the name of the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    pub base_offset: Offset,
    pub covers: Vec<Offset>,
}

/// Where recovery resumes one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCheckpoint {
    /// Base offset of the segment that was being written.
    pub segment: Offset,
    /// Bytes of it that are on stable storage once the checkpoint counts.
    pub position: u64,
    /// The offset after the last record below `position`.
    pub written_offset: Offset,
    /// `LogState`, encoded.
    pub state: Bytes,
}

/// All that is known of one log before its recovery.
#[derive(Default)]
pub struct FoundLog<'a> {
    /// `None` if no table names it.
    pub checkpoint: Option<&'a LogCheckpoint>,
    pub cleaning: CleaningPoint,
    pub files: Vec<SegmentFile>,
    pub swaps: Vec<SwapFile>,
    /// Its batches in the journal in append order, those already in the segments included.
    pub entries: Vec<RecordBatch>,
}

/// The plan: swap, delete, cut, append; then `state`, `sealed` and `active` describe the log.
#[derive(Debug)]
pub struct RecoveredLog {
    pub state: LogState,
    pub sealed: Vec<SegmentFile>,
    /// Replacements that a crash interrupted; to be finished before anything else.
    pub swaps: Vec<Swap>,
    /// Its size counts `append`.
    pub active: SegmentFile,
    /// Segments that lie wholly beyond the checkpoint, whose content comes out of the journal again, and those wholly below
    /// the log's start, whose deletion a crash undid.
    pub delete: Vec<Offset>,
    /// The active segment's length before `append`; what lies behind is padding or was never synced.
    pub keep: u64,
    pub append: Vec<RecordBatch>,
    /// The active segment's index files, if there are any, describe something else: they have to go.
    pub index_is_stale: bool,
    pub cleaning: CleaningPoint,
}

impl RecoveredLog {
    /// A partition that has just come to be.
    pub fn new() -> RecoveredLog {
        RecoveredLog {
            state: LogState::default(),
            sealed: Vec::new(),
            swaps: Vec::new(),
            active: SegmentFile { base_offset: 0, size: 0 },
            delete: Vec::new(),
            keep: 0,
            append: Vec::new(),
            index_is_stale: false,
            cleaning: CleaningPoint::default(),
        }
    }

    /// What to remember of it once the plan is carried out and synced.
    pub fn checkpoint(&self) -> LogCheckpoint {
        LogCheckpoint {
            segment: self.active.base_offset,
            position: self.active.size,
            written_offset: self.state.log_end_offset,
            state: self.state.encode(),
        }
    }
}

impl Default for RecoveredLog {
    fn default() -> RecoveredLog {
        RecoveredLog::new()
    }
}

/// Acknowledged data is missing or contradicts itself. The broker refuses to start rather than serve a shorter log.
#[derive(Debug, PartialEq, Eq)]
pub enum RecoveryError {
    SegmentShort { segment: Offset, durable: u64, found: u64 },
    JournalGap { expected: Offset, found: Offset },
    JournalShort { durable: Offset, found: Offset },
    StateUnreadable,
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoveryError::SegmentShort { segment, durable, found } => write!(
                f,
                "segment {segment:020}.log has {found} bytes, but {durable} were on stable storage: restore the file"
            ),
            RecoveryError::JournalGap { expected, found } => {
                write!(
                    f,
                    "the journal continues at offset {found}, but {expected} comes next: a journal file is missing"
                )
            }
            RecoveryError::JournalShort { durable, found } => write!(
                f,
                "the log ends at offset {found}, but records up to {durable} were acknowledged: a journal file is missing"
            ),
            RecoveryError::StateUnreadable => write!(f, "the checkpoint of this partition is of another format"),
        }
    }
}

/// Plans the recovery of one partition. `read` gives the content of a segment for a log that no checkpoint knows.
pub fn recover(found: FoundLog, read: &mut dyn FnMut(Offset) -> Bytes) -> Result<RecoveredLog, RecoveryError> {
    let FoundLog { checkpoint, cleaning, mut files, swaps, entries } = found;
    files.sort_by_key(|file| file.base_offset);
    let swaps = swaps.into_iter().map(|swap| finish(swap, &mut files)).collect();
    let (mut state, base_offset, keep, written_offset) = match checkpoint {
        Some(checkpoint) => {
            let state = LogState::decode(&checkpoint.state).ok_or(RecoveryError::StateUnreadable)?;
            (state, checkpoint.segment, checkpoint.position, checkpoint.written_offset)
        }
        None => {
            let journaled = entries.first().map(|batch| batch.header().base_offset);
            match (files.first(), files.last(), journaled) {
                (Some(first), Some(last), journaled) if journaled.is_none_or(|offset| offset > first.base_offset) => {
                    scan(first.base_offset, last.base_offset, &read(last.base_offset))
                }
                // Begun since the last checkpoint: the journal has all of it, and nothing else was ever synced.
                (_, _, journaled) => begun(journaled.unwrap_or(0)),
            }
        }
    };
    let found = files.iter().find(|file| file.base_offset == base_offset).map_or(0, |file| file.size);
    if found < keep {
        return Err(RecoveryError::SegmentShort { segment: base_offset, durable: keep, found });
    }
    let mut log_end_offset = written_offset;
    let mut append = Vec::new();
    let mut size = keep;
    for batch in entries {
        let header = batch.header();
        if header.base_offset < written_offset {
            continue;
        }
        if header.base_offset != log_end_offset {
            return Err(RecoveryError::JournalGap { expected: log_end_offset, found: header.base_offset });
        }
        if header.base_offset >= state.log_end_offset {
            state.epochs.on_append(header.partition_leader_epoch, header.base_offset);
            state.producers.on_append(&header, header.max_timestamp);
        }
        log_end_offset = header.last_offset() + 1;
        size += header.size() as u64;
        append.push(batch);
    }
    if log_end_offset < state.durable_offset {
        return Err(RecoveryError::JournalShort { durable: state.durable_offset, found: log_end_offset });
    }
    if log_end_offset < state.log_end_offset {
        state.epochs.truncate(log_end_offset);
        state.producers.truncate(log_end_offset);
    }
    (state.log_end_offset, state.durable_offset) = (log_end_offset, log_end_offset);
    state.log_start_offset = state.log_start_offset.max(cleaning.log_start_offset);
    if log_end_offset < state.log_start_offset {
        return Ok(RecoveredLog { swaps, ..begun_anew(state, cleaning, &files) });
    }
    let index_is_stale = state.indexed_size != size;
    if index_is_stale {
        state.indexed_size = 0;
    }
    let (mut sealed, mut delete) = (Vec::new(), Vec::new());
    for (index, file) in files.iter().enumerate().filter(|(_, file)| file.base_offset != base_offset) {
        let end = files.get(index + 1).map_or(base_offset, |next| next.base_offset.min(base_offset));
        if file.base_offset > base_offset || end <= state.log_start_offset {
            delete.push(file.base_offset);
        } else {
            sealed.push(*file);
        }
    }
    let active = SegmentFile { base_offset, size };
    Ok(RecoveredLog { state, sealed, swaps, active, delete, keep, append, index_is_stale, cleaning })
}

/// `files` as they are once this swap file has its place.
fn finish(swap: SwapFile, files: &mut Vec<SegmentFile>) -> Swap {
    let SwapFile { base_offset, end_offset, size } = swap;
    let is_covered = |file: &mut SegmentFile| (base_offset..end_offset).contains(&file.base_offset);
    let mut covers: Vec<_> = files.extract_if(.., is_covered).map(|file| file.base_offset).collect();
    // Of a first segment that is gone already, index files may be left.
    if covers.first() != Some(&base_offset) {
        covers.insert(0, base_offset);
    }
    let place = files.partition_point(|file| file.base_offset < base_offset);
    files.insert(place, SegmentFile { base_offset, size });
    Swap { base_offset, covers }
}

/// Records that were acknowledged from memory were lost, and the log's start had passed them: nothing below it may come
/// back, so it begins again there.
fn begun_anew(mut state: LogState, cleaning: CleaningPoint, files: &[SegmentFile]) -> RecoveredLog {
    let start = state.log_start_offset;
    (state.log_end_offset, state.durable_offset) = (start, start);
    (state.first_timestamp, state.indexed_size) = (None, 0);
    RecoveredLog {
        state,
        active: SegmentFile { base_offset: start, size: 0 },
        delete: files.iter().map(|file| file.base_offset).collect(),
        index_is_stale: true,
        cleaning,
        ..RecoveredLog::new()
    }
}

fn begun(offset: Offset) -> (LogState, Offset, u64, Offset) {
    let state = LogState { log_start_offset: offset, log_end_offset: offset, ..LogState::default() };
    (state, offset, 0, offset)
}

/// Finds the end of a log that no checkpoint knows (a directory brought from elsewhere) by reading its last segment.
fn scan(log_start_offset: Offset, base_offset: Offset, bytes: &Bytes) -> (LogState, Offset, u64, Offset) {
    let mut state = LogState { log_start_offset, log_end_offset: base_offset, ..LogState::default() };
    let mut keep = 0;
    for batch in record::batches(bytes) {
        let Ok((position, header)) = batch else { break };
        let end = position + header.size();
        if header.base_offset < state.log_end_offset || !record::check_crc(&bytes[position..end]) {
            break;
        }
        state.first_timestamp.get_or_insert(header.max_timestamp);
        state.epochs.on_append(header.partition_leader_epoch, header.base_offset);
        state.producers.on_append(&header, header.max_timestamp);
        state.log_end_offset = header.last_offset() + 1;
        keep = end as u64;
    }
    let end = state.log_end_offset;
    (state, base_offset, keep, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TopicConfig;
    use crate::record::{BatchBuilder, ProduceRules, ProducedBatch};

    fn batch(offset: Offset) -> RecordBatch {
        let mut builder = BatchBuilder::new();
        builder.push(0, None, Some(b"value"));
        let built = builder.build();
        ProducedBatch::check(bytes::BytesMut::from(&built[..]), &ProduceRules::of(&TopicConfig::default(), true), 0)
            .expect("good")
            .stamp(offset, 1)
    }

    fn checkpoint(position: u64, written_offset: Offset, log_end_offset: Offset) -> LogCheckpoint {
        let state = LogState { durable_offset: log_end_offset, log_end_offset, ..LogState::default() }.encode();
        LogCheckpoint { segment: 0, position, written_offset, state }
    }

    fn nothing(_: Offset) -> Bytes {
        panic!("no segment is read when there is a checkpoint")
    }

    #[test]
    fn the_journal_continues_where_the_checkpoint_stands() {
        let size = batch(0).bytes().len() as u64;
        let files = vec![SegmentFile { base_offset: 0, size: 4096 }, SegmentFile { base_offset: 7, size: 4096 }];
        let entries = (0..5).map(batch).collect();
        let found = FoundLog { checkpoint: Some(&checkpoint(2 * size, 2, 3)), files, entries, ..FoundLog::default() };
        let recovered = recover(found, &mut nothing).expect("whole");
        assert_eq!(recovered.append.len(), 3);
        assert_eq!((recovered.keep, recovered.active.size), (2 * size, 5 * size));
        assert_eq!(recovered.delete, vec![7]);
        assert_eq!(recovered.state.log_end_offset, 5);
        assert_eq!(recovered.state.epochs.starts(), &[(1, 3)]);
    }

    #[test]
    fn missing_acknowledged_data_is_never_a_shorter_log() {
        let refused = |checkpoint: LogCheckpoint, files: Vec<SegmentFile>, entries: Vec<RecordBatch>| {
            let found = FoundLog { checkpoint: Some(&checkpoint), files, entries, ..FoundLog::default() };
            recover(found, &mut nothing).expect_err("something is missing")
        };
        let gap = refused(checkpoint(0, 0, 0), vec![], vec![batch(1)]);
        assert_eq!(gap, RecoveryError::JournalGap { expected: 0, found: 1 });
        let short = refused(checkpoint(0, 0, 3), vec![], vec![batch(0)]);
        assert_eq!(short, RecoveryError::JournalShort { durable: 3, found: 1 });
        let cut = refused(checkpoint(100, 2, 2), vec![SegmentFile { base_offset: 0, size: 50 }], vec![]);
        assert_eq!(cut, RecoveryError::SegmentShort { segment: 0, durable: 100, found: 50 });
    }

    #[test]
    fn a_log_without_a_checkpoint_is_read_to_its_last_whole_batch() {
        let mut bytes: Vec<u8> = (10..13).flat_map(|offset| batch(offset).bytes().to_vec()).collect();
        let whole = bytes.len() as u64;
        bytes.extend_from_slice(&batch(13).bytes()[..70]);
        let files = vec![SegmentFile { base_offset: 10, size: bytes.len() as u64 }];
        let bytes = Bytes::from(bytes);
        let found = FoundLog { files, ..FoundLog::default() };
        let recovered = recover(found, &mut |_| bytes.clone()).expect("whole");
        assert_eq!((recovered.keep, recovered.state.log_end_offset, recovered.state.log_start_offset), (whole, 13, 10));
    }

    #[test]
    fn a_start_that_moved_since_the_checkpoint_is_never_taken_back() {
        let files: Vec<_> = [0, 3, 7].map(|base_offset| SegmentFile { base_offset, size: 100 }).into();
        let mut checkpoint = checkpoint(100, 9, 9);
        checkpoint.segment = 7;
        let recovered = |log_start_offset| {
            let cleaning = CleaningPoint { log_start_offset, ..CleaningPoint::default() };
            let found =
                FoundLog { checkpoint: Some(&checkpoint), cleaning, files: files.clone(), ..FoundLog::default() };
            let recovered = recover(found, &mut nothing).expect("whole");
            let sealed: Vec<_> = recovered.sealed.iter().map(|file| file.base_offset).collect();
            (recovered.state.log_start_offset, recovered.state.log_end_offset, sealed, recovered.delete)
        };
        assert_eq!(recovered(0), (0, 9, vec![0, 3], vec![]));
        assert_eq!(recovered(4), (4, 9, vec![3], vec![0]), "a deletion that a crash undid is done again");
        assert_eq!(recovered(9), (9, 9, vec![], vec![0, 3]));
        assert_eq!(recovered(12), (12, 12, vec![], vec![0, 3, 7]), "what lay between was lost from memory");
    }

    #[test]
    fn an_interrupted_replacement_is_finished() {
        let mut checkpoint = checkpoint(100, 9, 9);
        checkpoint.segment = 7;
        let swap = SwapFile { base_offset: 0, end_offset: 5, size: 60 };
        for left in [&[0, 3, 5, 7][..], &[3, 5, 7], &[5, 7]] {
            let files = left.iter().map(|&base_offset| SegmentFile { base_offset, size: 100 }).collect();
            let found = FoundLog { checkpoint: Some(&checkpoint), files, swaps: vec![swap], ..FoundLog::default() };
            let recovered = recover(found, &mut nothing).expect("whole");
            let covers = if left.contains(&3) { vec![0, 3] } else { vec![0] };
            assert_eq!(recovered.swaps, [Swap { base_offset: 0, covers }]);
            let sealed = [SegmentFile { base_offset: 0, size: 60 }, SegmentFile { base_offset: 5, size: 100 }];
            assert_eq!((recovered.sealed, recovered.delete), (sealed.to_vec(), vec![]), "{left:?}");
        }
    }
}
