//! The load generator as a process, against a broker process, often with a proxy between them that misbehaves as told: what
//! it finds, what it says, and the exit code with which it says it.

#[allow(dead_code)]
#[path = "../broker/fixture.rs"]
mod fixture;
mod groups;
mod proxy;

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use fixture::{Broker, free_port};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proxy::{Fault, Proxy};

fn load(address: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gannet"));
    command.arg("load").args(["--bootstrap-server", address]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn run(address: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = load(address, arguments).output().expect("our own binary");
    (output.status.code(), told(&output))
}

/// A broker that tells its clients to come through a proxy.
fn behind(fault: Fault) -> (Broker, Proxy) {
    let proxy = Proxy::listen();
    let advertised = format!("advertised.listeners=PLAINTEXT://{}", proxy.address());
    let broker = Broker::start(&[&advertised]);
    proxy.start(broker.port, fault);
    (broker, proxy)
}

const SHORT: &[&str] = &["--topic", "t", "--create", "--partitions", "2", "--warm-up", "0", "--interval", "100ms"];

const VERIFY: &[&str] = &[
    "--duration",
    "1s",
    "--rate",
    "2k",
    "--record-size",
    "100",
    "--verify",
    "--producer-prop",
    "enable.idempotence=false",
];

#[test]
fn a_clean_run_is_valid_and_verified_and_told_in_three_forms() {
    let broker = Broker::start(&[]);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (json, html) = (path("a.json"), path("a.html"));
    let (code, text) = run(
        &broker.address(),
        &[
            SHORT,
            &["--duration", "1s", "--rate", "500", "--verify", "--consumers", "2", "--json", &json, "--html", &html],
        ]
        .concat(),
    );
    // On a machine that does much else the rate may be missed; nothing may be lost.
    assert!(matches!(code, Some(0 | 4)), "{code:?} {text}");
    assert!(text.contains("0 lost, 0 duplicated, 0 reordered, 0 corrupt"), "{text}");
    assert!(text.contains("buffer.memory 32m / batch.size 16k = 2048 batches"), "{text}");
    let document: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&json).expect("it was written")).expect("JSON");
    let run = &document["runs"][0];
    assert!((450..=550).contains(&run["acknowledged"]["records"].as_u64().expect("a count")), "{run}");
    assert_eq!(run["acknowledged"]["records"], run["end_to_end"]["records"]);
    assert_eq!(run["verify"]["checked"], run["end_to_end"]["records"]);
    let page = std::fs::read_to_string(&html).expect("it was written");
    assert!(page.contains("<svg") && page.ends_with("</html>\n"));
    let compared = Command::new(env!("CARGO_BIN_EXE_gannet")).args(["load", "compare", &json, &json]).output();
    assert!(told(&compared.expect("our own binary")).contains("acknowledged p99"));
}

#[test]
fn what_is_lost_duplicated_reordered_or_corrupt_on_the_way_is_counted_and_named() {
    for (fault, counted, named) in [
        (Fault::Lose, "1 lost, 0 duplicated, 0 reordered, 0 corrupt", "lost: t-"),
        (Fault::Duplicate, "0 lost, 1 duplicated, 0 reordered, 0 corrupt", "duplicated: t-"),
        (Fault::Reorder, "0 lost, 0 duplicated, 1 reordered, 0 corrupt", "reordered: t-"),
        // A corrupt record is also one that did not come as itself.
        (Fault::Corrupt, "1 lost, 0 duplicated, 0 reordered, 1 corrupt", "corrupt: t-"),
    ] {
        let (broker, proxy) = behind(fault);
        let (code, text) = run(&proxy.address(), &[SHORT, VERIFY].concat());
        assert!(text.contains(counted) && text.contains(named), "{fault:?}: {text}");
        assert_eq!(code, Some(3), "{fault:?}: {text}");
        drop(broker);
    }
}

/// The arithmetic: 1000 records a second for 4 s, and one stall of 1 s in which no answer passes. Those due within it wait
/// for what is left of it: 1000 of 4000 records, evenly 0 to 1 s. The slowest 5 % of all, 200 records, are those due in the
/// first 200 ms of the stall, so p95 is at least 800 ms, and the slowest waited for all of it. A slow machine only adds.
#[test]
fn a_stall_of_known_length_shows_in_the_latency_from_the_intended_time() {
    let (_broker, proxy) = behind(Fault::Stall { after: Duration::from_secs(1), lasts: Duration::from_secs(1) });
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let json = directory.path().join("a.json").display().to_string();
    let arguments = ["--topic", "t", "--create", "--partitions", "1", "--warm-up", "0", "--duration", "4s"];
    let (_, text) = run(&proxy.address(), &[&arguments[..], &["--rate", "1k", "--json", &json]].concat());
    let document: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&json).expect("it was written")).expect("JSON");
    let latency = &document["runs"][0]["acknowledged"];
    let us = |value: &serde_json::Value| value.as_f64().expect("a number");
    assert!(us(&latency["max_us"]) >= 990_000.0, "{text}");
    assert!(us(&latency["percentiles_us"][3]) >= 790_000.0, "{text}");
}

#[test]
fn a_rate_that_is_missed_makes_the_run_invalid() {
    // One record a request, one request at a time, each at least 5 ms on its way back: 200 records a second at most.
    let (_broker, proxy) = behind(Fault::Delay(Duration::from_millis(5)));
    let slow = ["--producer-prop", "batch.size=1", "--producer-prop", "max.in.flight.requests.per.connection=1"];
    let (code, text) =
        run(&proxy.address(), &[SHORT, &["--duration", "500ms", "--rate", "1k", "--consumers", "0"], &slow].concat());
    assert!(text.contains("INVALID: ") && text.contains("where 1.00k/s were asked for"), "{text}");
    assert_eq!(code, Some(4), "{text}");
}

/// Producer rate < consumer rate × consumers: below that the lag grows, above it does not.
#[test]
fn a_throttled_consumer_falls_behind_and_enough_of_them_keep_up() {
    let broker = Broker::start(&[]);
    let arguments = |topic, consumers| {
        let consumers = ["--consumers", consumers, "--consumer-rate", "200", "--rate", "600", "--partitions", "8"];
        [&["--topic", topic, "--create", "--warm-up", "0", "--duration", "2s", "--interval", "200ms"][..], &consumers]
            .concat()
    };
    let (_, behind) = run(&broker.address(), &arguments("few", "1"));
    assert!(behind.contains("consumers did not keep up"), "{behind}");
    let (_, abreast) = run(&broker.address(), &arguments("enough", "8"));
    assert!(!abreast.contains("consumers did not keep up"), "{abreast}");
}

#[test]
fn what_cannot_be_done_is_told_in_one_line() {
    let broker = Broker::start(&[]);
    let nobody = format!("127.0.0.1:{}", free_port());
    broker.create_topic("orders", 1);
    for (address, arguments, told) in [
        (&broker.address(), ["--topic", "order"], "Did you mean orders?"),
        (&nobody, ["--topic", "orders"], "refuses connections"),
        (&broker.address(), ["--producer-prop", "linger=5"], "linger is no setting of this producer"),
        // Before the run, not after it.
        (&broker.address(), ["--json", "/nowhere/a.json"], "cannot write /nowhere/a.json"),
    ] {
        let (code, text) = run(address, &arguments);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.starts_with("gannet: ") && text.contains(told) && text.lines().count() == 1, "{text}");
    }
}

/// Once the generator has shown its first interval.
fn started(mut child: Child) -> (Child, std::thread::JoinHandle<String>) {
    use std::io::{BufRead, BufReader, Read};
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut first = String::new();
    lines.read_line(&mut first).expect("it says something");
    let rest = std::thread::spawn(move || {
        let mut rest = first;
        let _ = lines.read_to_string(&mut rest);
        rest
    });
    (child, rest)
}

#[test]
fn a_run_that_is_interrupted_tells_what_was_measured() {
    let broker = Broker::start(&[]);
    let arguments = [SHORT, &["--rate", "500", "--duration", "600s"]].concat();
    let (child, rest) = started(load(&broker.address(), &arguments).spawn().expect("our own binary"));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    let text = told(&output) + &rest.join().expect("no panic");
    assert!(text.contains("CUT SHORT: interrupted") && text.contains("acknowledged, from intended"), "{text}");
    assert_eq!(output.status.code(), Some(1), "{text}");
}

#[test]
fn a_run_that_is_interrupted_while_it_warms_up_says_what_it_saw() {
    let broker = Broker::start(&[]);
    let arguments = ["--topic", "t", "--create", "--partitions", "2", "--interval", "100ms", "--warm-up", "600s"];
    let (child, rest) = started(load(&broker.address(), &arguments).spawn().expect("our own binary"));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    let text = told(&output) + &rest.join().expect("no panic");
    assert!(text.contains("CUT SHORT: interrupted") && text.contains("the warm-up was not over"), "{text}");
}

#[test]
fn a_broker_lost_for_good_ends_the_run_with_what_was_measured() {
    let mut broker = Broker::start(&[]);
    let arguments = [SHORT, &["--rate", "500", "--duration", "600s"]].concat();
    let (child, rest) = started(load(&broker.address(), &arguments).spawn().expect("our own binary"));
    broker.kill();
    let output = child.wait_with_output().expect("it ends");
    let text = told(&output) + &rest.join().expect("no panic");
    assert!(text.contains("CUT SHORT: no broker could be reached") && text.contains("never acknowledged"), "{text}");
    assert_eq!(output.status.code(), Some(1), "{text}");
}

#[test]
fn a_broker_that_comes_back_is_produced_to_again_and_nothing_is_lost() {
    let mut broker = Broker::start(&[]);
    let arguments = [SHORT, &["--rate", "500", "--duration", "4s", "--verify"]].concat();
    let (child, rest) = started(load(&broker.address(), &arguments).spawn().expect("our own binary"));
    broker.kill();
    broker.restart();
    let output = child.wait_with_output().expect("it ends");
    let text = told(&output) + &rest.join().expect("no panic");
    assert!(text.contains("0 lost, 0 duplicated, 0 reordered, 0 corrupt"), "{text}");
    assert!(matches!(output.status.code(), Some(0 | 4)), "{text}");
}
