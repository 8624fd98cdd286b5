//! What is under the figures: processor, kernel, file system, device; and the counters that the kernel keeps.

use std::fs::read_to_string;
use std::io;
use std::path::Path;
use std::process::Command;

use gannet::reactor::pin_to;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// The clock of everything here, in nanoseconds.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

pub fn allowed_cores() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).expect("a process may ask where it runs");
    (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect()
}

/// Lets the calling thread run anywhere again: a process that it starts inherits where it may run.
pub fn unpin(cores: &[usize]) {
    let mut set = CpuSet::new();
    let chosen = cores.iter().try_for_each(|core| set.set(*core));
    chosen.and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).expect("it could run there before");
}

fn read(path: &str) -> String {
    read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The value of a `name: value` or `name value` line.
fn line_of(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name));
    line.map_or(String::new(), |line| line[name.len()..].trim_start_matches([':', ' ', '\t']).to_owned())
}

/// As people write it.
pub fn date() -> io::Result<String> {
    let told = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output()?;
    Ok(String::from_utf8_lossy(&told.stdout).trim().to_owned())
}

pub fn load_average() -> String {
    read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

pub fn facts(directory: &Path) -> Vec<(&'static str, String)> {
    let cpu = read("/proc/cpuinfo");
    let mount = Mount::of(directory);
    let device = mount.device.trim_start_matches("/dev/");
    let queue = |file: &str| read(&format!("/sys/block/{device}/queue/{file}"));
    vec![
        ("processor", format!("{}, {} cores", line_of(&cpu, "model name"), allowed_cores().len())),
        ("memory", line_of(&read("/proc/meminfo"), "MemTotal")),
        ("kernel", format!("Linux {}", read("/proc/sys/kernel/osrelease"))),
        (
            "data on",
            format!("{} on {}, write cache {}, FUA {}", mount.kind, mount.device, queue("write_cache"), queue("fua")),
        ),
        ("load average at the start", load_average()),
        ("taken away by the machine", stalls()),
    ]
}

/// What the machine takes away: threads that do nothing but look at the clock, one on each core.
pub fn stalls() -> String {
    const LASTS_NS: u64 = 2_000_000_000;
    const GAP_NS: u64 = 100_000;
    let watch = |core: usize| {
        pin_to(Some(core));
        let (begin, mut before, mut lost, mut longest) = (now_ns(), now_ns(), 0, 0);
        while before < begin + LASTS_NS {
            let now = now_ns();
            let gap = now - before;
            lost += if gap > GAP_NS { gap } else { 0 };
            longest = longest.max(gap);
            before = now;
        }
        (lost, longest)
    };
    let cores = allowed_cores();
    let watching: Vec<_> = cores.iter().map(|&core| std::thread::spawn(move || watch(core))).collect();
    let found: Vec<_> = watching.into_iter().map(|thread| thread.join().unwrap_or_default()).collect();
    let lost: u64 = found.iter().map(|(lost, _)| lost).sum();
    let longest = found.iter().map(|(_, longest)| *longest).max().unwrap_or(0);
    format!(
        "{:.1} % of the time of cores that only look at the clock, in gaps above 0.1 ms; the longest {:.1} ms",
        lost as f64 * 100.0 / (LASTS_NS * cores.len() as u64) as f64,
        longest as f64 / 1e6
    )
}

/// Where a directory lives.
pub struct Mount {
    pub device: String,
    pub kind: String,
}

impl Mount {
    pub fn of(directory: &Path) -> Mount {
        let directory = directory.canonicalize().unwrap_or(directory.to_path_buf());
        let mounts = read("/proc/self/mounts");
        let mut best = Mount { device: String::new(), kind: String::new() };
        let mut depth = 0;
        for line in mounts.lines() {
            let mut fields = line.split(' ');
            let (Some(device), Some(at), Some(kind)) = (fields.next(), fields.next(), fields.next()) else { continue };
            if directory.starts_with(at) && Path::new(at).components().count() >= depth {
                depth = Path::new(at).components().count();
                best = Mount { device: device.to_owned(), kind: kind.to_owned() };
            }
        }
        best
    }

    /// Flushes that the device was asked for since it is there, by whomever.
    pub fn device_flushes(&self) -> u64 {
        let name = self.device.trim_start_matches("/dev/");
        let stats = read("/proc/diskstats");
        let row = stats.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let found = row.into_iter().find(|fields| fields.get(2) == Some(&name));
        found.and_then(|fields| fields.get(18)?.parse().ok()).unwrap_or(0)
    }
}

/// What the kernel counted of one process.
#[derive(Clone, Copy, Default, Debug)]
pub struct Usage {
    /// Time on a processor, all threads together.
    pub cpu_ns: u64,
    pub switches: u64,
    /// Bytes that it made the device read and write.
    pub read_bytes: u64,
    pub write_bytes: u64,
}

impl Usage {
    pub fn of(pid: u32) -> Usage {
        let io = read(&format!("/proc/{pid}/io"));
        let bytes = |name| line_of(&io, name).parse().unwrap_or(0);
        let mut usage =
            Usage { read_bytes: bytes("read_bytes"), write_bytes: bytes("write_bytes"), ..Usage::default() };
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let task = task.path();
            usage.cpu_ns += cpu_ns(&task.join("schedstat").to_string_lossy());
            let status = read(&task.join("status").to_string_lossy());
            usage.switches += ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"]
                .map(|name| line_of(&status, name).parse::<u64>().unwrap_or(0))
                .iter()
                .sum::<u64>();
        }
        usage
    }

    pub fn since(self, before: Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            switches: self.switches.saturating_sub(before.switches),
            read_bytes: self.read_bytes - before.read_bytes,
            write_bytes: self.write_bytes - before.write_bytes,
        }
    }
}

/// Time on a processor of the calling thread.
pub fn own_cpu_ns() -> u64 {
    cpu_ns("/proc/thread-self/schedstat")
}

fn cpu_ns(schedstat: &str) -> u64 {
    read(schedstat).split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0)
}
