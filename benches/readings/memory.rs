//! Resident memory: of a broker that does nothing, of what it looks after, and under load.

use std::io;
use std::thread;
use std::time::Duration;

use crate::Bench;
use crate::broker::Broker;
use crate::crowd::{allow_connections, connect};
use crate::load::{self, Load};
use crate::report::{Reading, Row};

const PARTITIONS: i32 = 10_000;
const CONNECTIONS: usize = 10_000;
/// A message to every partition.
const TOUCH: Load = Load {
    messages_per_s: PARTITIONS as u64,
    message_bytes: 100,
    tick: Duration::from_millis(1),
    is_sticky: false,
    lasts: Duration::from_secs(1),
    warm_up: Duration::ZERO,
};
/// 50 MB a second, consumed at once.
const LOAD: Load = Load {
    messages_per_s: 50_000,
    message_bytes: 1024,
    tick: Duration::from_millis(5),
    is_sticky: true,
    lasts: Duration::from_secs(10),
    warm_up: Duration::from_secs(1),
};
const WRITE_BACK: Duration = Duration::from_secs(2);

/// One value per round.
#[derive(Default)]
struct Found {
    idle_mb: Vec<f64>,
    partition_kib: Vec<f64>,
    written_partition_kib: Vec<f64>,
    connection_kib: Vec<f64>,
    load_mb: Vec<f64>,
}

pub fn take(bench: &Bench) -> io::Result<Reading> {
    allow_connections(CONNECTIONS as u64)?;
    let mut found = Found::default();
    for _ in 0..bench.rounds {
        found.take(bench)?;
    }
    let rows = vec![
        Row::new("a broker that has nothing", "MB", found.idle_mb),
        Row::new("one more of 10,000 partitions, empty", "KiB", found.partition_kib),
        Row::new("the same with a record in its segment", "KiB", found.written_partition_kib),
        Row::new("one more of 10,000 connections that do nothing", "KiB", found.connection_kib),
        Row::new("after 10 s of 50 MB/s, produced and consumed", "MB", found.load_mb),
    ];
    Ok(Reading { question: "resident memory of the broker on one core", rows, curve: None })
}

impl Found {
    fn take(&mut self, bench: &Bench) -> io::Result<()> {
        let each_kib = |broker: &Broker, before: u64, count: usize| {
            broker.resident_bytes().saturating_sub(before) as f64 / count as f64 / 1024.0
        };
        let broker = Broker::start(bench, &[&format!("gannet.writeback.interval.ms={}", WRITE_BACK.as_millis())])?;
        thread::sleep(Duration::from_secs(1));
        let idle = broker.resident_bytes();
        self.idle_mb.push(idle as f64 / 1e6);
        let topic = broker.create_topic(PARTITIONS, &[])?;
        thread::sleep(Duration::from_secs(1));
        self.partition_kib.push(each_kib(&broker, idle, PARTITIONS as usize));
        load::run(bench, &broker, topic, TOUCH)?;
        thread::sleep(2 * WRITE_BACK);
        self.written_partition_kib.push(each_kib(&broker, idle, PARTITIONS as usize));
        drop(broker);

        let broker = Broker::start(bench, &[])?;
        let before = broker.resident_bytes();
        let connections = connect(&broker, CONNECTIONS)?;
        self.connection_kib.push(each_kib(&broker, before, CONNECTIONS));
        drop((connections, broker));

        let broker = Broker::start(bench, &[])?;
        let topic = broker.create_topic(16, &[])?;
        load::run(bench, &broker, topic, LOAD)?;
        self.load_mb.push(broker.resident_bytes() as f64 / 1e6);
        Ok(())
    }
}
