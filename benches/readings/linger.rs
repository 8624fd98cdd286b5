//! linger.ms by batch.size, as `gannet load` with Kafka's settings sends at a fixed rate.

use std::io;
use std::process::{Command, Stdio};

use gannet::reactor::pin_to;
use serde_json::Value;

use crate::Bench;
use crate::broker::{Broker, binary};
use crate::curve::{Curve, Line, Panel};
use crate::report::Reading;

const LINGER_MS: [u32; 4] = [0, 1, 5, 20];
const BATCH_KIB: [u32; 4] = [1, 16, 64, 256];
const MESSAGES_PER_S: f64 = 20_000.0;

/// What was found with one linger.ms and one batch.size.
struct Cell {
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
    /// Per 1000 messages.
    requests: f64,
}

pub fn take(bench: &Bench) -> io::Result<Reading> {
    let broker = Broker::start(bench, &[])?;
    let row = |linger_ms| -> io::Result<Vec<Cell>> {
        BATCH_KIB.into_iter().map(|batch_kib| cell(bench, &broker, linger_ms, batch_kib)).collect()
    };
    let rows = LINGER_MS.into_iter().map(row).collect::<io::Result<Vec<Vec<Cell>>>>()?;
    let panel = |title, unit, value: fn(&Cell) -> f64| {
        let line = |(linger_ms, cells): (u32, &Vec<Cell>)| Line {
            name: format!("linger {linger_ms} ms"),
            values: cells.iter().map(value).collect(),
        };
        Panel::new(title, unit, LINGER_MS.into_iter().zip(&rows).map(line).collect()).log()
    };
    let panels = vec![
        panel("End to end p50", "µs", |cell| cell.p50_us),
        panel("End to end p99", "µs", |cell| cell.p99_us),
        panel("Processor of the broker", "µs/message", |cell| cell.cpu_us),
        panel("Produce requests", "per 1000 messages", |cell| cell.requests),
    ];
    let points = BATCH_KIB.map(f64::from).to_vec();
    let curve = Curve { along: "batch.size", text: |kib| format!("{kib} KiB"), points, panels };
    let question = "20,000 durable messages of 1 KiB a second over 16 partitions, by linger.ms and batch.size";
    Ok(Reading { question, rows: Vec::new(), curve: Some(curve) })
}

fn cell(bench: &Bench, broker: &Broker, linger_ms: u32, batch_kib: u32) -> io::Result<Cell> {
    let json = bench.directory.path().join("load.json");
    let mut command = Command::new(binary());
    command.args([
        "load",
        "--quiet",
        "--create",
        "--partitions",
        "16",
        "--threads",
        "1",
        "--producer-prop",
        "acks=all",
    ]);
    command.args(["--warm-up", "1s", "--duration", "3s", "--record-size", "1k", "--bootstrap-server"]);
    command.arg(format!("127.0.0.1:{}", broker.port)).arg(format!("--rate={MESSAGES_PER_S}"));
    command.arg(format!("--topic=linger-{linger_ms}-{batch_kib}"));
    command.arg(format!("--producer-prop=linger.ms={linger_ms}"));
    command.arg(format!("--producer-prop=batch.size={batch_kib}k")).arg("--json").arg(&json);
    // What is started here runs where this thread may.
    pin_to(Some(bench.client_core));
    let used = broker.usage();
    let done = command.stdin(Stdio::null()).output()?;
    let used = broker.usage().since(used);
    // A rate that was missed is told in the figures.
    if !matches!(done.status.code(), Some(0 | 4)) {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(io::Error::other(format!("gannet load: {}", said.lines().last().unwrap_or("it says nothing"))));
    }
    let document: Value = serde_json::from_str(&std::fs::read_to_string(&json)?)?;
    let run = &document["runs"][0];
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let percentile = |index: usize| number(&run["end_to_end"]["percentiles_us"][index]);
    let sent = MESSAGES_PER_S * (number(&run["warm_up_s"]) + number(&run["measured_s"]));
    Ok(Cell {
        p50_us: percentile(0),
        p99_us: percentile(4),
        cpu_us: used.cpu_ns as f64 / 1000.0 / sent,
        requests: number(&run["requests"]) / number(&run["records"]) * 1000.0,
    })
}
