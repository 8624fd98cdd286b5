//! Connections, 1 to 10,000, each of which produces in turn, at the same rate in all.

use std::io;
use std::time::Duration;

use gannet::reactor::pin_to;

use crate::broker::Broker;
use crate::crowd::{Crowd, Member, allow_connections, connect};
use crate::curve::{Curve, Panel, count};
use crate::flood::{Flood, Until};
use crate::report::Reading;
use crate::{Bench, wire};

const CONNECTIONS: [usize; 5] = [1, 10, 100, 1000, 10_000];
const PARTITIONS: i32 = 16;
const MESSAGE_BYTES: usize = 1024;
/// 5,000 a second.
const TICK: Duration = Duration::from_micros(200);
const WARM_UP_TICKS: u64 = 5000;
const TICKS: u64 = 30_000;

struct Point {
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
    resident_mb: f64,
    flushes: f64,
    /// Where each connection sends the next request when it has its answer.
    requests_per_s: f64,
}

pub fn take(bench: &Bench) -> io::Result<Reading> {
    allow_connections(*CONNECTIONS.last().expect("a list") as u64)?;
    let points = CONNECTIONS.into_iter().map(|count| point(bench, count)).collect::<io::Result<Vec<Point>>>()?;
    let panels = vec![
        Panel::of("Acknowledged", "µs", &points, &[("p50", |at| at.p50_us), ("p99", |at| at.p99_us)]).log(),
        Panel::of(
            "Processor, flushes",
            "of a message",
            &points,
            &[("processor of the broker, µs", |at| at.cpu_us), ("flushes, per 100", |at| at.flushes * 100.0)],
        ),
        Panel::of("Resident memory of the broker", "MB", &points, &[("after it all", |at| at.resident_mb)]),
        Panel::of(
            "At most, one request each on its way",
            "per second",
            &points,
            &[("requests", |at| at.requests_per_s)],
        )
        .log(),
    ];
    let points = CONNECTIONS.map(|count| count as f64).to_vec();
    let curve = Curve { along: "connections", text: count, points, panels };
    let question = "5,000 durable messages of 1 KiB a second, each from the next connection; and as many as they can";
    Ok(Reading { question, rows: Vec::new(), curve: Some(curve) })
}

fn point(bench: &Bench, count: usize) -> io::Result<Point> {
    let mut broker = Broker::start(bench, &[])?;
    let topic = broker.create_topic(PARTITIONS, &[])?;
    pin_to(Some(bench.client_core));
    let batch = wire::batch(1, MESSAGE_BYTES);
    let frame = |index: usize| wire::produce(topic, &[(index as i32 % PARTITIONS, &batch)]);
    let mut connections = connect(&broker, count)?;
    let member = |(index, connection)| Member::new(connection, frame(index));
    let members = connections.iter_mut().enumerate().map(member).collect::<io::Result<Vec<Member>>>()?;
    let mut crowd = Crowd { members, tick: TICK, ticks: TICKS, warm_up_ticks: WARM_UP_TICKS };
    let used = broker.usage();
    let latency = crowd.run()?;
    let used = broker.usage().since(used);
    let resident_mb = broker.resident_bytes() as f64 / 1e6;
    let flushes = broker.stop()?.get("flushes") / TICKS as f64;
    drop(connections);
    Ok(Point {
        p50_us: latency.value_at_quantile(0.5) as f64 / 1000.0,
        p99_us: latency.value_at_quantile(0.99) as f64 / 1000.0,
        cpu_us: used.cpu_ns as f64 / 1000.0 / TICKS as f64,
        resident_mb,
        flushes,
        requests_per_s: at_most(bench, count)?,
    })
}

fn at_most(bench: &Bench, count: usize) -> io::Result<f64> {
    let broker = Broker::start(bench, &[])?;
    let topic = broker.create_topic(PARTITIONS, &[])?;
    let batch = wire::batch(1, MESSAGE_BYTES);
    let frames = (0..count).map(|index| wire::produce(topic, &[(index as i32 % PARTITIONS, &batch)])).collect();
    let until = Until::Passed(Duration::from_secs(3));
    let flood = Flood { port: broker.port, frames, window: 1, until, is_broker: true };
    Ok(flood.run(bench, || broker.usage().cpu_ns)?.requests_per_s)
}
