//! One broker process on a free loopback port with a directory of its own; it dies with the value.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

pub struct Broker {
    pub port: u16,
    pub directory: PathBuf,
    overrides: Vec<String>,
    child: Option<Child>,
    prepare: fn(&mut Command),
    _keep: Option<tempfile::TempDir>,
}

/// How long anything here may take before the test calls it a hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl Broker {
    pub fn start(overrides: &[&str]) -> Broker {
        let keep = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the test");
        let directory = keep.path().to_path_buf();
        Broker::start_in(&directory, overrides, Some(keep))
    }

    /// At a port of the test's choice.
    pub fn start_at(port: u16, overrides: &[&str]) -> Broker {
        let keep = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the test");
        let directory = keep.path().to_path_buf();
        let mut broker = Broker::idle(&directory, port, overrides, Some(keep));
        broker.restart();
        broker
    }

    /// With something done to the process before it begins.
    pub fn start_as(overrides: &[&str], prepare: fn(&mut Command)) -> Broker {
        let keep = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the test");
        let directory = keep.path().to_path_buf();
        let mut broker = Broker::idle(&directory, free_port(), overrides, Some(keep));
        broker.prepare = prepare;
        broker.restart();
        broker
    }

    /// Started by a command of the test's own.
    pub fn start_command(directory: &Path, port: u16, command: Command) -> Broker {
        let mut broker = Broker::idle(directory, port, &[], None);
        broker.launch(command);
        broker
    }

    fn idle(directory: &Path, port: u16, overrides: &[&str], keep: Option<tempfile::TempDir>) -> Broker {
        let overrides = overrides.iter().map(|text| text.to_string()).collect();
        let directory = directory.to_path_buf();
        Broker { port, directory, overrides, child: None, prepare: |_| {}, _keep: keep }
    }

    pub fn start_in(directory: &Path, overrides: &[&str], keep: Option<tempfile::TempDir>) -> Broker {
        let mut broker = Broker::idle(directory, free_port(), overrides, keep);
        broker.restart();
        broker
    }

    pub fn restart(&mut self) {
        let mut command = self.serve_command();
        (self.prepare)(&mut command);
        self.launch(command);
    }

    pub fn serve_command(&self) -> Command {
        serve(&self.directory, self.port, &self.overrides)
    }

    fn launch(&mut self, mut command: Command) {
        assert!(self.child.is_none());
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log).spawn();
        self.child = Some(child.expect("the broker's binary"));
        let begin = Instant::now();
        while !self.answers() {
            let ended = self.child.as_mut().expect("just started").try_wait().expect("a child");
            assert!(ended.is_none(), "the broker ended at its start:\n{}", self.log());
            assert!(begin.elapsed() < PATIENCE, "the broker does not listen:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// It listens and answers ApiVersions.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address()) else { return false };
        stream.set_read_timeout(Some(PATIENCE)).is_ok() && exchange(&mut stream, API_VERSIONS).is_ok()
    }

    /// Of the same key, the last one counts.
    pub fn set_override(&mut self, text: &str) {
        self.overrides.push(text.to_owned());
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it has ended");
    }

    pub fn terminate(&mut self) -> ExitStatus {
        let pid = nix::unistd::Pid::from_raw(self.pid() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it can be asked to stop");
        self.wait()
    }

    /// Until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                return status;
            }
            if begin.elapsed() > PATIENCE {
                child.kill().expect("it can be killed");
                panic!("the broker does not end:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.with_extension("log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    }

    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.address())
            .set("reconnect.backoff.ms", "10")
            .set("reconnect.backoff.max.ms", "100")
            .set("retry.backoff.ms", "10")
            .set("topic.metadata.refresh.fast.interval.ms", "20");
        config
    }

    pub fn create_topic(&self, name: &str, partitions: i32) {
        self.gannet(&["topics", "create", name, "--partitions", &partitions.to_string()]);
    }

    /// Runs one of our own command lines against this broker; returns what it printed.
    pub fn gannet(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_gannet"))
            .args(arguments)
            .args(["--bootstrap-server", &self.address()])
            .output()
            .expect("our own binary");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Everything in a partition, by a consumer that nobody here wrote.
    pub fn read_all(&self, topic: &str, partition: i32) -> Vec<(i64, Vec<u8>)> {
        let mut config = self.client();
        config.set("group.id", "unused").set("enable.auto.commit", "false").set("enable.partition.eof", "false");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE).expect("watermarks");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(low)).expect("an assignment");
        consumer.assign(&list).expect("an assignment");
        let mut records = Vec::new();
        while records.last().map_or(low, |(offset, _)| offset + 1) < high {
            let message = consumer.poll(PATIENCE).expect("a record before patience ends");
            let message = message.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
            records.push((message.offset(), message.payload().unwrap_or_default().to_vec()));
        }
        records
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(self.log_path());
    }
}

/// `gannet serve` with small journals, so that files are recycled and starts are quick.
pub fn serve(directory: &Path, port: u16, overrides: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gannet"));
    command.arg("serve").arg("--dev").stdin(Stdio::null());
    let fixed = [
        format!("log.dirs={}", directory.display()),
        format!("listeners=PLAINTEXT://127.0.0.1:{port}"),
        "gannet.journal.bytes=16777216".to_owned(),
        "gannet.commit.method=thread".to_owned(),
        "auto.create.topics.enable=false".to_owned(),
    ];
    for text in fixed.iter().chain(overrides) {
        command.arg("--override").arg(text);
    }
    command
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// ApiVersions 0: a header without a body.
pub const API_VERSIONS: &[u8] = &[0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];

/// Sends one frame and reads one, both without their length prefixes.
pub fn exchange(stream: &mut TcpStream, frame: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(&(frame.len() as u32).to_be_bytes())?;
    stream.write_all(frame)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut response = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut response)?;
    Ok(response)
}
