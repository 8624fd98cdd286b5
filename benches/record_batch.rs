//! What a record batch costs on its way in (checks, CRC, stamp) and when it is looked at again (walk, records).

use std::hint::black_box;
use std::time::Duration;

use bytes::BytesMut;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gannet::record::{BatchBuilder, ProduceRules, ProducedBatch, RecordBatch, batches, records};

const NOW_MS: i64 = 1_700_000_000_000;

/// One batch of about so many bytes, in records of at most 1 KiB.
fn batch(bytes: usize) -> BytesMut {
    let mut builder = BatchBuilder::new();
    let value = vec![b'x'; bytes.min(1024)];
    while builder.is_empty() || builder.size() + value.len() <= bytes {
        builder.push(NOW_MS, None, Some(&value));
    }
    BytesMut::from(builder.build())
}

fn check(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record_batch");
    let rules = ProduceRules::default();
    for bytes in [100, 1024, 65_536, 1 << 20] {
        let template = batch(bytes);
        let rules = ProduceRules { max_message_bytes: 2 << 20, ..rules.clone() };
        group.throughput(Throughput::Bytes(template.len() as u64));
        group.bench_function(BenchmarkId::new("check", bytes), |bencher| {
            let check = |bytes| ProducedBatch::check(bytes, black_box(&rules), NOW_MS).expect("a good batch");
            bencher.iter_batched(|| template.clone(), check, BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("parse", bytes), |bencher| {
            let bytes = template.clone().freeze();
            bencher.iter(|| RecordBatch::parse(black_box(bytes.clone())).expect("a good batch"));
        });
    }
    group.throughput(Throughput::Elements(1));
    let template = batch(1024);
    let checked = || ProducedBatch::check(template.clone(), &rules, NOW_MS).expect("a good batch");
    group.bench_function("stamp", |bencher| {
        bencher.iter_batched(checked, |batch| batch.stamp(42, 7), BatchSize::SmallInput);
    });
}

fn walk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record_batch");
    for bytes in [200, 16_384] {
        let one = batch(bytes);
        let count = (1 << 20) / one.len();
        let segment = one.repeat(count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("walk", format!("1MiB of {bytes}B")), |bencher| {
            bencher.iter(|| batches(black_box(&segment)).filter(|batch| batch.is_ok()).count());
        });
    }
    let many = {
        let mut builder = BatchBuilder::new();
        (0..1000).for_each(|_| builder.push(NOW_MS, Some(b"key"), Some(&[b'x'; 100])));
        builder.build()
    };
    group.throughput(Throughput::Elements(1000));
    group.bench_function("records", |bencher| {
        bencher.iter(|| records(black_box(&many), 1 << 20).expect("readable").filter(Result::is_ok).count());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600)).sample_size(20);
    targets = check, walk
}
criterion_main!(benches);
