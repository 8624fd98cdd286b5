//! `gannet load groups` against a broker process: what its members go through is told in figures.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::fixture::Broker;
use crate::told;

/// Sessions short enough for a test to wait for the end of one.
const SHORT_SESSIONS: &[&str] = &[
    "group.initial.rebalance.delay.ms=100",
    "group.min.session.timeout.ms=1000",
    "group.consumer.min.session.timeout.ms=1000",
    "group.consumer.session.timeout.ms=1000",
    "group.consumer.min.heartbeat.interval.ms=200",
    "group.consumer.heartbeat.interval.ms=200",
    "group.consumer.assignment.interval.ms=0",
];

fn groups(broker: &Broker, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gannet"));
    command.args(["load", "groups", "--bootstrap-server", &broker.address()]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().expect("our own binary");
    (output.status.code(), told(&output))
}

fn count(phase: &Value, what: &str) -> u64 {
    phase[what]["records"].as_u64().unwrap_or_else(|| panic!("{what} of {phase}"))
}

#[test]
fn groups_of_both_protocols_become_stable_and_go_on_without_a_member() {
    let broker = Broker::start(SHORT_SESSIONS);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    for protocol in ["classic", "consumer"] {
        let json = directory.path().join(protocol).display().to_string();
        let names = ["--protocol", protocol, "--topic", protocol, "--group", protocol, "--create", "--json", &json];
        let shape = ["--groups", "4", "--members", "3", "--consuming", "2", "--rate", "200", "--duration", "1s"];
        let times = ["--session-timeout", "1s", "--heartbeat-interval", "200ms", "--commit-interval", "200ms"];
        let (code, text) = groups(&broker, &[&names[..], &shape, &times].concat());
        assert_eq!(code, Some(0), "{text}");
        let document: Value =
            serde_json::from_str(&std::fs::read_to_string(&json).expect("it was written")).expect("JSON");
        let phases = document["phases"].as_array().expect("phases");
        let told: Vec<_> = phases.iter().map(|phase| phase["name"].as_str().expect("a name")).collect();
        assert_eq!(told, ["join", "steady", "death", "leave", "rebalance", "end"], "{text}");
        let [join, steady, death, leave, rebalance, _] = &phases[..] else { panic!("six phases") };
        assert_eq!(count(join, "stable"), 4, "{text}");
        for what in ["heartbeat", "commit", "end_to_end"] {
            assert!(count(steady, what) > 0, "{what} in {text}");
        }
        // One of three partitions was the member's; nothing comes out of it until its session has ended, which began with
        // its last heartbeat. A slow machine only adds.
        for (phase, what) in [(death, "death"), (leave, "leave")] {
            let counts = (count(phase, "without_consumption"), count(phase, "without_consumption_others"));
            assert_eq!(counts, (1, 2), "{what} in {text}");
        }
        assert!(death["without_consumption"]["max_us"].as_f64().expect("a number") >= 700_000.0, "{text}");
        assert!(count(rebalance, "stable") > 0 && count(rebalance, "heartbeat") > 0, "{text}");
    }
}

#[test]
fn members_that_are_refused_end_the_run_with_the_setting_to_look_at() {
    let broker = Broker::start(&[]);
    let arguments = ["--create", "--groups", "1", "--members", "2", "--session-timeout", "1s"];
    let (code, text) = groups(&broker, &arguments);
    assert!(text.contains("CUT SHORT: ") && text.contains("group.min.session.timeout.ms"), "{text}");
    assert_eq!(code, Some(1), "{text}");
}
