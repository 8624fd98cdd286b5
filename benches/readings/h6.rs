//! H6: how many small produce requests does one core answer, against a plain epoll echo of the same bytes?

use std::io;
use std::time::Duration;

use crate::Bench;
use crate::broker::Broker;
use crate::flood::{Flood, Until};
use crate::floor::Peer;
use crate::report::{Reading, Row, Target};
use crate::wire;

const CONNECTIONS: usize = 64;
const PARTITIONS: usize = 16;
const WINDOWS: [usize; 2] = [1, 32];
const LASTS: Duration = Duration::from_secs(2);

pub fn take(bench: &Bench) -> io::Result<Reading> {
    let mut rows = Vec::new();
    for window in WINDOWS {
        let mut ours: (Vec<f64>, Vec<f64>) = Default::default();
        let mut echo: (Vec<f64>, Vec<f64>) = Default::default();
        for _ in 0..bench.rounds {
            let broker = Broker::start(bench, &[])?;
            // Kafka's own way to ask for less than stable storage.
            let topic = broker.create_topic(PARTITIONS as i32, &[("flush.messages", "9223372036854775807")])?;
            let batch = wire::batch(1, 16);
            let frames: Vec<Vec<u8>> =
                (0..CONNECTIONS).map(|index| wire::produce(topic, &[((index % PARTITIONS) as i32, &batch)])).collect();

            let peer = Peer::echo(bench, CONNECTIONS)?;
            let flood = Flood {
                port: peer.port,
                frames: frames.clone(),
                window,
                until: Until::Passed(LASTS),
                is_broker: false,
            };
            let echoed = flood.run(bench, || peer.cpu_ns())?;
            peer.finish()?;
            echo.0.push(echoed.requests_per_s / 1000.0);
            echo.1.push(echoed.cpu_us);

            let flood = Flood { port: broker.port, frames, window, until: Until::Passed(LASTS), is_broker: true };
            let answered = flood.run(bench, || broker.usage().cpu_ns)?;
            ours.0.push(answered.requests_per_s / 1000.0);
            ours.1.push(answered.cpu_us);
            let appended: i64 = wire::high_watermarks(&mut broker.connect()?, topic)?.iter().sum();
            if appended != answered.requests as i64 {
                return Err(io::Error::other(format!("{} answers for {appended} records", answered.requests)));
            }
        }
        let name = format!("{CONNECTIONS} connections × {window}");
        let row = Row::new(name.clone(), "1000 requests/s", ours.0).against("epoll echo", echo.0);
        // The target is of single requests; with many in one read the echo shares its system calls among them.
        rows.push(if window == 1 { row.target(Target::AtLeast(0.6, Some(0.8))) } else { row });
        rows.push(Row::new(format!("{name}, processor"), "µs/request", ours.1).against("epoll echo", echo.1));
    }
    Ok(Reading {
        question: "produce requests of one 16 B record on one core, memory mode, against an echo",
        rows,
        curve: None,
    })
}
