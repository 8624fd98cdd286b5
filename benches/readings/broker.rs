//! The broker under measurement: one process on a free loopback port, with a directory of its own. It dies with the value.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Bench;
use crate::machine::{Usage, unpin};
use crate::wire::{Connection, Topic};

/// How long a start or a stop may take before it is called a hang.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Broker {
    pub port: u16,
    directory: PathBuf,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    /// Where it may run; of these it takes one if it is not told otherwise.
    cores: Vec<usize>,
    child: Option<Child>,
}

/// What the broker counted, summed over its cores: see `gannet::metrics`.
#[derive(Debug, Default)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Zero where nothing was counted; not a number where the broker told nothing at all.
    pub fn get(&self, name: &str) -> f64 {
        match self.0.is_empty() {
            true => f64::NAN,
            false => self.0.get(name).copied().unwrap_or(0) as f64,
        }
    }
}

impl Broker {
    /// Starts on an empty directory, on one core.
    pub fn start(bench: &Bench, overrides: &[&str]) -> io::Result<Broker> {
        Broker::start_in(bench, overrides, Vec::new())
    }

    /// The same with this in its environment.
    pub fn start_in(bench: &Bench, overrides: &[&str], environment: Vec<(String, String)>) -> io::Result<Broker> {
        let directory = bench.directory.path().join("data");
        let _ = std::fs::remove_dir_all(&directory);
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let fixed = [
            format!("log.dirs={}", directory.display()),
            format!("listeners=PLAINTEXT://127.0.0.1:{port}"),
            format!("gannet.cores={},", bench.broker_core),
            "gannet.stop.timeout.ms=40000".to_owned(),
        ];
        let overrides = overrides.iter().map(|text| text.to_string()).chain(bench.overrides.iter().cloned());
        let overrides = fixed.into_iter().chain(overrides);
        let mut command = vec![binary(), "serve".into(), "--log-level".into(), "debug".into()];
        command.extend(overrides.flat_map(|text| ["--override".into(), text]));
        let mut broker = Broker { port, directory, command, environment, cores: bench.cores.clone(), child: None };
        broker.start_again()?;
        Ok(broker)
    }

    /// The same broker on what is in its directory; how long it took until it answered a request.
    pub fn start_again(&mut self) -> io::Result<Duration> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        unpin(&self.cores);
        let begin = Instant::now();
        let mut command = Command::new(&self.command[0]);
        command.envs(self.environment.iter().cloned());
        command.args(&self.command[1..]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        loop {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                && self.connect().and_then(|mut connection| connection.is_ready()).unwrap_or(false)
            {
                return Ok(begin.elapsed());
            }
            let ended = self.child.as_mut().expect("just started").try_wait()?;
            if ended.is_some() || begin.elapsed() > PATIENCE {
                let log = self.log();
                let last = log.lines().last().unwrap_or("it says nothing");
                return Err(io::Error::other(format!("the broker does not start: {last}")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn connect(&self) -> io::Result<Connection> {
        Connection::open(self.port)
    }

    pub fn create_topic(&self, partitions: i32, configs: &[(&str, &str)]) -> io::Result<Topic> {
        self.connect()?.create_topic("readings", partitions, configs)
    }

    pub fn usage(&self) -> Usage {
        Usage::of(self.pid())
    }

    /// Memory that it has in use, and that is not on a disk.
    pub fn resident_bytes(&self) -> u64 {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap_or_default();
        pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn kill(&mut self) -> io::Result<()> {
        let mut child = self.child.take().expect("it runs");
        child.kill()?;
        child.wait().map(drop)
    }

    /// In order: everything is written back, and it tells what it counted since its start.
    pub fn stop(&mut self) -> io::Result<Counters> {
        let before = self.log().len();
        kill(Pid::from_raw(self.pid() as i32), Signal::SIGTERM)?;
        let begin = Instant::now();
        let child = self.child.as_mut().expect("it runs");
        while child.try_wait()?.is_none() {
            if begin.elapsed() > PATIENCE {
                let said = self.log()[before..].to_owned();
                return Err(io::Error::other(format!("the broker does not stop; since it was asked it said: {said}")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.child = None;
        Ok(counters(&self.log()[before..]))
    }

    fn log_path(&self) -> PathBuf {
        self.directory.with_extension("log")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// What is measured.
pub fn binary() -> String {
    std::env::var("GANNET").unwrap_or_else(|_| env!("CARGO_BIN_EXE_gannet").to_owned())
}

/// The lines `name number` that stand below "counted since the start".
fn counters(log: &str) -> Counters {
    let told = log.split_once("counted since the start:").map_or("", |(_, told)| told);
    let pair = |line: &str| {
        let (name, count) = line.trim().split_once(' ')?;
        Some((name.to_owned(), count.trim().parse().ok()?))
    };
    Counters(told.lines().filter_map(pair).collect())
}
