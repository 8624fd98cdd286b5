//! H10: does an answer take longer because ten thousand others are connected? And what does a connection that does nothing
//! cost in memory?

use std::io;
use std::time::Duration;

use gannet::reactor::pin_to;

use crate::broker::Broker;
use crate::crowd::{Crowd, Member, allow_connections, connect};
use crate::report::{Reading, Row, Target};
use crate::{Bench, wire};

const MANY: usize = 10_000;
/// One in a hundred does something.
const ACTIVE: usize = MANY / 100;
const FEW: usize = 10;
const PARTITIONS: i32 = 16;
const MESSAGE_BYTES: usize = 1024;
/// A message is due with each tick, on the next of the active connections.
const TICK: Duration = Duration::from_millis(1);
const WARM_UP_TICKS: u64 = 1000;
const TICKS: u64 = 6000;

pub fn take(bench: &Bench) -> io::Result<Reading> {
    allow_connections(MANY as u64)?;
    let (mut few, mut many) = (Side::default(), Side::default());
    for round in 0..bench.rounds {
        // Few, many, many, few: what drifts hits both alike.
        if round % 2 == 0 {
            few.take(bench, FEW, FEW)?;
            many.take(bench, MANY, ACTIVE)?;
        } else {
            many.take(bench, MANY, ACTIVE)?;
            few.take(bench, FEW, FEW)?;
        }
    }
    let row = |what: &str, unit, many: Vec<f64>, few: Vec<f64>| {
        Row::new(format!("10,000 connections, 100 of them active, {what}"), unit, many).against("10 connections", few)
    };
    let rows = vec![
        row("acknowledged p99", "µs", many.p99_us, few.p99_us).target(Target::AtMost(2.0, None)),
        row("acknowledged p50", "µs", many.p50_us, few.p50_us),
        row("processor", "µs/message", many.cpu_us, few.cpu_us),
        Row::new("resident memory of one more connection that does nothing", "KiB", many.connection_kib),
    ];
    Ok(Reading {
        question: "1,000 durable messages of 1 KiB a second, over 10,000 connections and over ten",
        rows,
        curve: None,
    })
}

/// One value per round.
#[derive(Default)]
struct Side {
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    cpu_us: Vec<f64>,
    connection_kib: Vec<f64>,
}

impl Side {
    fn take(&mut self, bench: &Bench, connections: usize, active: usize) -> io::Result<()> {
        let broker = Broker::start(bench, &[])?;
        let topic = broker.create_topic(PARTITIONS, &[])?;
        pin_to(Some(bench.client_core));
        let empty = broker.resident_bytes();
        let mut all = connect(&broker, connections)?;
        let resident = broker.resident_bytes().saturating_sub(empty);
        self.connection_kib.push(resident as f64 / connections as f64 / 1024.0);
        let batch = wire::batch(1, MESSAGE_BYTES);
        // Those that are active lie between those that are not.
        let step = connections / active;
        let member =
            |(index, connection)| Member::new(connection, wire::produce(topic, &[(index as i32 % PARTITIONS, &batch)]));
        let members = all.iter_mut().step_by(step).enumerate().map(member).collect::<io::Result<Vec<Member>>>()?;
        let mut crowd = Crowd { members, tick: TICK, ticks: TICKS, warm_up_ticks: WARM_UP_TICKS };
        let before = broker.usage();
        let latency = crowd.run()?;
        let used = broker.usage().since(before);
        self.p50_us.push(latency.value_at_quantile(0.5) as f64 / 1000.0);
        self.p99_us.push(latency.value_at_quantile(0.99) as f64 / 1000.0);
        self.cpu_us.push(used.cpu_ns as f64 / 1000.0 / TICKS as f64);
        Ok(())
    }
}
