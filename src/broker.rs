//! The process: takes its directories, recovers, runs one pinned reactor per core with the mesh between them, and stops
//! in order when asked. It decides nothing about Kafka.

mod addresses;
mod directories;
mod start;
mod table;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use crate::config::{BrokerConfig, CommitMethod as ConfiguredMethod, Cores, Listener};
use crate::coordinator::BrokerRegistration;
use crate::journal::{Journal, JournalLayout};
use crate::log::RecoveredLog;
use crate::metadata::{Endpoint, MetadataImage};
use crate::reactor::{
    Admission, Clock, CommitMethod, CommitProbe, Doorbell, NetLimits, Published, Reactor, ReactorConfig, Stop,
    best_method, check_io_uring, check_limits, check_log_dir, check_place, exit_at_once, mesh, probe_commit,
};
use crate::shard::{OfflineAtStart, Shard, ShardStart};
use crate::types::{PartitionId, ShardId, Uuid};
use addresses::{Bound, CoreListeners, advertise, bind};
use directories::{LogDirs, random_bits};

/// Why the broker does not start, for the operator; exit code 1.
#[derive(Debug)]
pub struct StartProblem(pub String);

impl<E: std::error::Error> From<E> for StartProblem {
    fn from(error: E) -> StartProblem {
        StartProblem(error.to_string())
    }
}

/// Descriptors that are neither segments nor connections: standard streams, locks, probes, and the runtime's own.
const DESCRIPTORS_OF_THE_PROCESS: u64 = 64;
/// The same for each core: rings, eventfds, listeners, epoll and timers of the background executor.
const DESCRIPTORS_PER_CORE: u64 = 32;
/// Segment files kept open per core, twice: once for reading and once for writing.
const OPEN_FILES_PER_CORE: std::ops::RangeInclusive<u64> = 32..=1024;
/// Without so many connections a broker is of no use.
const CONNECTIONS_MIN: u64 = 128;
/// Messages on their way from one core to another that need no further memory.
const MESH_CAPACITY: usize = 1024;

/// A second signal within this time is the first one again.
const SAME_WISH: Duration = Duration::from_secs(1);

/// How the broker is to run, besides its configuration.
pub struct ServeOptions {
    /// Data on /tmp or in memory is allowed.
    pub dev: bool,
    /// Print the start-up table; without it the same facts go to the log.
    pub table: bool,
}

/// Runs the broker until it is asked to stop.
pub fn serve(config: BrokerConfig, options: &ServeOptions) -> Result<(), StartProblem> {
    let begun = Instant::now();
    let signals = catch_signals()?;
    end_on_panic();
    let (mut config, mut dirs, cores) = prepare(config, options.dev)?;
    let shards = cores.len() as u16;
    let descriptors = Descriptors::share_out(&config, shards)?;
    let cluster_id = dirs.identify(config.node_id, config.gannet.cluster_id.as_deref())?;
    // From here on every path is whole: directories of partitions are compared by name.
    for dir in &dirs.online {
        config.log_dirs[dir.index].clone_from(&dir.path);
    }
    let config = Arc::new(config);
    let started = start::start(&mut dirs, &config, &cluster_id, shards)?;
    let first_dir = dirs.first().path.clone();
    let (commit_method, probe) = choose_commit_method(&config, &first_dir, &cores)?;
    let (bound, listeners) = bind(&config, cores.len())?;
    let advertised = advertise(&config, &bound);

    let after_crash = started.recovery.after_crash;
    let (partitions, replayed_bytes) = (started.recovery.partitions.len(), started.replayed_bytes);
    let offline = OfflineAtStart {
        log_dirs: dirs.offline.iter().map(|dir| dir.index as u16).collect(),
        partitions: started.recovery.offline.clone(),
    };
    let spec = Shards { config: &config, first_dir: &first_dir, cores: &cores, descriptors, commit_method };
    let running = spec.run(started, offline, listeners, registration(&config, &advertised, after_crash)?)?;

    let facts = table::Facts {
        config: &config,
        cluster_id: &cluster_id,
        cores: &cores,
        dirs: &dirs,
        commit_method,
        probe,
        bound: &bound,
        advertised: &advertised,
        partitions,
        replayed_bytes,
        after_crash,
        took: begun.elapsed(),
    };
    facts.tell(options.table);

    let in_order = running.until_stopped(&signals, Duration::from_millis(config.gannet.stop_timeout_ms));
    if in_order {
        directories::note_stopped_in_order(&first_dir)
            .map_err(|error| StartProblem(format!("{first_dir}: {error}")))?;
        tracing::info!("stopped; everything is written back");
    }
    Ok(())
}

/// Checks the machine and takes the log directories.
fn prepare(config: BrokerConfig, dev: bool) -> Result<(BrokerConfig, LogDirs, Vec<usize>), StartProblem> {
    check_io_uring()?;
    let cores = choose_cores(&config.gannet.cores)?;
    config.check_cores(cores.len() as u16)?;
    for path in &config.log_dirs {
        check_place(path, dev)?;
    }
    let check = |path: &str| check_log_dir(path, dev).map_err(|lack| lack.to_string());
    let dirs = LogDirs::take(&config.log_dirs, check)?;
    Ok((config, dirs, cores))
}

fn choose_cores(cores: &Cores) -> Result<Vec<usize>, StartProblem> {
    let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
    let available: Vec<usize> =
        (0..nix::sched::CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).collect();
    let too_few = |wanted: &str| {
        StartProblem(format!(
            "gannet.cores={wanted}: this process may run on {} cores ({available:?}). Ask for those, or allow more \
             (taskset, the cpuset of the container or of the service)",
            available.len()
        ))
    };
    match cores {
        Cores::All => Ok(available.into_iter().take(usize::from(u16::MAX)).collect()),
        Cores::Count(count) if usize::from(*count) <= available.len() => {
            Ok(available.into_iter().take(usize::from(*count)).collect())
        }
        Cores::Count(count) => Err(too_few(&count.to_string())),
        Cores::List(list) => {
            let list: Vec<usize> = list.iter().map(|core| usize::from(*core)).collect();
            match list.iter().all(|core| available.contains(core)) {
                true => Ok(list),
                false => Err(too_few(&format!("{list:?}"))),
            }
        }
    }
}

/// How the process's descriptors are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Descriptors {
    open_files_per_core: usize,
    connections: usize,
}

impl Descriptors {
    fn share_out(config: &BrokerConfig, shards: u16) -> Result<Descriptors, StartProblem> {
        let shards = u64::from(shards);
        let fixed = DESCRIPTORS_OF_THE_PROCESS
            + shards * (DESCRIPTORS_PER_CORE + u64::from(config.gannet.journal_files) + config.listeners.len() as u64);
        let needed = fixed + shards * 2 * OPEN_FILES_PER_CORE.start() + CONNECTIONS_MIN;
        let free = check_limits(needed)? - fixed;
        // A quarter for segments, the rest for connections.
        let open_files = (free / 4 / shards / 2).clamp(*OPEN_FILES_PER_CORE.start(), *OPEN_FILES_PER_CORE.end());
        let connections = (free - shards * 2 * open_files).min(u64::from(config.max_connections));
        Ok(Descriptors {
            open_files_per_core: open_files as usize,
            connections: usize::try_from(connections).unwrap_or(usize::MAX),
        })
    }
}

fn choose_commit_method(
    config: &BrokerConfig,
    first_dir: &str,
    cores: &[usize],
) -> Result<(CommitMethod, Option<CommitProbe>), StartProblem> {
    Ok(match config.gannet.commit_method {
        ConfiguredMethod::Thread => (CommitMethod::Thread, None),
        ConfiguredMethod::RingDsync => (CommitMethod::RingDsync, None),
        ConfiguredMethod::RingFsync => (CommitMethod::RingFsync, None),
        ConfiguredMethod::Auto => {
            let directory = start::own_path(first_dir, "");
            let probes = probe_commit(directory.trim_end_matches('/'), cores);
            let probes =
                probes.map_err(|error| StartProblem(format!("measuring durable writes in {directory}: {error}")))?;
            for CommitProbe { method, worst_us, idle_us } in &probes {
                tracing::debug!("a durable 4 KiB write by {method}: {idle_us} µs, with a busy core {worst_us} µs");
            }
            let best = best_method(&probes).expect("all methods were measured");
            (best.method, Some(best))
        }
    })
}

fn registration(
    config: &BrokerConfig,
    advertised: &[Listener],
    after_crash: bool,
) -> Result<BrokerRegistration, StartProblem> {
    let endpoint = |listener: &Listener| Endpoint {
        listener: listener.name.as_str().into(),
        host: listener.host.as_str().into(),
        port: listener.port,
        security_protocol: listener.security_protocol as i16,
    };
    Ok(BrokerRegistration {
        id: config.node_id,
        incarnation: Uuid::from_random(random_bits()?),
        endpoints: advertised.iter().map(endpoint).collect(),
        rack: config.broker_rack.as_deref().map(Into::into),
        after_crash,
    })
}

/// What all shards of this process have in common.
struct Shards<'a> {
    config: &'a Arc<BrokerConfig>,
    first_dir: &'a str,
    cores: &'a [usize],
    descriptors: Descriptors,
    commit_method: CommitMethod,
}

/// What one shard begins with, besides that.
struct OwnShare {
    image: Arc<MetadataImage>,
    logs: Vec<(PartitionId, Arc<str>, RecoveredLog)>,
    offline: Arc<OfflineAtStart>,
    registration: BrokerRegistration,
    journal: Journal,
    seed: u64,
}

impl Shards<'_> {
    /// Starts one reactor per core, each on its thread, and waits until all of them run.
    fn run(
        &self,
        started: start::Started,
        offline: OfflineAtStart,
        listeners: Vec<CoreListeners>,
        registration: BrokerRegistration,
    ) -> Result<Running, StartProblem> {
        let shards = self.cores.len() as u16;
        let (image, offline) = (Arc::new(started.recovery.image), Arc::new(offline));
        let mut logs: Vec<Vec<(PartitionId, Arc<str>, RecoveredLog)>> = (0..shards).map(|_| Vec::new()).collect();
        for partition in started.recovery.partitions {
            let owner = partition.id.owner(shards);
            logs[usize::from(owner.0)].push((partition.id, partition.directory, partition.log));
        }
        let doorbells = (0..shards).map(|_| Doorbell::new()).collect::<Result<Vec<_>, _>>()?;
        let (stop, clock) = (Stop::new(usize::from(shards)), Clock::start());
        let published = Published::new(usize::from(shards));
        let (events, inbox) = mpsc::channel();
        let seed = random_bits()? as u64;
        let mut mailboxes: VecDeque<_> = mesh(&doorbells, MESH_CAPACITY).into();
        let per_address = match self.config.max_connections_per_ip {
            // Kafka's default, which is no limit.
            limit if limit >= i32::MAX as u32 => usize::MAX,
            limit => limit as usize,
        };
        let admission = Admission::new(self.descriptors.connections, per_address);
        let per_core = self.cores.iter().zip(listeners).zip(started.journals).zip(logs).enumerate();
        for (index, (((&core, listeners), journal_files), logs)) in per_core {
            let id = ShardId(index as u16);
            let layout = JournalLayout {
                shard: id,
                files: self.config.gannet.journal_files,
                file_bytes: self.config.gannet.journal_file_bytes(),
                block_bytes_max: self.config.gannet.commit_bytes.min(self.config.gannet.journal_file_bytes()),
                commits_in_flight_max: self.config.gannet.commits_in_flight,
            };
            let share = OwnShare {
                image: image.clone(),
                logs,
                offline: offline.clone(),
                registration: registration.clone(),
                journal: Journal::new(layout, started.run),
                seed: seed.wrapping_add(index as u64),
            };
            let reactor = ReactorConfig {
                shard: id,
                core: Some(core),
                listeners,
                journal: journal_files,
                commit_method: self.commit_method,
                commits_in_flight_max: usize::from(self.config.gannet.commits_in_flight),
                net: self.net_limits(admission.clone()),
                open_files_max: self.descriptors.open_files_per_core,
                spin_us: u64::from(self.config.gannet.spin_us),
                mailbox: mailboxes.pop_front().expect("one for each core"),
                doorbell: doorbells[index].clone(),
                clock,
                stop: stop.clone(),
                published: published.clone(),
                log_dirs: self.config.log_dirs.clone(),
            };
            self.spawn(reactor, share, events.clone())?;
        }
        let mut running = Running { stop, doorbells, published, events, inbox, ended: Vec::new() };
        running.until_all_run()?;
        Ok(running)
    }

    fn spawn(&self, reactor: ReactorConfig, share: OwnShare, events: Sender<ProcessEvent>) -> Result<(), StartProblem> {
        let id = reactor.shard;
        let (config, shards) = (self.config.clone(), self.cores.len() as u16);
        let checkpoint_path = start::checkpoint_path(self.first_dir, id.0).into();
        let cleaning_path = start::cleaning_path(self.first_dir, id.0).into();
        std::thread::Builder::new().name(format!("gannet-{}", id.0)).spawn(move || {
            // Made here, so that what the shard owns lies in memory near its core.
            let mut effects = Vec::new();
            let OwnShare { image, logs, offline, registration, journal, seed } = share;
            let start = ShardStart {
                id,
                shards,
                config,
                image,
                journal,
                checkpoint_path,
                cleaning_path,
                logs,
                offline,
                registration,
                seed,
            };
            let shard = Shard::open(reactor.clock.now(), start, &mut effects);
            match Reactor::start(reactor, shard, effects) {
                Ok(reactor) => {
                    let _ = events.send(ProcessEvent::Runs);
                    reactor.run();
                    let _ = events.send(ProcessEvent::Ended(id));
                }
                Err(error) => drop(events.send(ProcessEvent::Refused(format!("shard {}: {error}", id.0)))),
            }
        })?;
        Ok(())
    }

    fn net_limits(&self, admission: Arc<Admission>) -> NetLimits {
        let gannet = &self.config.gannet;
        let response_pause_bytes = usize::try_from(gannet.connection_response_bytes).unwrap_or(usize::MAX);
        NetLimits {
            admission,
            request_bytes_max: self.config.socket_request_max_bytes as usize,
            requests_in_flight_max: gannet.connection_requests_max,
            response_pause_bytes,
            // What was asked before reading paused may still be answered.
            response_bytes_max: response_pause_bytes.saturating_add(2 * self.config.fetch_max_bytes as usize),
            unsent_bytes_max: gannet.unsent_bytes_max(self.cores.len() as u16) as usize,
            idle_max_ms: u64::try_from(self.config.connections_max_idle_ms).unwrap_or(u64::MAX),
            stalled_max_ms: gannet.connection_stall_ms,
            ..NetLimits::default()
        }
    }
}

enum ProcessEvent {
    /// A reactor serves.
    Runs,
    /// A reactor could not start.
    Refused(String),
    /// A reactor has written everything back.
    Ended(ShardId),
    /// SIGTERM or SIGINT.
    Asked,
}

struct Running {
    stop: Arc<Stop>,
    doorbells: Vec<Doorbell>,
    published: Arc<Published>,
    events: Sender<ProcessEvent>,
    inbox: mpsc::Receiver<ProcessEvent>,
    ended: Vec<ShardId>,
}

impl Running {
    fn until_all_run(&mut self) -> Result<(), StartProblem> {
        for _ in 0..self.doorbells.len() {
            match self.inbox.recv().expect("this end keeps a sender") {
                ProcessEvent::Refused(problem) => return Err(StartProblem(problem)),
                ProcessEvent::Ended(shard) => self.ended.push(shard),
                ProcessEvent::Runs | ProcessEvent::Asked => {}
            }
        }
        Ok(())
    }

    /// Waits for a signal, then for the reactors. False if they took too long; what they left is in the journal.
    fn until_stopped(mut self, signals: &SigSet, patience: Duration) -> bool {
        let (signals, events) = (*signals, self.events.clone());
        let waiting = std::thread::Builder::new().name("gannet-signals".into()).spawn(move || {
            while signals.wait().is_ok() {
                let _ = events.send(ProcessEvent::Asked);
            }
        });
        if let Err(error) = waiting {
            exit_at_once(&format!("cannot wait for signals: {error}"));
        }
        let (mut asked_at, mut deadline) = (None, None);
        while self.ended.len() < self.doorbells.len() {
            let left = deadline.map_or(Duration::MAX, |at: Instant| at.saturating_duration_since(Instant::now()));
            match self.inbox.recv_timeout(left.min(Duration::from_secs(3600))) {
                Ok(ProcessEvent::Asked) if deadline.is_none() => {
                    tracing::info!("stopping: no new connections, finishing what is under way, writing back");
                    asked_at = Some(Instant::now());
                    deadline = Some(Instant::now() + patience);
                    self.stop.request();
                    self.doorbells.iter().for_each(Doorbell::ring);
                }
                // A supervisor may signal the process and its group: that is one wish.
                Ok(ProcessEvent::Asked) if asked_at.is_some_and(|at: Instant| at.elapsed() < SAME_WISH) => {}
                Ok(ProcessEvent::Asked) => {
                    tracing::warn!("asked twice: stopping at once; what was not written back is in the journal");
                    return false;
                }
                Ok(ProcessEvent::Ended(shard)) => self.ended.push(shard),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if deadline.is_some() && left.is_zero() => {
                    tracing::warn!(
                        "not finished after {} ms (gannet.stop.timeout.ms): stopping now; what was not written back is in \
                         the journal",
                        patience.as_millis()
                    );
                    return false;
                }
                Err(_) => {}
            }
        }
        tracing::debug!("counted since the start:\n{}", self.published.merged());
        true
    }
}

/// Blocks the signals that end a broker, in this thread and in all it starts, for one thread to wait for. A write beyond a
/// file size limit must come back as an error, so its signal is blocked as well.
fn catch_signals() -> Result<SigSet, StartProblem> {
    let mut awaited = SigSet::empty();
    awaited.add(Signal::SIGTERM);
    awaited.add(Signal::SIGINT);
    let mut blocked = awaited;
    blocked.add(Signal::SIGXFSZ);
    blocked.thread_block()?;
    Ok(awaited)
}

/// A panic in any thread ends the process: a shard that stops while others go on would be a silent failure.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::capture();
        exit_at_once(&format!(
            "a bug in gannet ended the process (thread {}): {panic}\n{backtrace}\nAll that was acknowledged is in the journal; \
             start again. Please report these lines",
            thread.name().unwrap_or("?")
        ));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_those_the_process_may_use() {
        let all = choose_cores(&Cores::All).expect("at least one");
        assert_eq!(choose_cores(&Cores::Count(1)).expect("one"), all[..1]);
        assert_eq!(choose_cores(&Cores::List(vec![all[0] as u16])).expect("that one"), all[..1]);
        let problem = choose_cores(&Cores::List(vec![8000])).expect_err("nobody has so many");
        assert!(problem.0.contains("gannet.cores=[8000]"), "{}", problem.0);
        assert!(choose_cores(&Cores::Count(u16::MAX)).is_err());
    }

    #[test]
    fn connections_get_the_descriptors_that_files_leave() {
        let config = BrokerConfig { max_connections: 10, ..BrokerConfig::default() };
        let shared = Descriptors::share_out(&config, 2).expect("enough for that");
        assert!(OPEN_FILES_PER_CORE.contains(&(shared.open_files_per_core as u64)));
        assert_eq!(shared.connections, 10);
    }
}
