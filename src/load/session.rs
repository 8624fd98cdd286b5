//! One invocation of `gannet load`: reads what is asked, runs it once or once for each point of a sweep, and tells what was
//! found: on standard output, as JSON, as a page. The exit code says whether the figures may be used.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use nix::sys::signal::{SigSet, Signal};

use super::arguments::{LoadArguments, LoadCommand, LoadOptions, WarmUp};
use super::picture::Painter;
use super::plan::Plan;
use super::results::{Cluster, Document, FORMAT, IntervalRow, Run, Verdict};
use super::run::{self, Course};
use super::schedule::Rate;
use super::settings::{CONSUMER_KEYS, ConsumerSettings, PRODUCER_KEYS, ProducerSettings};
use super::setup::{self, Found, NewTopic, Wanted};
use super::stamp::STAMP_BYTES;
use super::{compare, file, groups, machine, page, plot, table, units};
use crate::config::nearest;

const RECORDS_WRONG: u8 = 3;
const RATE_MISSED: u8 = 4;

/// Runs the command to its end. The exit codes stand in its help.
pub fn run(arguments: LoadArguments) -> ExitCode {
    let outcome = match &arguments.command {
        Some(LoadCommand::Compare { files, names, html, svg }) => {
            compare::run(files, names, html.as_deref(), svg.as_deref()).map(|()| ExitCode::SUCCESS)
        }
        Some(LoadCommand::Groups(arguments)) => {
            watch_signals().and_then(|interrupted| groups::run(arguments, interrupted))
        }
        None => match file::merged(arguments.load) {
            Ok(options) => load(options),
            Err(reason) => Err(reason),
        },
    };
    outcome.unwrap_or_else(|reason| {
        eprintln!("gannet: {reason}");
        ExitCode::FAILURE
    })
}

/// One point of a sweep: the options as they are there, and what was varied.
struct Point {
    options: LoadOptions,
    varied: Vec<(String, String)>,
}

fn load(options: LoadOptions) -> Result<ExitCode, String> {
    let interrupted = watch_signals()?;
    let points = points(&options)?;
    for point in &points {
        settings(&point.options)?;
        check(&point.options)?;
    }
    check_outputs(&options)?;
    // A payload that cannot be read is told before anything is asked of the cluster.
    options.payload.pool(options.seed)?;
    let found = setup::find(&wanted(&options, 0))?;
    if let Some(asked) = options.partitions.filter(|asked| *asked as usize != found.partitions_per_topic) {
        return Err(format!(
            "topic {} is there already and has {} partitions, not {asked}: leave --partitions out, or name another topic",
            options.topic_names()[0],
            found.partitions_per_topic
        ));
    }
    let mut document = document(&options, &found)?;
    document.floors.push(machine::floor(options.floor.as_deref())?);
    print(&table::preface(&document))?;
    for (index, Point { options, varied }) in points.iter().enumerate() {
        if points.len() > 1 {
            let name = varied.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
            print(&format!("\n{} of {}: {name}\n", index + 1, points.len()))?;
        } else {
            print(&format!("{:<10} {}\n\n", "", settings(options)?.0.arithmetic()))?;
        }
        let plan = plan(options, index)?;
        let course = Course {
            duration: match options.rate() {
                Rate::Steps(steps) => options.step_duration * steps.len() as u32,
                _ => options.duration,
            },
            // What is there to be read is read once.
            warm_up: match options.producers {
                0 if options.from_beginning => WarmUp::For(Duration::ZERO),
                _ => options.warm_up,
            },
            interrupted: interrupted.clone(),
            show: if options.quiet { |_| () } else { show },
        };
        let mut run = run::run(plan, &course)?;
        run.point = varied.clone();
        end_live_line(options.quiet);
        print(&table::summary(&run))?;
        document.runs.push(run);
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
    }
    document.floors.push(machine::floor(options.floor.as_deref())?);
    if points.len() > 1 {
        print(&format!("\n{}", table::grid(&document)))?;
    }
    write(&options, &document)?;
    Ok(exit_code(&document.runs))
}

/// The worst of all runs.
fn exit_code(runs: &[Run]) -> ExitCode {
    let is_wrong = |run: &Run| run.verify.as_ref().is_some_and(|faults| !faults.is_clean());
    let is_invalid = |run: &Run| matches!(run.verdict, Verdict::Invalid(_));
    let is_cut = |run: &Run| matches!(run.verdict, Verdict::Cut(_));
    match runs {
        runs if runs.iter().any(is_wrong) => ExitCode::from(RECORDS_WRONG),
        runs if runs.iter().any(is_cut) => ExitCode::FAILURE,
        runs if runs.iter().any(is_invalid) => ExitCode::from(RATE_MISSED),
        _ => ExitCode::SUCCESS,
    }
}

/// Ctrl-C and SIGTERM end the run in order; a second one at once. Before any thread is started, since threads inherit which
/// signals they leave alone.
fn watch_signals() -> Result<Arc<AtomicBool>, String> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().map_err(|error| format!("cannot watch for Ctrl-C: {error}"))?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    std::thread::spawn(move || {
        let _ = signals.wait();
        flag.store(true, Ordering::Relaxed);
        let _ = signals.wait();
        std::process::exit(130);
    });
    Ok(interrupted)
}

/// Every combination of what is swept; one point if nothing is.
fn points(options: &LoadOptions) -> Result<Vec<Point>, String> {
    let mut points = vec![Point { options: options.clone(), varied: Vec::new() }];
    for (key, values) in &options.sweep {
        let mut more = Vec::new();
        for point in &points {
            for value in values {
                let mut varied = point.varied.clone();
                varied.push((key.clone(), value.clone()));
                more.push(Point { options: with(&point.options, key, value)?, varied });
            }
        }
        points = more;
        if points.len() > 1000 {
            return Err(format!("a sweep of {} points is too long: at most 1000", points.len()));
        }
    }
    Ok(points)
}

/// What can be swept beside the clients' settings.
const SWEPT_OPTIONS: &[&str] = &["rate", "record-size", "keys", "producers", "consumers", "consumer-rate", "profile"];

/// The options with one of them changed.
fn with(options: &LoadOptions, key: &str, value: &str) -> Result<LoadOptions, String> {
    let mut options = options.clone();
    let wrong = |reason: &dyn Display| format!("--sweep {key}={value}: {reason}");
    match key {
        "rate" => options.rate = value.parse().map_err(|reason: String| wrong(&reason))?,
        "record-size" => options.record_size = value.parse().map_err(|reason: String| wrong(&reason))?,
        "keys" => options.keys = value.parse().map_err(|reason: String| wrong(&reason))?,
        "producers" => options.producers = value.parse().map_err(|reason| wrong(&reason))?,
        "consumers" => options.consumers = value.parse().map_err(|reason| wrong(&reason))?,
        "consumer-rate" => options.consumer_rate = Some(units::count(value).map_err(|reason| wrong(&reason))?),
        "profile" => options.profile = ValueEnum::from_str(value, false).map_err(|reason| wrong(&reason))?,
        key if CONSUMER_KEYS.contains(&key) && !PRODUCER_KEYS.contains(&key) => {
            options.consumer_prop.push((key.to_owned(), value.to_owned()))
        }
        key if PRODUCER_KEYS.contains(&key) => options.producer_prop.push((key.to_owned(), value.to_owned())),
        _ => {
            let of_consumers = || CONSUMER_KEYS.iter().filter(|key| !PRODUCER_KEYS.contains(key));
            let known = || PRODUCER_KEYS.iter().chain(of_consumers()).chain(SWEPT_OPTIONS).copied();
            let near = nearest(key, known()).map_or_else(
                || format!("known are {}", known().collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean {near}?"),
            );
            return Err(wrong(&format_args!("it cannot be swept; {near}")));
        }
    }
    Ok(options)
}

fn settings(options: &LoadOptions) -> Result<(ProducerSettings, ConsumerSettings), String> {
    let (mut producer, mut consumer) = (ProducerSettings::of(options.profile), ConsumerSettings::of(options.profile));
    for (key, value) in &options.producer_prop {
        producer.set(key, value)?;
    }
    for (key, value) in &options.consumer_prop {
        consumer.set(key, value)?;
    }
    producer.settle()?;
    Ok((producer, consumer))
}

/// What is wrong together, and what a user would only find out at the end.
fn check(options: &LoadOptions) -> Result<(), String> {
    let (producer, _) = settings(options)?;
    if options.producers == 0 && options.consumers == 0 {
        return Err("--producers 0 and --consumers 0 leave nothing to do".into());
    }
    let largest = options.record_size.largest();
    if options.producers > 0 && largest > producer.max_request_size {
        return Err(format!(
            "records of up to {largest} bytes are more than max.request.size={} takes: raise it with --producer-prop, and \
             max.message.bytes of the topic with it",
            producer.max_request_size
        ));
    }
    if options.verify {
        if options.record_size.smallest() < STAMP_BYTES {
            return Err(format!("--verify needs values of at least {STAMP_BYTES} bytes: see --record-size"));
        }
        if options.producers == 0 || options.consumers == 0 {
            return Err("--verify needs producers and consumers".into());
        }
    }
    if options.interval < Duration::from_millis(10) {
        return Err("--interval is at least 10ms".into());
    }
    if options.duration.is_zero() || options.step_duration < options.interval {
        return Err("--duration is above zero, and --step-duration at least --interval".into());
    }
    Ok(())
}

/// A long run should not end with a file that cannot be written.
fn check_outputs(options: &LoadOptions) -> Result<(), String> {
    for path in [&options.json, &options.html].into_iter().flatten() {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    for directory in [&options.svg, &options.png].into_iter().flatten() {
        std::fs::create_dir_all(directory).map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    }
    Ok(())
}

fn wanted(options: &LoadOptions, identities: usize) -> Wanted {
    Wanted {
        bootstrap: options.bootstrap_server.clone(),
        topics: options.topic_names(),
        create: options.create.then(|| NewTopic {
            partitions: options.partitions.unwrap_or(-1),
            replication_factor: options.replication_factor.unwrap_or(-1),
            configs: options.topic_config.clone(),
        }),
        identities,
        from_beginning: options.from_beginning,
    }
}

/// Asks the cluster anew: where the partitions end is where this run begins.
fn plan(options: &LoadOptions, index: usize) -> Result<Plan, String> {
    let (producer, consumer) = settings(options)?;
    let identities = if producer.enable_idempotence { options.producers as usize } else { 0 };
    let found = setup::find(&wanted(options, identities))?;
    let clients = (options.producers + options.consumers) as usize;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Half of the machine is left to whoever is under load, where it is the same machine.
    let threads = options.threads.map_or(cores.div_ceil(2), |threads| threads as usize).clamp(1, clients);
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let run = (clock.as_nanos() as u32 ^ std::process::id().rotate_left(16)).wrapping_add(index as u32);
    Ok(Plan {
        seed: options.seed,
        run,
        client_id: "gannet-load".into(),
        rate: options.rate().clone(),
        step_ns: options.step_duration.as_nanos() as u64,
        arrivals: options.arrivals,
        sizes: options.record_size.clone(),
        keys: options.keys.clone(),
        pool: options.payload.pool(options.seed)?,
        partitioning: options.partitioner,
        is_verified: options.verify,
        producers: options.producers as usize,
        consumers: options.consumers as usize,
        consumer_rate: options.consumer_rate,
        threads,
        spin: options.spin,
        interval_ns: options.interval.min(options.duration).as_nanos() as u64,
        producer,
        consumer,
        addresses: found.addresses(),
        partitions: found.places,
        partitions_per_topic: found.partitions_per_topic,
        identities: found.identities,
    })
}

fn document(options: &LoadOptions, found: &Found) -> Result<Document, String> {
    let (producer, consumer) = settings(options)?;
    let owned =
        |entries: Vec<(&str, String)>| entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let named = |value: Option<clap::builder::PossibleValue>| {
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    };
    let mut workload: BTreeMap<String, String> = BTreeMap::from([
        ("topic".into(), options.topic.clone()),
        ("topics".into(), options.topics.to_string()),
        ("partitions".into(), found.partitions_per_topic.to_string()),
        ("rate".into(), options.rate().text()),
        ("arrivals".into(), named(options.arrivals.to_possible_value())),
        ("record-size".into(), options.record_size.to_string()),
        ("payload".into(), options.payload.to_string()),
        ("keys".into(), options.keys.to_string()),
        ("partitioner".into(), named(options.partitioner.to_possible_value())),
        ("producers".into(), options.producers.to_string()),
        ("consumers".into(), options.consumers.to_string()),
        ("profile".into(), options.profile.name().into()),
        ("seed".into(), options.seed.to_string()),
        ("duration".into(), units::length(options.duration)),
    ]);
    if let Some(rate) = options.consumer_rate {
        workload.insert("consumer-rate".into(), rate.to_string());
    }
    if let WarmUp::For(length) = options.warm_up {
        workload.insert("warm-up".into(), units::length(length));
    }
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(Document {
        format: FORMAT.into(),
        gannet_version: env!("CARGO_PKG_VERSION").into(),
        command: std::env::args().skip(1).collect(),
        started_ms: started.as_millis() as i64,
        machine: machine::facts(),
        cluster: Cluster { id: found.cluster_id.clone(), brokers: found.brokers() },
        floors: Vec::new(),
        workload,
        producer: owned(producer.entries()),
        consumer: owned(consumer.entries()),
        sweep: options.sweep.clone(),
        runs: Vec::new(),
    })
}

/// To standard output; whoever closes it wants no more.
pub fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| format!("cannot write to standard output: {error}")),
    }
}

/// On a terminal one line that changes, elsewhere a line for each interval.
fn show(row: &IntervalRow) {
    let mut error = std::io::stderr();
    let _ = match error.is_terminal() {
        true => write!(error, "\r\x1b[2K{}", table::live(row)).and_then(|()| error.flush()),
        false => writeln!(error, "{}", table::live(row)),
    };
}

fn end_live_line(quiet: bool) {
    if !quiet && std::io::stderr().is_terminal() {
        eprint!("\r\x1b[2K");
    }
}

fn write(options: &LoadOptions, document: &Document) -> Result<(), String> {
    let put = |path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(document).map_err(|error| format!("cannot write JSON: {error}"))?;
        put(path, json.as_bytes())?;
    }
    if let Some(path) = &options.html {
        put(path, page::page(document).as_bytes())?;
    }
    let painter = options.png.as_ref().map(|_| Painter::new());
    for plot in plot::plots(document) {
        if let Some(directory) = &options.svg {
            put(&directory.join(format!("{}.svg", plot.name)), plot.standalone().as_bytes())?;
        }
        if let (Some(directory), Some(painter)) = (&options.png, &painter) {
            put(&directory.join(format!("{}.png", plot.name)), &painter.png(&plot)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        load: LoadArguments,
    }

    fn options(text: &str) -> LoadOptions {
        Line::try_parse_from(text.split(' ')).unwrap_or_else(|error| panic!("{error}")).load.load
    }

    #[test]
    fn a_sweep_is_every_combination() {
        let options = options("load --sweep linger.ms=0,5 batch.size=16k,64k,1m");
        let points = points(&options).unwrap();
        assert_eq!(points.len(), 6);
        let (producer, _) = settings(&points[4].options).unwrap();
        assert_eq!((producer.linger_ms, producer.batch_size), (5, 64 << 10));
        assert_eq!(points[4].varied, [("linger.ms".into(), "5".into()), ("batch.size".into(), "64k".into())]);
    }

    #[test]
    fn what_contradicts_itself_is_told_before_anything_runs() {
        for (text, told) in [
            ("load --producers 0 --consumers 0", "nothing to do"),
            ("load --verify --record-size 20", "at least 32 bytes"),
            ("load --record-size 2m", "max.request.size"),
            ("load --verify --consumers 0", "needs producers and consumers"),
        ] {
            assert!(check(&options(text)).unwrap_err().contains(told), "{text}");
        }
        for (swept, told) in
            [("linger-ms=1", "did you mean linger.ms?"), ("xyz=1", "known are acks"), ("rate=x", "is no rate")]
        {
            let reason = points(&options(&format!("load --sweep {swept}"))).err().unwrap();
            assert!(reason.contains(told) && reason.contains(swept), "{reason}");
        }
        assert_eq!(check(&options("load")), Ok(()));
    }

    #[test]
    fn the_worst_run_gives_the_exit_code() {
        let run = |verdict| Run { verdict, ..Run::default() };
        let code = |runs: &[Run]| format!("{:?}", exit_code(runs));
        let invalid = || run(Verdict::Invalid(String::new()));
        assert_eq!(code(&[run(Verdict::Valid)]), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(&[run(Verdict::Valid), invalid()]), format!("{:?}", ExitCode::from(4)));
        assert_eq!(code(&[invalid(), run(Verdict::Cut(String::new()))]), format!("{:?}", ExitCode::FAILURE));
    }
}
