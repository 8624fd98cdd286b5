//! H1: how much slower is a durable message, from the moment it was due until a consumer has it, than one round trip and
//! one durable write on this machine?

use std::io;
use std::time::Duration;

use crate::broker::Broker;
use crate::load::{self, Load};
use crate::report::{Reading, Row, Target};
use crate::{Bench, floor};

const RATES: [u64; 2] = [500, 5_000];

/// One value per round.
#[derive(Default)]
struct Side {
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    acknowledged_us: Vec<f64>,
    /// One probe after the other, as the target has it.
    floor_us: Vec<f64>,
    /// At the rate of the load: a core that rested is slower to wake, whoever wakes it.
    paced_floor_us: Vec<f64>,
}

pub fn take(bench: &Bench) -> io::Result<Reading> {
    let broker = Broker::start(bench, &[])?;
    let topic = broker.create_topic(1, &[])?;
    let mut sides: [Side; RATES.len()] = Default::default();
    for _ in 0..bench.rounds {
        for (rate, side) in RATES.into_iter().zip(&mut sides) {
            let tick = Duration::from_nanos(1_000_000_000 / rate);
            let floors = || -> io::Result<(f64, f64)> {
                let at_once = floor::round_trip_and_write_us(bench, Duration::ZERO)?;
                Ok((at_once, floor::round_trip_and_write_us(bench, tick)?))
            };
            let before = floors()?;
            let load = Load {
                messages_per_s: rate,
                message_bytes: 1024,
                tick,
                is_sticky: true,
                lasts: Duration::from_millis(3500),
                warm_up: Duration::from_millis(500),
            };
            let outcome = load::run(bench, &broker, topic, load)?;
            side.p50_us.push(outcome.end_to_end_us(0.5));
            side.p99_us.push(outcome.end_to_end_us(0.99));
            side.acknowledged_us.push(outcome.acknowledged_us(0.5));
            let after = floors()?;
            side.floor_us.push((before.0 + after.0) / 2.0);
            side.paced_floor_us.push((before.1 + after.1) / 2.0);
        }
    }
    let mut rows = Vec::new();
    for (rate, side) in RATES.into_iter().zip(sides) {
        let p50 = Row::new(format!("{rate}/s, end to end p50"), "µs", side.p50_us.clone());
        let p50 = p50.against("round trip + durable 4 KiB", side.floor_us);
        rows.push(if rate == RATES[0] { p50.target(Target::AtMost(1.5, Some(1.2))) } else { p50 });
        let same = Row::new("the same", "µs", side.p50_us);
        rows.push(same.against(format!("the floor's two, {rate} times a second"), side.paced_floor_us));
        rows.push(Row::new(format!("{rate}/s, end to end p99"), "µs", side.p99_us));
        rows.push(Row::new(format!("{rate}/s, acknowledged p50"), "µs", side.acknowledged_us));
    }
    Ok(Reading {
        question: "durable end to end, RF=1, 1 KiB, linger 0, against the sum of its floors",
        rows,
        curve: None,
    })
}
