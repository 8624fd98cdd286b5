//! What the machine must offer, asked before anything is started; and which durable write it does best. A lack is told with
//! the limit, the value found, the value needed and the command that sets it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::commit::{CommitMethod, Commits, JournalFile, write_durably};
use super::doorbell::{Bedside, Doorbell};
use super::memory::{AlignedBuffer, PAGE_BYTES};
use super::pin_to;
use super::ring::{BufferGroup, Ring, Token};
use crate::shard::CommitId;

/// Something the broker cannot run without. Displayed, it says what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Lack {
    pub what: &'static str,
    pub found: String,
    pub needed: String,
    pub remedy: String,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lack { what, found, needed, remedy } = self;
        write!(f, "{what}: found {found}, needed {needed}. {remedy}")
    }
}

impl std::error::Error for Lack {}

/// The rings can be made and know what the reactor asks of them.
pub fn check_io_uring() -> Result<(), Lack> {
    let outcome = Ring::new(8).and_then(|ring| BufferGroup::register(&ring, 0, 1, PAGE_BYTES).map(drop));
    let Err(error) = outcome else { return Ok(()) };
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Err(io_uring_lack(&error, disabled.trim(), kernel.trim()))
}

fn io_uring_lack(error: &io::Error, disabled: &str, kernel: &str) -> Lack {
    let lack = |found: String, needed: &str, remedy: &str| Lack {
        what: "io_uring",
        found,
        needed: needed.into(),
        remedy: remedy.into(),
    };
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if matches!(disabled, "1" | "2") => lack(
            format!("kernel.io_uring_disabled = {disabled}"),
            "kernel.io_uring_disabled = 0",
            "Allow it: sysctl -w kernel.io_uring_disabled=0 (and in /etc/sysctl.d to keep it)",
        ),
        Some(libc::EPERM | libc::EACCES) => lack(
            format!("refused ({error})"),
            "the system calls io_uring_setup, io_uring_enter and io_uring_register",
            "A seccomp filter forbids them, as containers' defaults do: podman/docker run --security-opt seccomp=unconfined, \
             or a profile that allows these three; under systemd, SystemCallFilter=@io-event @system-service",
        ),
        Some(libc::ENOSYS | libc::EINVAL) => lack(
            format!("Linux {kernel} ({error})"),
            "Linux 5.19 or later with CONFIG_IO_URING",
            "Start a newer kernel; uname -r shows the present one",
        ),
        Some(libc::ENOMEM) => lack(
            format!("no memory for a ring ({error})"),
            "a few MiB of lockable memory per core",
            "Raise it: ulimit -l unlimited, or LimitMEMLOCK=infinity of the service",
        ),
        _ => lack(
            error.to_string(),
            "a working io_uring",
            "strace -f -e trace=io_uring_setup shows what the kernel answers",
        ),
    }
}

/// glommio wants this much lockable memory, whatever it then locks.
const MEMLOCK_BYTES: u64 = 512 << 10;

/// Raises the soft limits to the hard ones and checks what is left: enough lockable memory, and descriptors for
/// `descriptors_needed` files and sockets. Returns how many descriptors there are.
pub fn check_limits(descriptors_needed: u64) -> Result<u64, Lack> {
    let memlock = raise(Resource::RLIMIT_MEMLOCK);
    if memlock < MEMLOCK_BYTES {
        return Err(Lack {
            what: "lockable memory (RLIMIT_MEMLOCK)",
            found: format!("{} KiB", memlock >> 10),
            needed: format!("{} KiB", MEMLOCK_BYTES >> 10),
            remedy: "Raise it: ulimit -l unlimited, or LimitMEMLOCK=infinity of the service".into(),
        });
    }
    let descriptors = raise(Resource::RLIMIT_NOFILE);
    if descriptors < descriptors_needed {
        return Err(Lack {
            what: "open files (RLIMIT_NOFILE)",
            found: descriptors.to_string(),
            needed: format!("{descriptors_needed}, and one more for each connection beyond"),
            remedy: "Raise it: ulimit -n 100000, or LimitNOFILE=100000 of the service".into(),
        });
    }
    Ok(descriptors)
}

fn raise(resource: Resource) -> u64 {
    let Ok((soft, hard)) = getrlimit(resource) else { return u64::MAX };
    if soft < hard && setrlimit(resource, hard, hard).is_ok() {
        return hard;
    }
    soft
}

/// A log directory, there already or not, is on a disk. With `dev`, memory and /tmp will do.
pub fn check_place(directory: &str, dev: bool) -> Result<(), Lack> {
    match volatile_place(directory) {
        Some(found) if !dev => Err(Lack {
            what: "log directory",
            found: format!("{directory} on {found}"),
            needed: "a directory that survives a restart".into(),
            remedy: "Set log.dirs to a directory on a disk; to try things out, start with --dev".into(),
        }),
        _ => Ok(()),
    }
}

/// Files in this directory can be written past the page cache. With `dev`, the page cache will do.
pub fn check_log_dir(directory: &str, dev: bool) -> Result<(), Lack> {
    let scratch = format!("{directory}/.probe-{}", std::process::id());
    let written = direct_file(&scratch, true).and_then(|file| write_durably(&file, &AlignedBuffer::new(PAGE_BYTES), 0));
    let _ = std::fs::remove_file(&scratch);
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && dev => Ok(()),
        // A full device is foreseen: it serves what it has, and takes more when space returns.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(Lack {
            what: "direct I/O",
            found: format!("{directory} on {}, which refuses O_DIRECT", file_system(directory)),
            needed: "a file system with direct I/O, such as XFS or ext4".into(),
            remedy: "Set log.dirs to a directory on such a file system; df -T shows what is where".into(),
        }),
        Err(error) => Err(Lack {
            what: "log directory",
            found: format!("{directory}: {error}"),
            needed: "a directory in which files can be written".into(),
            remedy: format!("Check its owner, its mode and its space: ls -ld {directory}; df -h {directory}"),
        }),
    }
}

fn volatile_place(directory: &str) -> Option<String> {
    // What does not exist yet will stand where the nearest directory above it does.
    let path = std::path::absolute(directory).ok()?;
    let path = path.ancestors().find_map(|above| std::fs::canonicalize(above).ok())?;
    let kind = file_system(path.to_str()?);
    if matches!(kind.as_str(), "tmpfs" | "ramfs") {
        return Some(format!("{kind}, which is memory"));
    }
    let temporary = ["/tmp", "/var/tmp", "/dev/shm"].into_iter().find(|place| path.starts_with(place))?;
    Some(format!("{temporary}, which is cleaned up by the system"))
}

/// The mount that holds a path: file system, device and mount point, as the system names them.
pub fn mount_of(path: &str) -> Option<(String, String, String)> {
    let path = std::fs::canonicalize(path).ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let fields = |line: &str| {
        let mut fields = line.split(' ');
        let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        Some((kind.to_owned(), device.to_owned(), point.replace("\\040", " ")))
    };
    let holding = mounts.lines().filter_map(fields).filter(|(_, _, point)| path.starts_with(Path::new(point)));
    // Of equally long points the last mounted covers the others.
    holding.fold(None, |best: Option<(String, String, String)>, next| match best {
        Some(best) if best.2.len() > next.2.len() => Some(best),
        _ => Some(next),
    })
}

fn file_system(path: &str) -> String {
    mount_of(path).map_or_else(|| "an unknown file system".into(), |(kind, _, _)| kind)
}

/// Opens a file past the page cache. Where that is refused, as in memory, the plain file has to do.
pub fn direct_file(path: &str, create: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(create).truncate(create).custom_flags(libc::O_DIRECT).open(path)
}

/// What one method did with one core busy beside it.
#[derive(Clone, Copy, Debug)]
pub struct CommitProbe {
    pub method: CommitMethod,
    /// The median durable write of 4 KiB in microseconds, with the core busy that disturbs it most.
    pub worst_us: u64,
    /// The same with no core busy on purpose.
    pub idle_us: u64,
}

const PROBE_FILE_BYTES: u64 = 1 << 20;
/// For one method with one core busy, in one round.
const PROBE_TIME: Duration = Duration::from_millis(12);
const PROBE_WRITES_MAX: usize = 100;
/// What disturbs one round from outside seldom disturbs the next: the better of them counts.
const PROBE_ROUNDS: usize = 2;
/// Of many cores so many are tried, spread evenly: which of them takes the disk's interrupts is not known.
const PROBE_CORES_MAX: usize = 4;

/// Measures every method on a scratch file in `directory`, the way a reactor on the first of `cores` would use it, while
/// each core in turn is busy. A method can look best on an idle machine and collapse when the core that completes its
/// writes has other work.
pub fn probe_commit(directory: &str, cores: &[usize]) -> io::Result<Vec<CommitProbe>> {
    let path = format!("{directory}/.probe-commit-{}", std::process::id());
    let outcome = probe_on(&path, cores);
    let _ = std::fs::remove_file(&path);
    outcome
}

fn probe_on(path: &str, cores: &[usize]) -> io::Result<Vec<CommitProbe>> {
    let file = direct_file(path, true).or_else(|_| File::create(path))?;
    write_durably(&file, &AlignedBuffer::new(PROBE_FILE_BYTES as usize), 0)?;
    let journal = JournalFile { file: Arc::new(file), path: path.into() };
    let core = cores.first().copied();
    let step = cores.len().div_ceil(PROBE_CORES_MAX).max(1);
    let busy: Vec<Option<usize>> = std::iter::once(None).chain(cores.iter().copied().step_by(step).map(Some)).collect();
    let measuring = std::thread::Builder::new().name("gannet-probe".into()).spawn(move || {
        pin_to(core);
        let mut best_us = vec![[u64::MAX; CommitMethod::ALL.len()]; busy.len()];
        for _ in 0..PROBE_ROUNDS {
            for (busy, best_us) in busy.iter().zip(&mut best_us) {
                let _load = busy.map(Load::on).transpose()?;
                for (method, best_us) in CommitMethod::ALL.into_iter().zip(best_us) {
                    *best_us = median_us(method, journal.clone(), core)?.min(*best_us);
                }
            }
        }
        let of = |(index, method)| {
            let worst_us = best_us.iter().map(|of| of[index]).max().expect("the idle round at least");
            CommitProbe { method, worst_us, idle_us: best_us[0][index] }
        };
        Ok(CommitMethod::ALL.into_iter().enumerate().map(of).collect())
    })?;
    measuring.join().unwrap_or_else(|_| Err(io::Error::other("the measuring thread died")))
}

/// The method to use: the thread, unless another is clearly better where it is worst and no worse where it is best; four
/// times better at the worst makes up for what so short a look cannot tell at the best.
pub fn best_method(probes: &[CommitProbe]) -> Option<CommitProbe> {
    let best = probes.iter().min_by_key(|probe| probe.worst_us).copied()?;
    let thread = probes.iter().find(|probe| probe.method == CommitMethod::Thread).copied().unwrap_or(best);
    let clearly = best.worst_us * 4 < thread.worst_us * 3 && best.idle_us <= thread.idle_us;
    let by_far = best.worst_us * 4 < thread.worst_us && best.idle_us * 4 <= thread.idle_us * 5;
    Some(if clearly || by_far { best } else { thread })
}

fn median_us(method: CommitMethod, journal: JournalFile, core: Option<usize>) -> io::Result<u64> {
    let mut ring = Ring::new(8)?;
    let doorbell = Doorbell::new()?;
    let mut bedside = Bedside::new(doorbell.clone());
    let mut commits = Commits::start(method, vec![journal], 1, core, &ring, doorbell)?;
    let (mut times, mut completions) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while times.len() < PROBE_WRITES_MAX && (start.elapsed() < PROBE_TIME || times.len() < 3) {
        let position = (times.len() * PAGE_BYTES) as u64 % PROBE_FILE_BYTES;
        commits.begin(&mut ring, CommitId(times.len() as u64), 0, position, PAGE_BYTES, |page| page.fill(0));
        while commits.in_flight() > 0 {
            bedside.arm(&mut ring);
            bedside.about_to_sleep();
            ring.wait(if commits.has_committed() { Some(Duration::ZERO) } else { None });
            bedside.awake();
            ring.take(8, &mut completions);
            for completion in completions.drain(..) {
                match completion.token {
                    Token::CommitWrite(index) | Token::CommitFlush(index) => commits.on_completion(index, completion),
                    Token::Doorbell => bedside.on_rung(),
                    _ => {}
                }
            }
            times.extend(commits.take_committed().map(|(_, took_us)| took_us));
        }
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// A core kept busy until dropped.
struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn on(core: usize) -> io::Result<Load> {
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let thread = std::thread::Builder::new().name("gannet-probe-load".into()).spawn(move || {
            pin_to(Some(core));
            while !until.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        })?;
        Ok(Load { stop, thread: Some(thread) })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_io_uring_is_told_with_the_command_that_allows_it() {
        let lack = |errno, disabled| io_uring_lack(&io::Error::from_raw_os_error(errno), disabled, "5.4.0").to_string();
        assert!(lack(libc::EPERM, "2").contains("sysctl -w kernel.io_uring_disabled=0"));
        assert!(lack(libc::EPERM, "0").contains("seccomp"));
        assert!(lack(libc::ENOSYS, "").contains("found Linux 5.4.0"));
        assert!(lack(libc::ENOMEM, "0").contains("ulimit -l"));
        assert_eq!(check_io_uring(), Ok(()));
    }

    #[test]
    fn too_few_descriptors_are_told_with_both_numbers() {
        let lack = check_limits(u64::MAX).expect_err("nobody has so many");
        assert!(lack.needed.starts_with("18446744073709551615") && lack.remedy.contains("ulimit -n"), "{lack}");
        assert!(check_limits(8).expect("everybody has so many") >= 8);
    }

    #[test]
    fn memory_and_temporary_directories_are_refused_unless_for_development() {
        for place in ["/tmp", "/dev/shm"] {
            let directory = tempfile::tempdir_in(place).expect("a temporary directory");
            let path = directory.path().to_string_lossy();
            for path in [path.to_string(), format!("{path}/not/yet/there")] {
                let lack = check_place(&path, false).expect_err("it does not last");
                assert!(lack.remedy.contains("--dev") && lack.found.starts_with(&path), "{lack}");
                assert_eq!(check_place(&path, true), Ok(()));
            }
            assert_eq!(check_log_dir(&path, true), Ok(()));
            assert_eq!(std::fs::read_dir(directory.path()).expect("there").count(), 0, "the probe cleans up");
        }
        let lack = check_log_dir("/proc/self/nowhere", false).expect_err("not a directory");
        assert_eq!(lack.what, "log directory");
    }

    #[test]
    fn the_thread_stays_unless_another_method_is_clearly_better() {
        let probe = |method, (worst_us, idle_us)| CommitProbe { method, worst_us, idle_us };
        let choose = |thread, dsync| {
            let probes = [probe(CommitMethod::Thread, thread), probe(CommitMethod::RingDsync, dsync)];
            best_method(&probes).expect("two were measured").method
        };
        assert_eq!(choose((100, 10), (80, 10)), CommitMethod::Thread);
        assert_eq!(choose((100, 10), (60, 11)), CommitMethod::Thread);
        assert_eq!(choose((100, 10), (60, 10)), CommitMethod::RingDsync);
        // Seen: the thread 40 times slower beside a busy core, and a microsecond faster at rest.
        assert_eq!(choose((2132, 53), (55, 54)), CommitMethod::RingDsync);
        assert_eq!(choose((2132, 53), (55, 90)), CommitMethod::Thread);
        assert!(best_method(&[]).is_none());
    }

    #[test]
    fn every_method_is_measured_and_no_file_is_left() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let probes = probe_commit(&directory.path().to_string_lossy(), &[0]).expect("measured");
        assert_eq!(probes.len(), 3);
        assert!(probes.iter().all(|probe| probe.worst_us >= probe.idle_us && probe.idle_us > 0));
        assert_eq!(std::fs::read_dir(directory.path()).expect("there").count(), 0);
    }
}
