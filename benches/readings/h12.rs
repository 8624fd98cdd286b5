//! H12: what does the device write for each byte of payload, and how soon is a killed broker back?

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::flood::{Flood, Until};
use crate::load::{self, Load};
use crate::report::{Reading, Row, Target};
use crate::{Bench, floor, wire};

const LOAD: Load = Load {
    messages_per_s: 10_000,
    message_bytes: 100,
    tick: Duration::from_millis(1),
    lasts: Duration::from_secs(8),
    warm_up: Duration::from_secs(1),
};
const PARTITIONS: i32 = 1000;
/// Before it counts: every partition has got its first segment.
const FIRST: Load = Load { lasts: Duration::from_secs(2), ..LOAD };
/// Longer than `gannet.writeback.interval.ms`: after it every byte is in its segment.
const WRITE_BACK: Duration = Duration::from_secs(3);

const BATCH_RECORDS: usize = 64;
const RECORD_BYTES: usize = 1024;
const CONNECTIONS: u64 = 8;
const RESTART_BYTES: u64 = 2 << 30;

pub fn take(bench: &Bench) -> io::Result<Reading> {
    let (mut device, mut payload, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let broker = Broker::start(bench, &[])?;
        let topic = broker.create_topic(PARTITIONS, &[])?;
        let first = load::run(bench, &broker, topic, FIRST)?;
        std::thread::sleep(WRITE_BACK);
        let before = broker.usage();
        let outcome = load::run_from(bench, &broker, topic, LOAD, (first.messages / PARTITIONS as u64) as i64)?;
        std::thread::sleep(WRITE_BACK);
        let used = broker.usage().since(before);
        device.push(used.write_bytes as f64 / 1e6);
        payload.push((outcome.messages * LOAD.message_bytes as u64) as f64 / 1e6);
        cpu.push(used.cpu_ns as f64 / 1000.0 / outcome.messages as f64);
    }
    let (mut restart, mut reading) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let (took, read) = restart_ms(bench)?;
        restart.push(took);
        reading.push(read);
    }
    let rows = vec![
        Row::new("100 B, 1,000 partitions, 10,000/s: written", "MB", device)
            .against("payload", payload)
            .target(Target::AtMost(3.0, None)),
        Row::new("the same, processor", "µs/message", cpu),
        Row::new("kill -9 with 2 GiB, until the last is fetched", "ms", restart)
            .against("reading the journals, O_DIRECT", reading),
    ];
    Ok(Reading { question: "device bytes per payload, and the way back after kill -9", rows })
}

/// From the start of the process until it has answered a fetch of the last record; and how long its journals take to read.
fn restart_ms(bench: &Bench) -> io::Result<(f64, f64)> {
    let mut broker = Broker::start(bench, &[])?;
    let topic = broker.create_topic(CONNECTIONS as i32, &[])?;
    let batch = wire::batch(BATCH_RECORDS, RECORD_BYTES);
    let frames = (0..CONNECTIONS).map(|index| wire::produce(topic, &[(index as i32, &batch)])).collect();
    let requests = RESTART_BYTES / CONNECTIONS / (BATCH_RECORDS * RECORD_BYTES) as u64;
    let flood = Flood { port: broker.port, frames, window: 4, until: Until::Requests(requests), is_broker: true };
    flood.run(bench, || 0)?;
    broker.kill()?;
    let journals: Vec<PathBuf> = std::fs::read_dir(broker.directory().join(".gannet"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal-")))
        .collect();
    let begin = Instant::now();
    let paths: Vec<_> = journals.iter().map(PathBuf::as_path).collect();
    floor::read_stream(&paths, 1 << 20, paths.len())?;
    let read_ms = begin.elapsed().as_secs_f64() * 1000.0;

    let begin = Instant::now();
    broker.start_again()?;
    let ends = wire::high_watermarks(&mut broker.connect()?, topic)?;
    let expected = (requests as usize * BATCH_RECORDS) as i64;
    if ends.iter().any(|end| *end != expected) {
        return Err(io::Error::other(format!("acknowledged {expected} records in each partition, found {ends:?}")));
    }
    wire::fetch_last(&mut broker.connect()?, topic, expected)?;
    Ok((begin.elapsed().as_secs_f64() * 1000.0, read_ms))
}
