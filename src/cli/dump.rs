//! `gannet log dump`: what stands in the files of a log directory, and whether it may be trusted. Segments and indexes print
//! as in Kafka's own dump tool; trouble goes to standard error with file and position.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};

use super::failure::Failure;
use crate::journal::{JournalFileName, decode_tables, recover};
use crate::record::{BatchHeader, HEADER_BYTES, Record, RecordBatch, TimestampType, check_crc, records};
use crate::types::Offset;

/// What the records of one batch may be, decompressed.
const DECOMPRESSED_BYTES_MAX: usize = 1 << 30;

#[derive(Args, Debug)]
pub struct LogArguments {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Subcommand, Debug)]
enum LogCommand {
    /// Print and check files of a log directory: .log, .index, .timeindex, journal-*, checkpoint-*
    Dump(DumpArguments),
}

#[derive(Args, Debug)]
struct DumpArguments {
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print the records inside the batches too, and check each
    #[arg(long)]
    records: bool,
}

pub fn run(LogArguments { command: LogCommand::Dump(arguments) }: LogArguments) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut troubles = 0;
    let mut journal = Vec::new();
    for path in &arguments.files {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(name) = JournalFileName::parse(name) {
            journal.push((name, path.as_path()));
            continue;
        }
        out.write_all(format!("Dumping {}\n", path.display()).as_bytes()).map_err(Failure::of_output)?;
        let mut dump = Dump { out: &mut out, path, troubles: 0 };
        let dumped = match path.extension().and_then(|extension| extension.to_str()) {
            Some("log") => dump.segment(arguments.records),
            Some("index") => dump.offset_index(),
            Some("timeindex") => dump.time_index(),
            _ if name.starts_with("checkpoint-") => dump.checkpoint(),
            _ => Err(Failure::new(format_args!(
                "{} is of no kind known here: .log, .index, .timeindex, journal-<shard>-<n> or checkpoint-<shard>",
                path.display()
            ))),
        };
        troubles += dump.troubles;
        // What was found comes out before what is wrong.
        let flushed = out.flush().map_err(Failure::of_output);
        dumped.and(flushed)?;
    }
    if !journal.is_empty() {
        dump_journal(&mut out, &journal, &arguments.files)?;
    }
    out.flush().map_err(Failure::of_output)?;
    match troubles {
        0 => Ok(()),
        1 => Err(Failure::new("1 trouble found, see above")),
        _ => Err(Failure::new(format_args!("{troubles} troubles found, see above"))),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format_args!("cannot read {}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| unreadable(path, &error))
}

/// Base offset of a segment or index, from its name.
fn base_offset_of(path: &Path) -> Option<Offset> {
    let stem = path.file_stem()?.to_str()?;
    (stem.len() == 20).then(|| stem.parse().ok())?
}

struct Dump<'a, W> {
    out: &'a mut W,
    path: &'a Path,
    troubles: u32,
}

impl<W: Write> Dump<'_, W> {
    fn line(&mut self, line: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.out, "{line}").map_err(Failure::of_output)
    }

    fn trouble(&mut self, position: u64, what: impl fmt::Display) -> Result<(), Failure> {
        self.troubles += 1;
        self.out.flush().map_err(Failure::of_output)?;
        eprintln!("{}: at position {position}: {what}", self.path.display());
        Ok(())
    }

    fn segment(&mut self, with_records: bool) -> Result<(), Failure> {
        let base_offset = base_offset_of(self.path);
        if let Some(base_offset) = base_offset {
            self.line(format_args!("Log starting offset: {base_offset}"))?;
        }
        let mut segment = Segment::open(self.path)?;
        let mut next_offset = base_offset.unwrap_or(0);
        loop {
            let position = segment.position;
            match segment.next()? {
                Found::End => return Ok(()),
                Found::Zeros { bytes } => {
                    return self.line(format_args!("{bytes} bytes of zeros from position {position} to the end"));
                }
                Found::Bad(what) => {
                    return self.trouble(position, format_args!("{what}; nothing behind it can be read"));
                }
                Found::Batch(header, bytes) => {
                    let is_valid = check_crc(&bytes);
                    self.line(BatchLine { header: &header, position, is_valid })?;
                    if let Some(what) = wrong_with(&bytes) {
                        self.trouble(position, what)?;
                    }
                    if header.base_offset < next_offset {
                        let what = format_args!("offset {} follows {}", header.base_offset, next_offset - 1);
                        self.trouble(position, what)?;
                    }
                    next_offset = header.next_offset();
                    if with_records {
                        self.records(position, &header, &bytes)?;
                    }
                }
            }
        }
    }

    fn records(&mut self, position: u64, header: &BatchHeader, batch: &[u8]) -> Result<(), Failure> {
        let opened = match records(batch, DECOMPRESSED_BYTES_MAX) {
            Ok(records) => records,
            Err(error) => return self.trouble(position, error),
        };
        for (index, record) in opened.enumerate() {
            match record {
                Ok(record) => {
                    self.out.write_all(&record_line(header, index as i64, &record)).map_err(Failure::of_output)?
                }
                Err(error) => return self.trouble(position, error),
            }
        }
        Ok(())
    }

    /// Entries of 8 bytes: offset above the base, and the position of the batch that holds it. Preallocated room behind the
    /// last entry is zeros.
    fn offset_index(&mut self) -> Result<(), Failure> {
        let bytes = read(self.path)?;
        let mut places = Places::beside(self.path)?;
        let mut last: Option<(Offset, u32)> = None;
        let base_offset = base_offset_of(self.path).unwrap_or(0);
        for (index, entry) in bytes.chunks(8).enumerate() {
            let at = index as u64 * 8;
            let Some((relative, position)) = pair(entry) else {
                return self.trouble(at, "the last entry is cut short");
            };
            if bytes[index * 8..].iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            let offset = base_offset + Offset::from(relative);
            self.line(format_args!("offset: {offset} position: {position}"))?;
            if last.is_some_and(|(last_offset, last_position)| offset <= last_offset || position <= last_position) {
                self.trouble(at, format_args!("offset {offset} at {position} does not lie behind the entry before"))?;
            }
            last = Some((offset, position));
            if let Some(what) = places.as_mut().and_then(|places| places.wrong_with(u64::from(position), offset)) {
                self.trouble(at, what)?;
            }
        }
        Ok(())
    }

    /// Entries of 12 bytes: the largest timestamp so far, and its offset above the base.
    fn time_index(&mut self) -> Result<(), Failure> {
        let bytes = read(self.path)?;
        let mut last: Option<(i64, Offset)> = None;
        let base_offset = base_offset_of(self.path).unwrap_or(0);
        for (index, entry) in bytes.chunks(12).enumerate() {
            let at = index as u64 * 12;
            let Some((timestamp, relative)) = entry.split_first_chunk().and_then(|(timestamp, rest)| {
                Some((i64::from_be_bytes(*timestamp), u32::from_be_bytes(*rest.first_chunk()?)))
            }) else {
                return self.trouble(at, "the last entry is cut short");
            };
            if bytes[index * 12..].iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            let offset = base_offset + Offset::from(relative);
            self.line(format_args!("timestamp: {timestamp} offset: {offset}"))?;
            if last.is_some_and(|(last_timestamp, last_offset)| timestamp < last_timestamp || offset < last_offset) {
                self.trouble(at, format_args!("timestamp {timestamp} does not lie behind the entry before"))?;
            }
            last = Some((timestamp, offset));
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), Failure> {
        let bytes = read(self.path)?;
        let tables = match decode_tables(&bytes) {
            Ok(tables) => tables,
            Err(error) => return self.trouble(0, error),
        };
        for table in tables {
            self.line(format_args!(
                "shard: {} of {} run: {} generation: {} commits below {} are in the segments",
                table.shard.0, table.shards, table.run.first_generation, table.generation, table.next_commit.0
            ))?;
            for entry in &table.partitions {
                self.line(format_args!(
                    "topicId: {} partition: {} segment: {} position: {} writtenOffset: {} stateBytes: {}",
                    entry.partition.topic,
                    entry.partition.index,
                    entry.segment_base_offset,
                    entry.segment_position,
                    entry.written_offset,
                    entry.state.len()
                ))?;
            }
        }
        Ok(())
    }
}

fn pair(entry: &[u8]) -> Option<(u32, u32)> {
    let (first, rest) = entry.split_first_chunk()?;
    Some((u32::from_be_bytes(*first), u32::from_be_bytes(*rest.first_chunk()?)))
}

/// What a checked reader says of this whole batch, beyond its header.
fn wrong_with(batch: &[u8]) -> Option<String> {
    RecordBatch::parse(Bytes::copy_from_slice(batch)).err().map(|error| error.to_string())
}

/// A segment read batch by batch; one batch is in memory at a time.
struct Segment {
    path: PathBuf,
    source: BufReader<File>,
    position: u64,
    length: u64,
}

enum Found {
    Batch(BatchHeader, Vec<u8>),
    End,
    /// Preallocated room that no batch has been written to.
    Zeros {
        bytes: u64,
    },
    Bad(String),
}

impl Segment {
    fn open(path: &Path) -> Result<Segment, Failure> {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let length = file.metadata().map_err(|error| unreadable(path, &error))?.len();
        let source = BufReader::with_capacity(1 << 18, file);
        Ok(Segment { path: path.to_owned(), source, position: 0, length })
    }

    fn next(&mut self) -> Result<Found, Failure> {
        let left = self.length - self.position;
        if left == 0 {
            return Ok(Found::End);
        }
        let head = self.take(left.min(HEADER_BYTES as u64))?;
        if head.iter().all(|byte| *byte == 0) && self.is_zero(left - head.len() as u64)? {
            return Ok(Found::Zeros { bytes: left });
        }
        let Some(header) = BatchHeader::parse(&head) else {
            return Ok(Found::Bad(format!("{left} bytes are left, less than the header of a batch")));
        };
        if header.magic != 2 {
            return Ok(Found::Bad(format!("magic {}, only message format 2 is known", header.magic)));
        }
        let size = header.size() as u64;
        if size < HEADER_BYTES as u64 || size > left {
            return Ok(Found::Bad(format!("a batch of {size} bytes cannot stand in the {left} bytes that are left")));
        }
        let rest = self.take(size - HEADER_BYTES as u64)?;
        self.position += size;
        Ok(Found::Batch(header, [head, rest].concat()))
    }

    fn take(&mut self, bytes: u64) -> Result<Vec<u8>, Failure> {
        let mut taken = Vec::new();
        let read = self.source.by_ref().take(bytes).read_to_end(&mut taken);
        read.map_err(|error| unreadable(&self.path, &error))?;
        match taken.len() as u64 == bytes {
            true => Ok(taken),
            false => Err(Failure::new(format_args!("{} became shorter while it was read", self.path.display()))),
        }
    }

    fn is_zero(&mut self, mut bytes: u64) -> Result<bool, Failure> {
        while bytes > 0 {
            let piece = self.take(bytes.min(1 << 16))?;
            if piece.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            bytes -= piece.len() as u64;
        }
        Ok(true)
    }
}

/// Where the batches of a segment stand, to hold its index against.
struct Places(Vec<(u64, BatchHeader)>);

impl Places {
    /// Of the segment beside this index, if it is there.
    fn beside(index: &Path) -> Result<Option<Places>, Failure> {
        let path = index.with_extension("log");
        if !path.exists() {
            return Ok(None);
        }
        let mut segment = Segment::open(&path)?;
        let mut places = Vec::new();
        loop {
            let position = segment.position;
            match segment.next()? {
                Found::Batch(header, _) => places.push((position, header)),
                _ => return Ok(Some(Places(places))),
            }
        }
    }

    fn wrong_with(&self, position: u64, offset: Offset) -> Option<String> {
        match self.0.binary_search_by_key(&position, |(position, _)| *position) {
            Err(_) => Some(format!("no batch starts at position {position} of the segment")),
            Ok(at) => {
                let (_, header) = &self.0[at];
                let (first, last) = (header.base_offset, header.last_offset());
                (!(first..=last).contains(&offset)).then(|| {
                    format!("the batch at position {position} of the segment holds {first} to {last}, not {offset}")
                })
            }
        }
    }
}

/// One batch, in the words of Kafka's own dump tool.
struct BatchLine<'a> {
    header: &'a BatchHeader,
    position: u64,
    is_valid: bool,
}

impl fmt::Display for BatchLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BatchLine { header, position, is_valid } = self;
        let (base_offset, last_offset) = (header.base_offset, header.last_offset());
        write!(f, "baseOffset: {base_offset} lastOffset: {last_offset} count: {}", header.record_count)?;
        write!(f, " baseSequence: {} lastSequence: {}", header.base_sequence, header.last_sequence())?;
        write!(f, " producerId: {} producerEpoch: {}", header.producer_id, header.producer_epoch)?;
        write!(f, " partitionLeaderEpoch: {}", header.partition_leader_epoch)?;
        write!(f, " isTransactional: {} isControl: {}", header.is_transactional(), header.is_control())?;
        match header.delete_horizon() {
            None => write!(f, " deleteHorizonMs: OptionalLong.empty")?,
            Some(horizon) => write!(f, " deleteHorizonMs: OptionalLong[{horizon}]")?,
        }
        write!(f, " position: {position} {:?}: {}", header.timestamp_type(), header.max_timestamp)?;
        let codec = match (header.compression(), header.codec()) {
            (Some(compression), _) => compression.name().to_owned(),
            (None, 0) => "none".to_owned(),
            (None, codec) => format!("unknown({codec})"),
        };
        write!(f, " size: {} magic: {} compresscodec: {codec}", header.size(), header.magic)?;
        write!(f, " crc: {} isvalid: {is_valid}", header.crc)
    }
}

/// One record, in the words of Kafka's own dump tool; key and value as the bytes they are.
fn record_line(header: &BatchHeader, index: i64, record: &Record) -> Vec<u8> {
    let time = match header.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    };
    let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or(-1, |bytes| bytes.len() as i64);
    let mut line = format!(
        "| offset: {} {time}: {} keySize: {} valueSize: {}",
        record.offset,
        record.timestamp,
        size(&record.key),
        size(&record.value)
    )
    .into_bytes();
    let sequence = if header.base_sequence < 0 { -1 } else { (i64::from(header.base_sequence) + index) & 0x7fff_ffff };
    line.extend(format!(" sequence: {sequence} headerKeys: [").into_bytes());
    for (i, header) in record.headers.iter().enumerate() {
        line.extend_from_slice(if i > 0 { b"," } else { b"" });
        line.extend_from_slice(&header.key);
    }
    line.push(b']');
    for (name, bytes) in [(" key: ", &record.key), (" payload: ", &record.value)] {
        if let Some(bytes) = bytes {
            line.extend_from_slice(name.as_bytes());
            line.extend_from_slice(bytes);
        }
    }
    line.push(b'\n');
    line
}

/// What recovery would replay out of these journal files, together with the checkpoint tables given beside them.
fn dump_journal(out: &mut impl Write, files: &[(JournalFileName, &Path)], all: &[PathBuf]) -> Result<(), Failure> {
    let mut contents = Vec::new();
    for (name, path) in files {
        contents.push((*name, Bytes::from(read(path)?)));
    }
    let is_table = |path: &&PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("checkpoint-"))
    };
    let mut tables = Vec::new();
    for path in all.iter().filter(is_table) {
        // A damaged table was told of already.
        tables.extend(decode_tables(&read(path)?).unwrap_or_default());
    }
    let recovered = recover(&contents, &tables).map_err(Failure::new)?;
    let mut line = |line: &dyn fmt::Display| writeln!(out, "{line}").map_err(Failure::of_output);
    line(&format_args!(
        "Replayed from {} journal files and {} checkpoint tables: {} batches",
        files.len(),
        tables.len(),
        recovered.entries.len()
    ))?;
    for entry in &recovered.entries {
        let header = entry.batch.header();
        let batch = BatchLine { header: &header, position: 0, is_valid: true }.to_string();
        let batch = batch.replace(" position: 0", "");
        line(&format_args!("topicId: {} partition: {} {batch}", entry.partition.topic, entry.partition.index))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::BatchBuilder;

    const LOG: &str = "00000000000000000005.log";

    fn batch(base_offset: Offset) -> Vec<u8> {
        let mut builder = BatchBuilder::new().base_offset(base_offset).leader_epoch(2).producer(9, 1, 30);
        builder.push_with_headers(1000, Some(b"k"), Some(b"v"), &[(b"a", None), (b"b", Some(b"1"))]);
        builder.push(1001, None, None);
        builder.build().to_vec()
    }

    /// What is printed of a file of this name and content, and how many troubles are found.
    fn dumped(files: &[(&str, &[u8])], with_records: bool) -> (String, u32) {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        }
        let path = directory.path().join(files[0].0);
        let mut out = Vec::new();
        let mut dump = Dump { out: &mut out, path: &path, troubles: 0 };
        match path.extension().unwrap().to_str().unwrap() {
            "log" => dump.segment(with_records).unwrap(),
            "index" => dump.offset_index().unwrap(),
            _ => dump.time_index().unwrap(),
        }
        let troubles = dump.troubles;
        (String::from_utf8(out).unwrap(), troubles)
    }

    #[test]
    fn a_segment_prints_as_in_kafka_s_own_dump_tool() {
        let bytes = [batch(5), batch(7)].concat();
        let crc = BatchHeader::parse(&bytes).unwrap().crc;
        let (text, troubles) = dumped(&[(LOG, &bytes)], true);
        let expected = format!(
            "Log starting offset: 5\n\
             baseOffset: 5 lastOffset: 6 count: 2 baseSequence: 30 lastSequence: 31 producerId: 9 producerEpoch: 1 \
             partitionLeaderEpoch: 2 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty \
             position: 0 CreateTime: 1001 size: 84 magic: 2 compresscodec: none crc: {crc} isvalid: true\n\
             | offset: 5 CreateTime: 1000 keySize: 1 valueSize: 1 sequence: 30 headerKeys: [a,b] key: k payload: v\n\
             | offset: 6 CreateTime: 1001 keySize: -1 valueSize: -1 sequence: 31 headerKeys: []\n"
        );
        assert_eq!(&text[..expected.len()], expected);
        assert!(text[expected.len()..].starts_with("baseOffset: 7 "));
        assert_eq!(troubles, 0);
    }

    #[test]
    fn a_flipped_bit_is_trouble_and_the_walk_goes_on() {
        let mut bytes = [batch(5), batch(7)].concat();
        bytes[70] ^= 1;
        let (text, troubles) = dumped(&[(LOG, &bytes)], false);
        assert!(text.contains("isvalid: false") && text.contains("baseOffset: 7 ") && text.contains("isvalid: true"));
        assert_eq!(troubles, 1);
    }

    #[test]
    fn a_length_that_cannot_be_is_trouble_and_ends_the_walk() {
        for (at, value) in [(8, 0x7f), (8, 0xff), (16, 1)] {
            let mut bytes = [batch(5), batch(7), batch(9)].concat();
            bytes[84 + at] = value;
            let (text, troubles) = dumped(&[(LOG, &bytes)], true);
            assert!(text.contains("baseOffset: 5 ") && !text.contains("baseOffset: 9 "));
            assert_eq!(troubles, 1);
        }
        assert_eq!(dumped(&[(LOG, &batch(5)[..40])], false).1, 1);
    }

    #[test]
    fn offsets_that_go_back_are_trouble() {
        assert_eq!(dumped(&[(LOG, &[batch(7), batch(5)].concat())], false).1, 1);
        assert_eq!(dumped(&[(LOG, &batch(4))], false).1, 1);
    }

    #[test]
    fn preallocated_room_behind_the_last_batch_is_no_trouble() {
        let (text, troubles) = dumped(&[(LOG, &[batch(5), vec![0; 5000]].concat())], false);
        assert!(text.ends_with("5000 bytes of zeros from position 84 to the end\n"));
        assert_eq!(troubles, 0);
        assert_eq!(dumped(&[(LOG, &[batch(5), vec![0; 5000], vec![1]].concat())], false).1, 1);
    }

    #[test]
    fn an_index_is_held_against_its_segment() {
        let log: (&str, &[u8]) = (LOG, &[batch(5), batch(7)].concat());
        let index = |relative: u32, position: u32| [relative.to_be_bytes(), position.to_be_bytes()].concat();
        let index_name = "00000000000000000005.index";
        let good = [index(3, 84), vec![0; 80]].concat();
        assert_eq!(dumped(&[(index_name, &good), log], false), ("offset: 8 position: 84\n".to_owned(), 0));
        for bad in [index(3, 83), index(4, 84), [index(3, 84), index(2, 0)].concat(), vec![0, 0, 0, 3, 0]] {
            assert_ne!(dumped(&[(index_name, &bad), log], false).1, 0, "{bad:?}");
        }
    }

    #[test]
    fn a_time_index_only_rises() {
        let entry = |timestamp: i64, relative: u32| [&timestamp.to_be_bytes()[..], &relative.to_be_bytes()].concat();
        let name = "00000000000000000005.timeindex";
        let good = [entry(1000, 1), entry(2000, 4), vec![0; 24]].concat();
        let text = "timestamp: 1000 offset: 6\ntimestamp: 2000 offset: 9\n".to_owned();
        assert_eq!(dumped(&[(name, &good)], false), (text, 0));
        assert_eq!(dumped(&[(name, &[entry(2000, 4), entry(1000, 5)].concat())], false).1, 1);
        assert_eq!(dumped(&[(name, &good[..20])], false).1, 1);
    }
}
