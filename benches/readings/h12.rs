//! H12: what does the device write for each byte of payload, and how soon is a killed broker back?

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::flood::{Flood, Until};
use crate::load::{self, Load};
use crate::report::{Reading, Row, Target};
use crate::{Bench, floor, wire};

/// What gathers in a partition in this time is written in one piece, as it would be in the default's half minute.
const WRITE_BACK_MS: u64 = 10_000;
/// As Kafka's own producer sends by default: what gathers in 5 ms is one batch of one partition.
const BATCHED: Load = Load {
    messages_per_s: 10_000,
    message_bytes: 100,
    tick: Duration::from_millis(5),
    is_sticky: true,
    lasts: Duration::from_millis(WRITE_BACK_MS),
    warm_up: Duration::from_secs(1),
};
/// As keys may force it: every message is a batch of its own.
const SINGLE: Load = Load { tick: Duration::from_millis(1), is_sticky: false, ..BATCHED };
const PARTITIONS: i32 = 1000;

const BATCH_RECORDS: usize = 64;
const RECORD_BYTES: usize = 1024;
const CONNECTIONS: u64 = 8;
const RESTART_BYTES: u64 = 2 << 30;

pub fn take(bench: &Bench) -> io::Result<Reading> {
    let batched = written(bench, BATCHED)?;
    let single = written(bench, SINGLE)?;
    let (mut restart, mut reading) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let (took, read) = restart_ms(bench)?;
        restart.push(took);
        reading.push(read);
    }
    let rows = vec![
        Row::new("batches of 50: written", "MB", vec![batched.device_mb])
            .against("payload", vec![batched.payload_mb])
            .target(Target::AtMost(3.0, None)),
        Row::new("batches of 50, processor", "µs/message", vec![batched.cpu_us]),
        Row::new("batches of 1: written", "MB", vec![single.device_mb]).against("payload", vec![single.payload_mb]),
        Row::new("batches of 1, processor", "µs/message", vec![single.cpu_us]),
        Row::new("kill -9 with 2 GiB, until the last is fetched", "ms", restart)
            .against("reading the journals, O_DIRECT", reading),
    ];
    let question =
        "device bytes of 10,000 messages of 100 B a second over 1,000 partitions; the way back after kill -9";
    Ok(Reading { question, rows, curve: None })
}

struct Written {
    device_mb: f64,
    payload_mb: f64,
    cpu_us: f64,
}

/// Until every byte is in its segment. Counted in bytes, so one round says it.
fn written(bench: &Bench, load: Load) -> io::Result<Written> {
    let broker = Broker::start(bench, &[&format!("gannet.writeback.interval.ms={WRITE_BACK_MS}")])?;
    let topic = broker.create_topic(PARTITIONS, &[])?;
    let before = broker.usage();
    let outcome = load::run(bench, &broker, topic, load)?;
    std::thread::sleep(Duration::from_millis(WRITE_BACK_MS + 1500));
    let used = broker.usage().since(before);
    Ok(Written {
        device_mb: used.write_bytes as f64 / 1e6,
        payload_mb: (outcome.messages * load.message_bytes as u64) as f64 / 1e6,
        cpu_us: used.cpu_ns as f64 / 1000.0 / outcome.messages as f64,
    })
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
