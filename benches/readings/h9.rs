//! H9: does a message cost more when its topic has ten thousand partitions?

use std::io;
use std::time::Duration;

use crate::Bench;
use crate::broker::Broker;
use crate::load::{self, Load};
use crate::machine::Mount;
use crate::report::{Reading, Row, Target};

const MANY: i32 = 10_000;
/// Shorter than by default, so that the time that counts holds a whole write-back of every partition.
const WRITE_BACK_MS: u64 = 6000;
const LOAD: Load = Load {
    messages_per_s: 20_000,
    message_bytes: 100,
    tick: Duration::from_millis(1),
    is_sticky: false,
    lasts: Duration::from_millis(WRITE_BACK_MS + 1000),
    warm_up: Duration::from_millis(1000),
};
/// Before it counts: every partition has got its first segment, and its bytes are in it.
const FIRST: Load = Load { lasts: Duration::from_secs(1), ..LOAD };

/// One value per round.
#[derive(Default)]
struct Side {
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    flushes: Vec<f64>,
    device_flushes: Vec<f64>,
    cpu_us: Vec<f64>,
}

impl Side {
    fn take(&mut self, bench: &Bench, partitions: i32) -> io::Result<()> {
        let mut broker = Broker::start(bench, &[&format!("gannet.writeback.interval.ms={WRITE_BACK_MS}")])?;
        let topic = broker.create_topic(partitions, &[])?;
        let first = load::run(bench, &broker, topic, FIRST)?;
        if partitions > 1 {
            std::thread::sleep(Duration::from_millis(WRITE_BACK_MS + 1500));
        }
        let mount = Mount::of(bench.directory.path());
        let (used, flushed) = (broker.usage(), mount.device_flushes());
        let outcome = load::run(bench, &broker, topic, LOAD)?;
        let used = broker.usage().since(used);
        let flushed = mount.device_flushes() - flushed;
        let thousands = outcome.messages as f64 / 1000.0;
        self.p50_us.push(outcome.end_to_end_us(0.5));
        self.p99_us.push(outcome.end_to_end_us(0.99));
        self.device_flushes.push(flushed as f64 / thousands);
        self.cpu_us.push(used.cpu_ns as f64 / 1000.0 / outcome.messages as f64);
        self.flushes.push(broker.stop()?.get("flushes") / (thousands + first.messages as f64 / 1000.0));
        Ok(())
    }
}

pub fn take(bench: &Bench) -> io::Result<Reading> {
    let (mut one, mut many) = (Side::default(), Side::default());
    for round in 0..bench.rounds {
        // One, many, many, one: what drifts hits both alike.
        if round % 2 == 0 {
            one.take(bench, 1)?;
            many.take(bench, MANY)?;
        } else {
            many.take(bench, MANY)?;
            one.take(bench, 1)?;
        }
    }
    let row = |what: &str, unit, many: Vec<f64>, one: Vec<f64>| {
        Row::new(format!("10,000 partitions, {what}"), unit, many).against("1 partition", one)
    };
    let rows = vec![
        row("end to end p99", "µs", many.p99_us, one.p99_us).target(Target::AtMost(2.0, Some(1.3))),
        row("end to end p50", "µs", many.p50_us, one.p50_us),
        row("commits made durable", "per 1000 messages", many.flushes, one.flushes).target(Target::AtMost(1.2, None)),
        row("device flushes, all processes", "per 1000 messages", many.device_flushes, one.device_flushes),
        row("processor", "µs/message", many.cpu_us, one.cpu_us),
    ];
    Ok(Reading {
        question: "20,000 durable messages of 100 B a second, over 10,000 partitions and over one",
        rows,
        curve: None,
    })
}
