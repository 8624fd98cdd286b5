//! What the journal adds to a commit before the device sees it: gathering, table, checksum and the one copy.

use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gannet::journal::{Journal, JournalEntry, JournalLayout, Run};
use gannet::record::{BatchBuilder, RecordBatch};
use gannet::types::{PartitionId, ShardId, Uuid};

fn journal() -> Journal {
    let layout = JournalLayout {
        shard: ShardId(0),
        files: 4,
        file_bytes: 64 << 20,
        block_bytes_max: 8 << 20,
        commits_in_flight_max: 2,
    };
    Journal::new(layout, Run { first_generation: 1, salt: 0x5a17 })
}

fn entries(count: usize, batch_bytes: usize) -> Vec<JournalEntry> {
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(&vec![b'x'; batch_bytes]));
    let bytes: Bytes = builder.build();
    let topic = Uuid::from_random(0x6f72_6465_7273);
    let entry = |index: usize| JournalEntry {
        partition: PartitionId { topic, index: index as i32 },
        batch: RecordBatch::parse(bytes.clone()).expect("built here"),
    };
    (0..count).map(entry).collect()
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal/commit");
    for (name, count, batch_bytes) in [
        ("1x100B", 1, 100),
        ("1x1KiB", 1, 1024),
        ("100x100B", 100, 100),
        ("1024x1KiB", 1024, 1024),
        ("16x64KiB", 16, 65_536),
    ] {
        let (mut journal, entries) = (journal(), entries(count, batch_bytes));
        let mut buffer = vec![0; 8 << 20];
        group.throughput(Throughput::Bytes(entries.iter().map(|entry| entry.batch.size() as u64).sum()));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                entries.iter().for_each(|entry| journal.append(entry.clone()));
                let (commit, block) = journal.take_commit().expect("there is room");
                block.encode_into(&mut buffer[..block.length()]);
                journal.on_committed(commit);
                if let Some(upto) = journal.take_checkpoint() {
                    journal.on_checkpoint(upto);
                }
                block.length()
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600)).sample_size(20);
    targets = commit
}
criterion_main!(benches);
