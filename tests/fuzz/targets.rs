//! The targets. Each takes any bytes and holds a decoder to three rules: it does not panic, what it holds in memory is
//! bounded by the bytes it was given, and what it accepts survives our own encoding. A decoder of another room joins by a
//! row in `TARGETS` and its files in `corpus/<name>/`.

use gannet::protocol::{MetadataRecord, api, decode_header};

use crate::allocation::peak_bytes_of;
use crate::declared::{Declared, Kind, all};
use crate::generate::{Random, body};
use crate::group_record::{group_record, group_record_seeds};
use crate::record_batch::{record_batch, record_batch_seeds};
use crate::tables;

pub struct Target {
    pub name: &'static str,
    /// Says whether the input was taken for valid.
    pub run: fn(&[u8]) -> bool,
    /// What its corpus holds at least.
    pub seeds: fn() -> Vec<Seed>,
}

pub struct Seed {
    pub name: String,
    pub input: Vec<u8>,
}

pub const TARGETS: &[Target] = &[
    Target { name: "request", run: request, seeds: request_seeds },
    Target { name: "response", run: response, seeds: response_seeds },
    Target { name: "metadata_record", run: metadata_record, seeds: metadata_record_seeds },
    Target { name: "record_batch", run: record_batch, seeds: record_batch_seeds },
    Target { name: "group_record", run: group_record, seeds: group_record_seeds },
    Target { name: "checkpoint_table", run: tables::checkpoint_table, seeds: tables::checkpoint_table_seeds },
    Target { name: "cleaning_table", run: tables::cleaning_table, seeds: tables::cleaning_table_seeds },
    Target { name: "log_state", run: tables::log_state, seeds: tables::log_state_seeds },
    Target { name: "segment_index", run: tables::segment_index, seeds: tables::segment_index_seeds },
];

/// The smallest elements take about 3 bytes on the wire and 56 in memory; a growing vector holds three times its length.
const PEAK_PER_INPUT_BYTE: usize = 64;
const PEAK_BYTES: usize = 1024;

#[track_caller]
fn assert_bounded<T>(input: &[u8], decode: impl FnOnce() -> T) -> T {
    let (result, peak) = peak_bytes_of(decode);
    let limit = PEAK_PER_INPUT_BYTE * input.len() + PEAK_BYTES;
    assert!(peak <= limit, "{peak} bytes held for an input of {}: {input:02x?}", input.len());
    result
}

/// A request frame without its length prefix.
fn request(data: &[u8]) -> bool {
    let Ok((header, body)) = assert_bounded(data, || decode_header(data)) else { return false };
    run_body(Kind::Request, header.api_key, header.api_version, body.remaining())
}

/// API key and version as two bytes, then the body of a response.
fn response(data: &[u8]) -> bool {
    let [key, version, body @ ..] = data else { return false };
    run_body(Kind::Response, i16::from(*key), i16::from(*version), body)
}

/// The value of one record of the metadata log.
fn metadata_record(data: &[u8]) -> bool {
    if let Ok(record) = assert_bounded(data, || MetadataRecord::decode(data)) {
        let written = record.encode();
        // We may write another version than we read, with fewer fields; a second round changes nothing any more.
        let again = MetadataRecord::decode(&written).expect("what we write can be read");
        assert_eq!(again.encode(), written);
    }
    let [1, key, version, body @ ..] = data else { return false };
    run_body(Kind::Record, i16::from(*key), i16::from(*version), body)
}

fn run_body(kind: Kind, key: i16, version: i16, body: &[u8]) -> bool {
    let Some(declared) = message(kind, key) else { return false };
    let valid = assert_bounded(body, || (declared.decode)(body, version)).is_ok();
    if valid {
        (declared.recode)(body, version).expect("it was read a moment ago");
    }
    valid
}

fn message(kind: Kind, key: i16) -> Option<Declared> {
    thread_local! { static ALL: Vec<Declared> = all(); }
    ALL.with(|all| all.iter().find(|declared| declared.kind == kind && declared.key == key).cloned())
}

/// One frame of the oldest, of the first flexible and of the newest version.
fn seeds(kind: Kind, frame: impl Fn(&Declared, i16) -> Vec<u8>) -> Vec<Seed> {
    let mut seeds = Vec::new();
    for declared in all().iter().filter(|declared| declared.kind == kind) {
        let (oldest, newest) = (*declared.versions.start(), *declared.versions.end());
        let mut versions = vec![oldest, declared.first_flexible.clamp(oldest, newest), newest];
        versions.dedup();
        for version in versions {
            // The largest of a few, for the first ones tend to be empty, but none that makes the replay slow.
            let inputs = (0..20)
                .map(|seed| body(declared.fields, version, version >= declared.first_flexible, &mut Random(seed)));
            let body = inputs.filter(|input| input.len() < 250).max_by_key(Vec::len).unwrap_or_default();
            let input = [frame(declared, version), body].concat();
            seeds.push(Seed { name: format!("{}_{version}", declared.name), input });
        }
    }
    seeds
}

/// Of the APIs on offer: of others even the header is not read to its end.
fn request_seeds() -> Vec<Seed> {
    let all = seeds(Kind::Request, |declared, version| {
        let mut header = [declared.key.to_be_bytes(), version.to_be_bytes()].concat();
        header.extend([0, 0, 0, 7, 0, 3]);
        header.extend(b"app");
        header.extend((version >= declared.first_flexible).then_some(0));
        header
    });
    all.into_iter().filter(|seed| api(i16::from_be_bytes([seed.input[0], seed.input[1]])).is_some()).collect()
}

fn response_seeds() -> Vec<Seed> {
    seeds(Kind::Response, |declared, version| vec![declared.key as u8, version as u8])
}

fn metadata_record_seeds() -> Vec<Seed> {
    seeds(Kind::Record, |declared, version| vec![1, declared.key as u8, version as u8])
}

#[test]
fn a_large_hostile_request_is_bounded_by_the_element_budget() {
    // Topics of Produce version 9 with an empty name and no partitions: 3 bytes each, as many as 16 MiB hold.
    let mut frame = vec![0, 0, 0, 9, 0, 0, 0, 7, 0xff, 0xff, 0];
    frame.extend([0, 0, 1, 0, 0, 0, 0]);
    crate::generate::put_uvarint(&mut frame, 5_000_001);
    frame.extend([1, 1, 0].repeat(5_000_000));
    let (result, peak) = peak_bytes_of(|| {
        let (header, mut body) = decode_header(&frame).unwrap();
        gannet::protocol::ProduceRequest::decode(&mut body, header.api_version).map(drop)
    });
    let limit = gannet::protocol::REQUEST_ELEMENTS_MAX;
    assert_eq!(result, Err(gannet::protocol::DecodeError::TooManyElements { limit }));
    assert!(peak < 1024, "{peak} bytes held for a count that could be refused at once");

    // The same with a count inside the budget is the most that a frame of any size can take.
    let mut frame = frame[..18].to_vec();
    crate::generate::put_uvarint(&mut frame, limit as u32 + 1);
    frame.extend([1, 1, 0].repeat(limit));
    frame.extend([0]);
    let (result, peak) = peak_bytes_of(|| {
        let (header, mut body) = decode_header(&frame).unwrap();
        gannet::protocol::ProduceRequest::decode(&mut body, header.api_version).map(drop)
    });
    assert_eq!(result, Ok(()));
    assert!(peak < 48 << 20, "{peak} bytes held");
}
