//! H1: how much slower is a durable message, from the moment it was due until a consumer has it, than one round trip and
//! one durable write on this machine?

use std::io;
use std::time::Duration;

use crate::broker::Broker;
use crate::load::{self, Load};
use crate::report::{Reading, Row, Target};
use crate::{Bench, floor};

const RATES: [u64; 2] = [500, 5_000];

pub fn take(bench: &Bench) -> io::Result<Reading> {
    let broker = Broker::start(bench, &[])?;
    let topic = broker.create_topic(1, &[])?;
    let mut rows: Vec<(Vec<f64>, Vec<f64>, Vec<f64>, Vec<f64>)> = vec![Default::default(); RATES.len()];
    let mut offset = 0;
    for _ in 0..bench.rounds {
        for (rate, (p50, p99, acknowledged, floors)) in RATES.into_iter().zip(&mut rows) {
            let before = floor::round_trip_and_write_us(bench)?;
            let load = Load {
                messages_per_s: rate,
                message_bytes: 1024,
                tick: Duration::from_nanos(1_000_000_000 / rate),
                is_sticky: true,
                lasts: Duration::from_millis(3500),
                warm_up: Duration::from_millis(500),
            };
            let outcome = load::run_from(bench, &broker, topic, load, offset)?;
            offset += outcome.messages as i64;
            p50.push(outcome.end_to_end_us(0.5));
            p99.push(outcome.end_to_end_us(0.99));
            acknowledged.push(outcome.acknowledged_us(0.5));
            floors.push((before + floor::round_trip_and_write_us(bench)?) / 2.0);
        }
    }
    let mut told = Vec::new();
    for (rate, (p50, p99, acknowledged, floors)) in RATES.into_iter().zip(rows) {
        let p50 = Row::new(format!("{rate}/s, end to end p50"), "µs", p50);
        let p50 = p50.against("round trip + durable 4 KiB", floors);
        told.push(if rate == RATES[0] { p50.target(Target::AtMost(1.5, Some(1.2))) } else { p50 });
        told.push(Row::new(format!("{rate}/s, end to end p99"), "µs", p99));
        told.push(Row::new(format!("{rate}/s, acknowledged p50"), "µs", acknowledged));
    }
    Ok(Reading { question: "durable end to end, RF=1, 1 KiB, linger 0, against the sum of its floors", rows: told })
}
