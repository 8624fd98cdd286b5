//! The target of record batches. Damage alone would stop at the CRC, so every input is also tried with length and CRC put
//! right: what a client with bad intent sends.

use bytes::{Bytes, BytesMut};
use gannet::record::{
    BatchBuilder, Compression, HEADER_BYTES, LENGTH_PREFIX_BYTES, ProduceRules, ProducedBatch, RecordBatch, StoredAs,
    batches, records,
};

use crate::allocation::peak_bytes_of;
use crate::targets::Seed;

/// What a reader of records allows here; far less than the codecs could make of a few hundred bytes.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// A decoder's own tables and windows: an lz4 frame may ask for a block of 4 MiB, read and written.
const PEAK_BYTES: usize = 12 << 20;
const NOW_MS: i64 = 1_700_000_000_000;

pub fn record_batch(data: &[u8]) -> bool {
    let valid = batch(data);
    if data.len() >= HEADER_BYTES {
        batch(&repaired(data));
    }
    valid
}

fn repaired(data: &[u8]) -> Vec<u8> {
    let mut batch = data.to_vec();
    let length = (batch.len() - LENGTH_PREFIX_BYTES) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn batch(data: &[u8]) -> bool {
    for found in batches(data) {
        let Ok((_, header)) = found else { break };
        let _ = (header.last_offset(), header.next_offset(), header.last_sequence(), header.delete_horizon());
    }
    let (read, peak) = peak_bytes_of(|| {
        let records = records(data, OUTPUT_BYTES_MAX)?;
        assert!(records.body_bytes() <= OUTPUT_BYTES_MAX.max(data.len()));
        records.collect::<Result<Vec<_>, _>>()
    });
    assert!(peak <= PEAK_BYTES, "{peak} bytes held for a batch of {}: {data:02x?}", data.len());
    if let Ok(read) = read
        && !read.is_empty()
    {
        let mut builder = BatchBuilder::new();
        for record in &read {
            let headers: Vec<_> = record.headers.iter().map(|h| (&h.key[..], h.value.as_deref())).collect();
            builder.push_with_headers(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
        }
        let again = RecordBatch::parse(builder.build()).expect("what we build is a batch");
        for (record, written) in again.records(usize::MAX).unwrap().zip(&read) {
            let record = record.expect("what we build can be read");
            assert_eq!((&record.key, &record.value, &record.headers), (&written.key, &written.value, &written.headers));
            assert_eq!(record.timestamp, written.timestamp);
        }
    }
    let mut valid = true;
    for rules in rules() {
        let Ok(produced) = ProducedBatch::check(BytesMut::from(data), &rules, NOW_MS) else {
            valid = false;
            continue;
        };
        let stamped = produced.stamp(41, 7);
        let parsed = RecordBatch::parse(Bytes::copy_from_slice(stamped.bytes())).expect("what was checked is a batch");
        assert_eq!((parsed.header().base_offset, parsed.header().partition_leader_epoch), (41, 7));
    }
    valid
}

fn rules() -> [ProduceRules; 3] {
    let plain = ProduceRules {
        max_message_bytes: 1 << 20,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        log_append_time: false,
        zstd_allowed: true,
        key_required: false,
        stored_as: StoredAs::Produced,
    };
    [
        ProduceRules { log_append_time: true, ..plain.clone() },
        ProduceRules { key_required: true, ..plain.clone() },
        ProduceRules { stored_as: StoredAs::Uncompressed, ..plain },
    ]
}

/// The same records under every codec, and one batch of an idempotent producer.
pub fn record_batch_seeds() -> Vec<Seed> {
    let build = |builder: BatchBuilder| {
        let mut builder = builder;
        builder.push_with_headers(NOW_MS, Some(b"key"), Some(&[b'v'; 60]), &[(b"h", Some(b"1")), (b"h", None)]);
        builder.push(NOW_MS + 5, Some(b""), None);
        builder.build().to_vec()
    };
    let mut seeds = vec![
        Seed { name: "uncompressed".to_string(), input: build(BatchBuilder::new()) },
        Seed { name: "idempotent".to_string(), input: build(BatchBuilder::new().producer(4000, 0, 0)) },
    ];
    for compression in Compression::ALL {
        let input = build(BatchBuilder::new().compression(Some(compression)));
        seeds.push(Seed { name: compression.name().to_string(), input });
    }
    seeds
}
