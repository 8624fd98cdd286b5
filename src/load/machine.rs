//! What is under the figures: the generator's machine, and floors: what it does with nothing of Kafka in the way.

use std::collections::BTreeMap;
use std::fs::{OpenOptions, read_to_string};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::results::Floor;

const PAGE_BYTES: usize = 4096;
/// Durable writes go round in a file of this size, which holds zeros before.
const FILE_BYTES: u64 = 4 << 20;
const PROBE: Duration = Duration::from_millis(300);

fn read(path: &str) -> String {
    read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The value of a `name: value` line.
fn line_of(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name));
    line.map_or(String::new(), |line| line[name.len()..].trim_start_matches([':', ' ', '\t']).to_owned())
}

pub fn facts() -> BTreeMap<String, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let facts = [
        ("processor", format!("{}, {cores} cores", line_of(&read("/proc/cpuinfo"), "model name"))),
        ("memory", line_of(&read("/proc/meminfo"), "MemTotal")),
        ("kernel", format!("Linux {}", read("/proc/sys/kernel/osrelease"))),
        ("governor", read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
    ];
    facts.into_iter().filter(|(_, fact)| !fact.is_empty()).map(|(name, fact)| (name.to_owned(), fact)).collect()
}

/// Takes about a second. `directory` is where a durable write is tried, if anywhere.
pub fn floor(directory: Option<&Path>) -> Result<Floor, String> {
    let round_trip =
        loopback_round_trip_us().map_err(|error| format!("the loopback floor cannot be measured: {error}"))?;
    let write = directory.map(|directory| {
        let failed = |error| format!("a durable write cannot be tried in {}: {error}", directory.display());
        durable_write_us(directory).map_err(failed)
    });
    let load_average = read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ");
    Ok(Floor { loopback_round_trip_us: round_trip, durable_write_us: write.transpose()?, load_average })
}

fn loopback_round_trip_us() -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut bytes = [0; 100];
        while stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&bytes)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut bytes = [0; 100];
    let median = median_us(|| {
        stream.write_all(&bytes)?;
        stream.read_exact(&mut bytes)
    })?;
    drop(stream);
    echo.join().map_err(|_| io::Error::other("the echo failed"))??;
    Ok(median)
}

/// By the better of two methods: each write durable by itself, and write then fdatasync.
fn durable_write_us(directory: &Path) -> io::Result<f64> {
    let path = directory.join(format!(".gannet-load-floor-{}", std::process::id()));
    let outcome = durable_writes_us(&path);
    let _ = std::fs::remove_file(&path);
    outcome
}

fn durable_writes_us(path: &Path) -> io::Result<f64> {
    let zeros = vec![0; FILE_BYTES as usize];
    std::fs::write(path, &zeros)?;
    // Direct I/O wants memory that begins at a page.
    let start = zeros.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
    let page = &zeros[start..start + PAGE_BYTES];
    let mut best = f64::INFINITY;
    for flags in [libc::O_DSYNC, 0] {
        let direct = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT | flags).open(path);
        let file = direct.or_else(|_| OpenOptions::new().write(true).custom_flags(flags).open(path))?;
        file.sync_all()?;
        let mut at = 0;
        let median = median_us(|| {
            file.write_all_at(page, at)?;
            at = (at + PAGE_BYTES as u64) % FILE_BYTES;
            if flags == 0 { file.sync_data() } else { Ok(()) }
        })?;
        best = best.min(median);
    }
    Ok(best)
}

/// Of as many as there is time for; one each millisecond, since a machine that rests between is what latencies are
/// measured on.
fn median_us(mut once: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    let (begin, mut samples) = (Instant::now(), Vec::new());
    while begin.elapsed() < PROBE {
        let start = Instant::now();
        once()?;
        samples.push(start.elapsed().as_nanos() as f64 / 1000.0);
        std::thread::sleep(Duration::from_millis(1).saturating_sub(start.elapsed()));
    }
    samples.sort_by(f64::total_cmp);
    Ok(samples[samples.len() / 2])
}
