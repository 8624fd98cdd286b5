//! Records of 16 B to 1 MiB: 20,000 a second up to 1 KiB, from there 20 MB a second.

use std::io;
use std::time::Duration;

use crate::broker::Broker;
use crate::curve::{Curve, Found, Panel, Trial};
use crate::flood::{Flood, Until};
use crate::load::Load;
use crate::report::Reading;
use crate::{Bench, wire};

const SIZES: [usize; 6] = [16, 100, 1 << 10, 10 << 10, 100 << 10, 1 << 20];
const RECORDS_PER_S: usize = 20_000;
const BYTES_PER_S: usize = RECORDS_PER_S << 10;
const PARTITIONS: i32 = 16;
/// More than a record of 1 MiB, which Kafka's default refuses by a few bytes.
const LARGE: (&str, &str) = ("max.message.bytes", "2097152");

/// As fast as it goes: batches of this size, or of one record, and so many on their way.
const BATCH_BYTES: usize = 64 << 10;
const CONNECTIONS: i32 = 8;
const WINDOW: usize = 4;
/// What a record takes beside its value, about.
const RECORD_OVERHEAD: usize = 8;

struct Point {
    size: usize,
    found: Found,
    mb_per_s: f64,
}

pub fn take(bench: &Bench) -> io::Result<Reading> {
    let points = SIZES.into_iter().map(|size| point(bench, size)).collect::<io::Result<Vec<Point>>>()?;
    let panels = vec![
        Panel::of("End to end", "µs", &points, &[("p50", |at| at.found.p50_us), ("p99", |at| at.found.p99_us)]).log(),
        Panel::of(
            "Processor of the broker",
            "µs",
            &points,
            &[("per message", |at| at.found.cpu_us), ("per MB", |at| at.found.cpu_us * 1e6 / at.size as f64)],
        )
        .log(),
        Panel::of(
            "Device",
            "of the payload, of 1000 messages",
            &points,
            &[("bytes, ×", |at| at.found.written), ("flushes", |at| at.found.flushes)],
        )
        .log(),
        Panel::of("At most, batches of 64 KiB", "MB/s", &points, &[("acknowledged", |at| at.mb_per_s)]).log(),
    ];
    let text = |size: f64| match size as usize {
        size @ 1_048_576.. => format!("{} MiB", size >> 20),
        size @ 1024.. => format!("{} KiB", size >> 10),
        size => format!("{size} B"),
    };
    let points = SIZES.map(|size| size as f64).to_vec();
    let curve = Curve { along: "size of a record", text, points, panels };
    let question = "durable records of 16 B to 1 MiB: 20,000 a second up to 1 KiB, 20 MB a second from there";
    Ok(Reading { question, rows: Vec::new(), curve: Some(curve) })
}

fn point(bench: &Bench, size: usize) -> io::Result<Point> {
    let load = Load {
        messages_per_s: RECORDS_PER_S.min(BYTES_PER_S / size) as u64,
        message_bytes: size,
        tick: Duration::from_millis(1),
        is_sticky: true,
        lasts: Duration::from_secs(5),
        warm_up: Duration::from_secs(1),
    };
    let trial = Trial { overrides: &[], partitions: PARTITIONS, configs: &[LARGE], loads: &[load], first: None };
    Ok(Point { size, found: trial.run(bench)?[0], mb_per_s: at_most(bench, size)? })
}

fn at_most(bench: &Bench, size: usize) -> io::Result<f64> {
    let broker = Broker::start(bench, &[])?;
    let topic = broker.create_topic(CONNECTIONS, &[LARGE])?;
    let records = (BATCH_BYTES / (size + RECORD_OVERHEAD)).max(1);
    let batch = wire::batch(records, size);
    let frames = (0..CONNECTIONS).map(|index| wire::produce(topic, &[(index, &batch)])).collect();
    let until = Until::Passed(Duration::from_secs(2));
    let flood = Flood { port: broker.port, frames, window: WINDOW, until, is_broker: true };
    let flooded = flood.run(bench, || broker.usage().cpu_ns)?;
    Ok(flooded.requests_per_s * (records * size) as f64 / 1e6)
}
