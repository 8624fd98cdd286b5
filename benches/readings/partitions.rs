//! Partitions, 1 to 10,000, at the same rate in all.

use std::io;
use std::time::Duration;

use crate::Bench;
use crate::curve::{Curve, Found, Panel, Trial, count};
use crate::load::Load;
use crate::report::Reading;

const PARTITIONS: [i32; 5] = [1, 10, 100, 1000, 10_000];
/// Shorter than by default, so that the time that counts holds a whole write-back of every partition.
const WRITE_BACK: Duration = Duration::from_secs(5);
/// From here on it is worth waiting until each partition has got its first segment.
const MANY: i32 = 1000;
/// As a producer without keys sends: a batch of 20 a millisecond, each to the next partition.
const BATCHED: Load = Load {
    messages_per_s: 20_000,
    message_bytes: 100,
    tick: Duration::from_millis(1),
    is_sticky: true,
    lasts: Duration::from_secs(6),
    warm_up: Duration::from_secs(1),
};
/// As keys may force it: each message goes to the next partition, a batch of its own where there are enough.
const SPREAD: Load = Load { is_sticky: false, ..BATCHED };

struct Point {
    batched: Found,
    spread: Found,
}

pub fn take(bench: &Bench) -> io::Result<Reading> {
    let write_back = format!("gannet.writeback.interval.ms={}", WRITE_BACK.as_millis());
    let point = |partitions| {
        let first = (partitions >= MANY).then_some((Duration::from_secs(1), WRITE_BACK));
        // What goes to every partition comes first.
        let loads = &[SPREAD, BATCHED];
        let found = Trial { overrides: &[&write_back], partitions, configs: &[], loads, first }.run(bench)?;
        Ok(Point { spread: found[0], batched: found[1] })
    };
    let points = PARTITIONS.into_iter().map(point).collect::<io::Result<Vec<Point>>>()?;
    let panels = vec![
        Panel::of(
            "End to end",
            "µs",
            &points,
            &[
                ("batches p50", |point| point.batched.p50_us),
                ("batches p99", |point| point.batched.p99_us),
                ("single p50", |point| point.spread.p50_us),
                ("single p99", |point| point.spread.p99_us),
            ],
        )
        .log(),
        Panel::of(
            "Processor of the broker",
            "µs/message",
            &points,
            &[("batches", |point| point.batched.cpu_us), ("single", |point| point.spread.cpu_us)],
        ),
        Panel::of(
            "Device bytes",
            "× payload",
            &points,
            &[("batches", |point| point.batched.written), ("single", |point| point.spread.written)],
        ),
        Panel::of(
            "Device flushes",
            "per 1000 messages",
            &points,
            &[("batches", |point| point.batched.flushes), ("single", |point| point.spread.flushes)],
        ),
    ];
    let points = PARTITIONS.map(f64::from).to_vec();
    let curve = Curve { along: "partitions", text: count, points, panels };
    let question =
        "20,000 durable messages of 100 B a second: batches of 20, and single ones spread over all partitions";
    Ok(Reading { question, rows: Vec::new(), curve: Some(curve) })
}
