//! Readings of whole paths against a real broker process, each beside its floor: what the machine does with nothing of
//! ours in the way; and growth curves. `cargo bench --bench readings -- H1 partitions` takes some of them, without names
//! all. Prints a table, draws the curves and notes both in `last.json` beside this file, where what it did not take stays.
//! It measures and never judges: no speed makes it fail.

mod broker;
mod connections;
mod cores;
mod crowd;
mod curve;
mod flood;
mod floor;
mod h1;
mod h10;
mod h12;
mod h6;
mod h7;
mod h8;
mod h9;
mod kept;
mod linger;
mod load;
mod machine;
mod memory;
mod partitions;
mod report;
mod sizes;
mod wire;

use std::io;
use std::path::Path;
use std::time::Instant;

use report::{Reading, Report};

/// What every reading needs to know.
pub struct Bench {
    /// Where brokers keep their data, on the device that is measured.
    pub directory: tempfile::TempDir,
    /// All that this process may run on.
    pub cores: Vec<usize>,
    pub broker_core: usize,
    pub client_core: usize,
    pub rounds: usize,
    /// Settings for every broker, `key=value`.
    pub overrides: Vec<String>,
}

type Take = fn(&Bench) -> io::Result<Reading>;

const READINGS: [(&str, Take); 13] = [
    ("H1", h1::take),
    ("H6", h6::take),
    ("H7", h7::take),
    ("H8", h8::take),
    ("H9", h9::take),
    ("H10", h10::take),
    ("H12", h12::take),
    ("partitions", partitions::take),
    ("connections", connections::take),
    ("sizes", sizes::take),
    ("linger", linger::take),
    ("cores", cores::take),
    ("memory", memory::take),
];

const USAGE: &str = "\
cargo bench --bench readings -- [NAME…] [--rounds N] [--override key=value]…

  H1   end to end at a low rate, against a round trip and a durable write     H2 to H5 and what else stands
  H6   small requests per second on one core, against an echo                 beside Apache Kafka:
  H7   durable produce, against the device                                    benches/versus/run --help
  H8   consuming from memory and from disk, against socket and device
  H9   ten thousand partitions, against one
  H10  ten thousand connections, against ten; memory of an idle one
  H12  device bytes per payload; restart after kill -9

  Growth curves, each taken once and drawn as an SVG file beside last.json:
  partitions    1 to 10,000, the same rate in all
  connections   1 to 10,000, the same rate in all
  sizes         records of 16 B to 1 MiB
  linger        linger.ms 0 to 20 by batch.size 1 KiB to 256 KiB
  cores         1 and 2 of them, and what 4 to 16 shards would say to each other
  memory        of a broker that is idle, that has much to look after, and under load; no curve

Starts `gannet serve` on a free loopback port with data under target/, on a core of its own. GANNET=path measures that
binary instead of the one of this checkout. Nothing else should be running: the load average is noted with the figures.";

fn main() -> io::Result<()> {
    let mut named: Vec<&str> = Vec::new();
    let mut overrides = Vec::new();
    let mut rounds = 3;
    let mut arguments = std::env::args().skip(1);
    let mut asked = false;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What cargo says to every bench; without it this is a test run, and there is nothing to test.
            "--bench" => asked = true,
            "--rounds" => rounds = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(rounds).max(1),
            "--override" => overrides.extend(arguments.next()),
            name => match READINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                Some((known, _)) => named.push(known),
                None => {
                    println!("{USAGE}");
                    return Ok(());
                }
            },
        }
    }
    if !asked {
        println!("{USAGE}");
        return Ok(());
    }
    let cores = machine::allowed_cores();
    let bench = Bench {
        directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?,
        broker_core: cores[0],
        client_core: *cores.last().expect("this process runs on a core"),
        rounds,
        cores,
        overrides,
    };
    let mut report = Report::new(machine::facts(bench.directory.path()));
    for (name, take) in READINGS.iter().filter(|(name, _)| named.is_empty() || named.contains(name)) {
        eprintln!("{name} …");
        let begin = Instant::now();
        match take(&bench) {
            Ok(reading) => report.add(name, reading, begin.elapsed()),
            Err(error) => report.fail(name, &error),
        }
    }
    report.finish(machine::load_average());
    print!("{}", report.table());
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/readings");
    for (name, outcome) in &report.readings {
        if let Ok((Reading { curve: Some(curve), .. }, _)) = outcome {
            curve.draw(&directory.join(format!("{name}.svg")))?;
        }
    }
    kept::keep(&directory.join("last.json"), &report, &READINGS.map(|(name, _)| name))
}
