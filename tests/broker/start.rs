//! Starting, stopping, and what a start refuses, in words that help.

use std::process::{Command, Output};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::fixture::{Broker, PATIENCE, free_port, serve};

fn run(command: &mut Command) -> (Output, String) {
    let output = command.output().expect("our own binary");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, text)
}

#[test]
fn a_second_server_on_the_same_directory_is_told_who_holds_it() {
    let broker = Broker::start(&[]);
    let (output, text) = run(&mut serve(&broker.directory, free_port(), &[]));
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&broker.pid().to_string()), "{text}");
}

#[test]
fn a_wrong_value_names_key_value_and_what_is_allowed() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let wrong = ["num.partitions=many".to_owned()];
    let (output, text) = run(&mut serve(directory.path(), free_port(), &wrong));
    assert_eq!(output.status.code(), Some(1));
    for word in ["num.partitions", "many"] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let broker = Broker::start(&[]);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (output, text) = run(&mut serve(directory.path(), broker.port, &[]));
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&broker.port.to_string()), "{text}");
}

#[test]
fn a_stop_in_order_leaves_segments_of_exact_length_with_their_indexes() {
    let mut broker = Broker::start(&["log.segment.bytes=1048576"]);
    broker.create_topic("stop", 1);
    let producer: BaseProducer = broker.client().set("linger.ms", "0").create().expect("a producer");
    let payload = "y".repeat(10_000);
    for _ in 0..300 {
        producer.send(BaseRecord::<(), str>::to("stop").payload(&payload)).expect("queued");
    }
    producer.flush(PATIENCE).expect("acknowledged");
    for _ in 0..2 {
        assert!(broker.terminate().success(), "{}", broker.log());
        let files = std::fs::read_dir(broker.directory.join("stop-0")).expect("the partition's directory");
        let mut logs = Vec::new();
        for file in files {
            let path = file.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "log") {
                assert!(path.with_extension("index").exists() && path.with_extension("timeindex").exists(), "{path:?}");
                logs.push(path);
            }
        }
        assert!(logs.len() >= 3, "{logs:?}");
        for path in logs {
            let bytes = std::fs::read(&path).expect("a segment");
            let mut walk = gannet::record::batches(&bytes);
            assert!(walk.all(|batch| batch.is_ok()), "{path:?} has something behind its last batch");
        }
        broker.restart();
        assert_eq!(broker.read_all("stop", 0).len(), 300);
    }
}

#[test]
fn sigterm_ends_it_with_code_zero_while_clients_are_connected() {
    let mut broker = Broker::start(&[]);
    let _idle: Vec<_> = (0..10).map(|_| broker.connect()).collect();
    assert_eq!(broker.terminate().code(), Some(0), "{}", broker.log());
}
