//! `gannet load groups`: many consumer groups of many members against any Kafka-compatible cluster, what they go through
//! when members come, die and leave, and what it costs the others. One thread, one connection or two for each member.

mod arguments;
mod participant;
mod phases;
mod results;
mod samples;
mod storm;
mod table;
mod world;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub use arguments::GroupsArguments;
use arguments::{GroupProtocol, PhaseName};
use phases::Course;
use results::{FORMAT, GroupsDocument};
use storm::Storm;

use super::machine;
use super::plan::{Partitioning, Plan};
use super::results::Cluster;
use super::schedule::{Arrivals, Rate};
use super::session::print;
use super::settings::{ConsumerSettings, ProducerSettings, Profile};
use super::setup::{self, Found, NewTopic, Wanted};
use super::units::short;
use super::workload::{Keys, Payload, Sizes};

const CONNECT_NS: u64 = 120_000_000_000;
/// Files that this process has open beside its members' connections.
const OTHER_FILES: u64 = 32;
const RECORD_BYTES: usize = 100;
const NOT_STABLE: u8 = 2;

/// Runs it to its end.
pub fn run(arguments: &GroupsArguments, interrupted: Arc<AtomicBool>) -> Result<ExitCode, String> {
    arguments.check()?;
    arguments.broker_pid.map_or(Ok(()), phases::check_pid)?;
    let produces = arguments.rate > 0.0 && arguments.consuming() > 0;
    let consuming = if produces { u64::from(arguments.consuming()) } else { 0 };
    let connections = arguments.all_members() + consuming * u64::from(arguments.members);
    open_files(connections + OTHER_FILES, arguments)?;
    let found = setup::find(&Wanted {
        bootstrap: arguments.bootstrap_server.clone(),
        topics: vec![arguments.topic.clone()],
        create: arguments.create.then(|| NewTopic {
            partitions: arguments.partitions.unwrap_or(arguments.members as i32),
            replication_factor: arguments.replication_factor.unwrap_or(-1),
            configs: Vec::new(),
        }),
        identities: usize::from(produces),
        from_beginning: false,
    })?;
    let mut document = document(arguments, &found, connections);
    document.floors.push(machine::floor(None)?);
    print(&table::preface(&document))?;
    let show = if arguments.quiet { |_: &Storm, _| () } else { show };
    let mut storm = Storm::new(arguments, plan(arguments, found)?, interrupted, show)?;
    let limit_ns = storm.now_ns() + CONNECT_NS;
    if !storm.connect(limit_ns)? {
        let (open, errors) = (storm.connected(), storm.world.samples.errors.keys().next().cloned().unwrap_or_default());
        return Err(format!(
            "{open} of {} members could connect and find their coordinator within {} s ({errors}); the broker's own limits \
             are max.connections and the open files of its process",
            arguments.all_members(),
            CONNECT_NS / 1_000_000_000
        ));
    }
    let course = Course {
        duration: arguments.duration,
        patience: arguments.patience,
        disturbed: (arguments.consuming().max(2) as usize - 1).min(arguments.groups as usize),
        broker_pid: arguments.broker_pid,
    };
    if let Err(reason) = all_phases(&mut storm, arguments, &course, &mut document) {
        document.cut = Some(reason);
    }
    if !arguments.quiet && std::io::stderr().is_terminal() {
        eprint!("\r\x1b[2K");
    }
    document.floors.push(machine::floor(None)?);
    print(&table::summary(&document))?;
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&document).map_err(|error| format!("cannot write JSON: {error}"))?;
        std::fs::write(path, json).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(match document {
        GroupsDocument { cut: Some(_), .. } => ExitCode::FAILURE,
        document if document.phases.iter().any(|phase| phase.unstable > 0) => ExitCode::from(NOT_STABLE),
        _ => ExitCode::SUCCESS,
    })
}

fn all_phases(
    storm: &mut Storm,
    arguments: &GroupsArguments,
    course: &Course,
    document: &mut GroupsDocument,
) -> Result<(), String> {
    let mut asked = arguments.phases.clone();
    asked.push(PhaseName::Join);
    asked.sort_unstable();
    asked.dedup();
    for name in asked {
        phases::run(storm, course, name, &mut document.phases)?;
        let limit_ns = storm.now_ns() + course.patience.as_nanos() as u64;
        if name != PhaseName::End && !storm.run_until(limit_ns, |storm| storm.unstable.is_empty())? {
            return Err(format!("{} groups do not become stable", storm.unstable.len()));
        }
        if name == PhaseName::Join {
            // Members that joined together would beat together; a second later the burst of the join is over as well.
            storm.spread();
            storm.run_for(1_000_000_000)?;
        }
    }
    Ok(())
}

/// Raises this process's limit as far as it may.
fn open_files(needed: u64, arguments: &GroupsArguments) -> Result<(), String> {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| format!("cannot ask for open files: {error}"))?;
    let (soft, hard) = limit;
    if needed <= soft {
        return Ok(());
    }
    // A process with the right to may also raise the hard limit.
    let raised = setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed));
    raised.map_err(|_| {
        format!(
            "{} groups of {} members need {needed} open files, and this process may have {hard}: raise it with `ulimit -n \
             {needed}` (nofile in /etc/security/limits.conf, LimitNOFILE= of a service; the broker needs as many), or ask \
             for fewer with --groups, --members or --consuming",
            arguments.groups, arguments.members
        )
    })
}

fn plan(arguments: &GroupsArguments, found: Found) -> Result<Plan, String> {
    let mut producer = ProducerSettings::of(Profile::Java);
    producer.set("linger.ms", "0")?;
    producer.settle()?;
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(Plan {
        seed: arguments.seed,
        run: clock.as_nanos() as u32 ^ std::process::id().rotate_left(16),
        client_id: "gannet-load-groups".into(),
        rate: Rate::PerSecond(arguments.rate),
        step_ns: u64::MAX,
        arrivals: Arrivals::Fixed,
        sizes: Sizes::Fixed(RECORD_BYTES),
        keys: Keys::None,
        pool: Payload::Random.pool(arguments.seed)?,
        partitioning: Partitioning::RoundRobin,
        is_verified: false,
        producers: found.identities.len(),
        consumers: 0,
        consumer_rate: None,
        threads: 1,
        spin: false,
        interval_ns: arguments.interval.as_nanos() as u64,
        producer,
        consumer: ConsumerSettings::of(Profile::Java),
        addresses: found.addresses(),
        partitions: found.places,
        partitions_per_topic: found.partitions_per_topic,
        identities: found.identities,
    })
}

fn document(arguments: &GroupsArguments, found: &Found, connections: u64) -> GroupsDocument {
    let time = |length: Duration| format!("{length:?}");
    let mut workload: BTreeMap<String, String> = BTreeMap::from([
        ("topic".into(), arguments.topic.clone()),
        ("partitions".into(), found.partitions_per_topic.to_string()),
        ("groups".into(), arguments.groups.to_string()),
        ("members".into(), arguments.members.to_string()),
        ("protocol".into(), format!("{:?}", arguments.protocol).to_lowercase()),
        ("consuming".into(), arguments.consuming().to_string()),
        ("connections".into(), connections.to_string()),
        ("rate".into(), short(arguments.rate)),
        ("commit-interval".into(), time(arguments.commit_interval)),
        ("duration".into(), time(arguments.duration)),
    ]);
    if arguments.protocol == GroupProtocol::Classic {
        workload.insert("session-timeout".into(), time(arguments.session_timeout));
        workload.insert("heartbeat-interval".into(), time(arguments.heartbeat_interval));
    }
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    GroupsDocument {
        format: FORMAT.into(),
        gannet_version: env!("CARGO_PKG_VERSION").into(),
        command: std::env::args().skip(1).collect(),
        started_ms: started.as_millis() as i64,
        machine: machine::facts(),
        cluster: Cluster { id: found.cluster_id.clone(), brokers: found.brokers() },
        floors: Vec::new(),
        workload,
        phases: Vec::new(),
        cut: None,
    }
}

/// On a terminal one line that changes, elsewhere a line each time.
fn show(storm: &Storm, now_ns: u64) {
    let (groups, samples) = (storm.groups.len(), &storm.world.samples);
    let p99 = |histogram: &hdrhistogram::Histogram<u64>| match histogram.is_empty() {
        true => "–".into(),
        false => super::units::short_us(histogram.value_at_quantile(0.99) as f64 / 1e3),
    };
    let line = format!(
        "{:>6.1} s  {} of {groups} groups stable  {} answers of members  p99 heartbeat {} commit {} record {}",
        now_ns as f64 / 1e9,
        groups - storm.unstable.len(),
        storm.world.answered,
        p99(&samples.heartbeat),
        p99(&samples.commit),
        p99(&samples.end_to_end),
    );
    let mut error = std::io::stderr();
    let _ = match error.is_terminal() {
        true => write!(error, "\r\x1b[2K{line}").and_then(|()| error.flush()),
        false => writeln!(error, "{line}"),
    };
}
