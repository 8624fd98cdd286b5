//! The tour with our own command lines against our own broker: create, describe, produce, consume, delete, look into the
//! files; and what they say when something is wrong.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything here may take before the test calls it a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// One broker on a free loopback port with a directory of its own; it ends with the value.
struct Broker {
    address: String,
    directory: tempfile::TempDir,
    child: Child,
}

impl Broker {
    fn start(overrides: &[&str]) -> Broker {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the test");
        let address = free_address();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gannet"));
        command.args(["serve", "--dev"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let fixed = [
            format!("log.dirs={}", directory.path().display()),
            format!("listeners=PLAINTEXT://{address}"),
            "gannet.journal.bytes=16777216".to_owned(),
            "gannet.commit.method=thread".to_owned(),
            "auto.create.topics.enable=false".to_owned(),
        ];
        for text in fixed.iter().map(String::as_str).chain(overrides.iter().copied()) {
            command.args(["--override", text]);
        }
        let mut broker = Broker { child: command.spawn().expect("our own binary"), address, directory };
        wait_until("the broker listens", || {
            let ended = broker.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the broker ended at its start: {ended:?}");
            TcpStream::connect(&broker.address).is_ok()
        });
        broker
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = gannet(arguments);
        command.args(["--bootstrap-server", &self.address]);
        command
    }

    /// What a command prints, which must succeed.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("our own binary");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// What a command complains about, which must fail.
    fn complaint(&self, arguments: &[&str]) -> String {
        complaint(self.command(arguments).stdin(Stdio::null()).output().expect("our own binary"))
    }

    fn produce(&self, arguments: &[&str], lines: &str) -> Output {
        let mut command = self.command(&[&["produce"], arguments].concat());
        let mut child = piped(&mut command);
        child.stdin.take().expect("it is piped").write_all(lines.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends")
    }

    /// Everything in a topic, as lines.
    fn consume(&self, arguments: &[&str]) -> Vec<String> {
        let all = [&["consume"], arguments].concat();
        self.run(&all).lines().map(str::to_owned).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gannet(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gannet"));
    command.args(arguments);
    command
}

fn piped(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("our own binary")
}

fn complaint(output: Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

/// Each address is given away once: the tests run side by side.
fn free_address() -> String {
    static GIVEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let mut given = GIVEN.lock().expect("no test fails while it holds the lock");
        if !given.contains(&address) {
            given.push(address.clone());
            return address;
        }
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "it never comes true that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn end(child: &mut Child, signal: Signal) -> ExitStatus {
    kill(Pid::from_raw(child.id() as i32), signal).expect("it runs");
    let mut status = None;
    wait_until("the process ends", || {
        status = child.try_wait().expect("a child");
        status.is_some()
    });
    status.expect("it has ended")
}

#[test]
fn topics_are_created_described_and_deleted() {
    let broker = Broker::start(&[]);
    let create = ["topics", "create", "orders", "--partitions", "2", "--config", "retention.ms=3600000"];
    assert_eq!(broker.run(&create), "Created topic orders.\n");
    assert_eq!(broker.run(&[&create[..], &["--if-not-exists"]].concat()), "");
    assert!(broker.complaint(&create).contains("exists already"));
    assert_eq!(broker.run(&["topics", "list"]), "orders\n");
    let described = broker.run(&["topics", "describe", "orders"]);
    let lines: Vec<Vec<&str>> = described.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines[0][0], "Topic: orders");
    assert_eq!(lines[0][1].strip_prefix("TopicId: ").map(str::len), Some(22));
    assert_eq!(lines[0][2..4], ["PartitionCount: 2", "ReplicationFactor: 1"]);
    assert!(lines[0][4].contains("retention.ms=3600000"));
    assert_eq!(lines[2][..4], ["", "Topic: orders", "Partition: 1", "Leader: 1"]);
    assert_eq!(lines.len(), 3);
    let near = broker.complaint(&["topics", "describe", "oders"]);
    assert!(near.contains("Did you mean orders?") && near.contains("gannet topics create oders"), "{near}");
    assert_eq!(broker.run(&["topics", "delete", "orders"]), "Deleted topic orders.\n");
    assert_eq!(broker.run(&["topics", "list"]), "");
    assert!(broker.complaint(&["topics", "delete", "orders"]).contains("does not exist"));
}

#[test]
fn lines_come_out_as_they_went_in_through_every_codec() {
    let broker = Broker::start(&[]);
    broker.run(&["topics", "create", "lines", "--partitions", "3"]);
    let mut expected = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let lines: Vec<String> = (0..2000).map(|i| format!("{codec} {i} {}", "x".repeat(i % 97))).collect();
        let output = broker.produce(&["lines", "--compression", codec, "--batch-bytes", "9000"], &lines.join("\n"));
        let summary = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && summary.starts_with("2000 records delivered to lines"), "{summary}");
        expected.extend(lines);
    }
    let mut consumed = broker.consume(&["lines", "--from-beginning", "--max-messages", "10000"]);
    consumed.sort();
    expected.sort();
    assert_eq!(consumed, expected);
}

#[test]
fn keys_partitions_and_offsets_are_printed_as_asked() {
    let broker = Broker::start(&[]);
    broker.run(&["topics", "create", "orders"]);
    assert!(broker.produce(&["orders", "--key-separator", "="], "a=1\nb=\nc=x=y\n").status.success());
    for acks in ["1", "0"] {
        assert!(broker.produce(&["orders", "--acks", acks], "no key\n").status.success());
    }
    let print = ["--print", "key,offset,partition,headers"];
    let all = broker.consume(&[&["orders", "--from-beginning", "--max-messages", "5"], &print[..]].concat());
    let line =
        |offset: usize, key: &str, value: &str| format!("Partition:0\tOffset:{offset}\tNO_HEADERS\t{key}\t{value}");
    let expected = [
        line(0, "a", "1"),
        line(1, "b", ""),
        line(2, "c", "x=y"),
        line(3, "null", "no key"),
        line(4, "null", "no key"),
    ];
    assert_eq!(all, expected);
    let from =
        |start: &[&str]| broker.consume(&[&["orders", "--partition", "0", "--max-messages", "1"], start].concat());
    assert_eq!(from(&["--offset", "2"]), ["x=y"]);
    assert_eq!(from(&["--offset", "earliest"]), ["1"]);
    assert_eq!(from(&["--from-time", "2020-01-01T00:00:00Z"]), ["1"]);
    // Nothing is that young: it waits at the end.
    assert!(broker.consume(&["orders", "--from-time", "2100-01-01", "--timeout-ms", "200"]).is_empty());
}

#[test]
fn a_consumer_that_waits_sees_the_next_record_and_ends_by_ctrl_c() {
    let broker = Broker::start(&[]);
    broker.run(&["topics", "create", "orders"]);
    let out = broker.directory.path().with_extension("out");
    let file = std::fs::File::create(&out).expect("a file");
    let mut command = broker.command(&["consume", "orders", "--from-beginning"]);
    let mut consumer = command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null()).spawn().expect("our own binary");
    let seen = || std::fs::read_to_string(&out).expect("the file just made");
    for (line, sum) in [("one\n", "one\n"), ("two\n", "one\ntwo\n")] {
        assert!(broker.produce(&["orders"], line).status.success());
        wait_until("the consumer prints the record", || seen() == sum);
    }
    assert_eq!(end(&mut consumer, Signal::SIGINT).code(), Some(0));
    std::fs::remove_file(&out).expect("the file just made");
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let broker = Broker::start(&[]);
    broker.run(&["topics", "create", "orders"]);
    let lines: String = (0..50_000).map(|i| format!("{i}\n")).collect();
    assert!(broker.produce(&["orders"], &lines).status.success());
    let mut consumer = piped(&mut broker.command(&["consume", "orders", "--from-beginning"]));
    drop(consumer.stdout.take());
    let output = consumer.wait_with_output().expect("it ends by itself");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_broker_that_is_not_there_is_named_with_the_next_step() {
    let address = free_address();
    let nobody =
        complaint(gannet(&["topics", "list", "--bootstrap-server", &address]).output().expect("our own binary"));
    assert!(nobody.contains(&address) && nobody.contains("gannet serve"), "{nobody}");
}

#[test]
fn an_advertised_address_that_leads_nowhere_is_told_as_such() {
    let nowhere = free_address();
    let broker = Broker::start(&[&format!("advertised.listeners=PLAINTEXT://{nowhere}")]);
    broker.run(&["topics", "create", "orders"]);
    let lost = complaint(broker.produce(&["orders"], "line\n"));
    assert!(lost.contains(&nowhere) && lost.contains("advertised.listeners"), "{lost}");
    assert!(broker.complaint(&["consume", "orders"]).contains("advertised.listeners"));
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [&["topics"][..], &["produce"], &["consume", "orders", "--offset", "-5"], &["topics", "create"]] {
        assert_eq!(gannet(arguments).output().expect("our own binary").status.code(), Some(2), "{arguments:?}");
    }
    let version = gannet(&["--version"]).output().expect("our own binary");
    assert_eq!(version.stdout, format!("gannet {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
}

#[test]
fn the_files_of_a_stopped_broker_read_without_trouble_and_a_flipped_bit_is_found() {
    let mut broker = Broker::start(&["num.partitions=1"]);
    broker.run(&["topics", "create", "orders"]);
    assert!(broker.produce(&["orders", "--compression", "zstd"], "one\ntwo\nthree\n").status.success());
    assert!(end(&mut broker.child, Signal::SIGTERM).success());
    let segment = broker.directory.path().join("orders-0").join("00000000000000000000.log");
    let path = segment.to_str().expect("a path in UTF-8");
    let dump = |arguments: &[&str]| gannet(&[&["log", "dump"], arguments].concat()).output().expect("our own binary");
    let output = dump(&["--records", path]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("compresscodec: zstd") && text.contains("payload: three\n"), "{text}");
    let state = std::fs::read_dir(broker.directory.path().join(".gannet")).expect("the broker's own directory");
    let state = state.map(|entry| entry.expect("an entry").path().to_str().expect("a path in UTF-8").to_owned());
    let state: Vec<String> = state.filter(|path| path.contains("journal-") || path.contains("checkpoint-")).collect();
    let output = dump(&state.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let mut bytes = std::fs::read(&segment).expect("the segment");
    *bytes.iter_mut().rfind(|byte| **byte != 0).expect("it holds a batch") ^= 1;
    std::fs::write(&segment, bytes).expect("the segment");
    let trouble = complaint(dump(&[path]));
    assert!(trouble.contains("at position 0: CRC mismatch"), "{trouble}");
}
