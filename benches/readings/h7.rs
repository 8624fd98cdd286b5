//! H7: how much of the device's durable write rate reaches producers?

use std::io;
use std::time::Duration;

use crate::broker::Broker;
use crate::flood::{Flood, Until};
use crate::report::{Reading, Row, Target};
use crate::{Bench, floor, wire};

const CONNECTIONS: usize = 8;
const WINDOW: usize = 4;
const BATCH_RECORDS: usize = 64;
const RECORD_BYTES: usize = 1024;
const LASTS: Duration = Duration::from_secs(3);
/// `gannet.commit.in.flight` as it is by default.
const COMMITS_IN_FLIGHT: usize = 2;

pub fn take(bench: &Bench) -> io::Result<Reading> {
    let (mut ours, mut same, mut ideal) = (Vec::new(), Vec::new(), Vec::new());
    let (mut commit_kib, mut cpu, mut device) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let mut broker = Broker::start(bench, &[])?;
        let topic = broker.create_topic(CONNECTIONS as i32, &[])?;
        let batch = wire::batch(BATCH_RECORDS, RECORD_BYTES);
        let frames = (0..CONNECTIONS).map(|index| wire::produce(topic, &[(index as i32, &batch)])).collect();
        let flood = Flood { port: broker.port, frames, window: WINDOW, until: Until::Passed(LASTS), is_broker: true };
        let before = broker.usage();
        let answered = flood.run(bench, || broker.usage().cpu_ns)?;
        let used = broker.usage().since(before);
        let counters = broker.stop()?;
        let payload = (BATCH_RECORDS * RECORD_BYTES) as f64;
        let commit_bytes =
            (counters.get("commit_bytes") + counters.get("commit_overhead_bytes")) / counters.get("commits");
        ours.push(answered.requests_per_s * payload / 1e6);
        commit_kib.push(commit_bytes / 1024.0);
        cpu.push(answered.cpu_us / (payload / 1e6));
        device.push(used.write_bytes as f64 / (answered.requests as f64 * payload));
        drop(broker);

        let write_bytes = if commit_bytes.is_finite() { commit_bytes as usize } else { 1 << 20 };
        same.push(floor::durable_stream(bench, write_bytes, COMMITS_IN_FLIGHT, LASTS / 2)? / 1e6);
        let half_window = CONNECTIONS * WINDOW * BATCH_RECORDS * RECORD_BYTES / 2;
        ideal.push(floor::durable_stream(bench, half_window, COMMITS_IN_FLIGHT, LASTS / 2)? / 1e6);
    }
    let target = Target::AtLeast(0.8, Some(0.95));
    let rows = vec![
        Row::new("8 connections × 4 batches of 64 KiB", "MB/s", ours.clone())
            .against("durable writes of our commits' size, 2 at once", same)
            .target(target),
        Row::new("the same", "MB/s", ours).against("durable writes of half the window, 2 at once", ideal),
        Row::new("mean commit", "KiB", commit_kib),
        Row::new("processor", "µs/MB", cpu),
        Row::new("device bytes / payload", "×", device),
    ];
    Ok(Reading {
        question: "durable produce, 64 KiB batches, acks=all, against direct I/O of the same cadence",
        rows,
        curve: None,
    })
}
