//! Shards: one core and two of this machine, with the load on the same two; from 4 to 16 more shards than cores, where only
//! what is counted means something.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::broker::Broker;
use crate::curve::{Curve, Panel, count};
use crate::flood::{Flood, Until};
use crate::load::{self, Load};
use crate::report::Reading;
use crate::{Bench, wire};

const SHARDS: [usize; 5] = [1, 2, 4, 8, 16];
const PARTITIONS: i32 = 64;
const CONNECTIONS: i32 = 64;
const MESSAGE_BYTES: usize = 1024;
/// A batch of 20 a millisecond, each to the next partition.
const LOAD: Load = Load {
    messages_per_s: 20_000,
    message_bytes: MESSAGE_BYTES,
    tick: Duration::from_millis(1),
    is_sticky: true,
    lasts: Duration::from_secs(5),
    warm_up: Duration::from_secs(1),
};
/// Small, since there may be many: each is written once before it is used. And none measures how the others write.
const FEW_RESOURCES: [&str; 2] = ["gannet.journal.bytes=67108864", "gannet.commit.method=thread"];

struct Point {
    p50_us: f64,
    p99_us: f64,
    /// Of a message in the open loop, of a request in the closed one.
    message_cpu_us: f64,
    request_cpu_us: f64,
    requests_per_s: f64,
    /// Per request in the closed loop.
    messages: f64,
    doorbells: f64,
    ring_enters: f64,
    sends: f64,
}

pub fn take(bench: &Bench) -> io::Result<Reading> {
    let points = SHARDS.into_iter().map(|shards| point(bench, shards)).collect::<io::Result<Vec<Point>>>()?;
    let panels = vec![
        Panel::of("End to end at 20,000/s", "µs", &points, &[("p50", |at| at.p50_us), ("p99", |at| at.p99_us)]),
        Panel::of(
            "Processor of the broker",
            "µs",
            &points,
            &[("per message at 20,000/s", |at| at.message_cpu_us), ("per request", |at| at.request_cpu_us)],
        ),
        Panel::of("At most, one record each", "per second", &points, &[("requests", |at| at.requests_per_s)]),
        Panel::of(
            "Counted, one partition each",
            "per request",
            &points,
            &[
                ("messages", |at| at.messages),
                ("doorbells", |at| at.doorbells),
                ("ring enters", |at| at.ring_enters),
                ("sends", |at| at.sends),
            ],
        ),
    ];
    let points = SHARDS.map(|shards| shards as f64).to_vec();
    let curve = Curve { along: "shards", text: count, points, panels };
    let question =
        "20,000 durable messages of 1 KiB a second, and 64 connections with a request each, over 64 partitions";
    Ok(Reading { question, rows: Vec::new(), curve: Some(curve) })
}

fn point(bench: &Bench, shards: usize) -> io::Result<Point> {
    let shown = shards <= bench.cores.len();
    let environment = match shown {
        true => Vec::new(),
        false => vec![("LD_PRELOAD".to_owned(), many_cores(bench)?), ("CORES".to_owned(), shards.to_string())],
    };
    let cores = format!("gannet.cores={shards}");
    let overrides = [&cores, FEW_RESOURCES[0], FEW_RESOURCES[1]];
    let start = || Broker::start_in(bench, &overrides, environment.clone());
    let mut broker = start()?;
    let topic = broker.create_topic(PARTITIONS, &[])?;
    let batch = wire::batch(1, MESSAGE_BYTES);
    let frames = (0..CONNECTIONS).map(|index| wire::produce(topic, &[(index % PARTITIONS, &batch)])).collect();
    let until = Until::Passed(Duration::from_secs(4));
    let flood = Flood { port: broker.port, frames, window: 1, until, is_broker: true };
    let flooded = flood.run(bench, || broker.usage().cpu_ns)?;
    let counters = broker.stop()?;
    let counted = |name| counters.get(name) / flooded.requests as f64;
    let mut point = Point {
        p50_us: f64::NAN,
        p99_us: f64::NAN,
        message_cpu_us: f64::NAN,
        request_cpu_us: f64::NAN,
        requests_per_s: f64::NAN,
        messages: counted("messages_sent"),
        doorbells: counted("doorbells"),
        ring_enters: counted("ring_enters"),
        sends: counted("sends"),
    };
    if shown {
        (point.requests_per_s, point.request_cpu_us) = (flooded.requests_per_s, flooded.cpu_us);
        drop(broker);
        let broker = start()?;
        let topic = broker.create_topic(PARTITIONS, &[])?;
        let used = broker.usage();
        let outcome = load::run(bench, &broker, topic, LOAD)?;
        point.message_cpu_us = broker.usage().since(used).cpu_ns as f64 / 1000.0 / outcome.messages as f64;
        (point.p50_us, point.p99_us) = (outcome.end_to_end_us(0.5), outcome.end_to_end_us(0.99));
    }
    Ok(point)
}

/// The library that makes a broker find more cores than there are.
fn many_cores(bench: &Bench) -> io::Result<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/readings/many_cores.c");
    let library = bench.directory.path().join("many_cores.so");
    if !library.exists() {
        let done = Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .output()?;
        if !done.status.success() {
            return Err(io::Error::other(format!("cc: {}", String::from_utf8_lossy(&done.stderr))));
        }
    }
    Ok(library.to_string_lossy().into_owned())
}
