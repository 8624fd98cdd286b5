//! Many requests in flight: one thread reads each connection, everything that happens arrives in one channel, and the
//! command's own thread alone decides and writes.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use nix::sys::signal::{SigSet, Signal};

use super::connection::{Client, Connection, lost, read_frame, write_all};
use super::failure::Failure;
use crate::client::Response;
use crate::protocol::Message;
use crate::types::{BrokerId, Deadline, Time};

/// What a command waits for.
#[derive(Debug)]
pub enum Happening {
    /// One whole answer.
    Frame { link: Link, frame: Bytes },
    /// The connection ended, and how.
    Lost { link: Link, reason: String },
    /// Whole lines of input, each with its end.
    Input(Vec<u8>),
    /// No more input, or why there is none.
    InputEnded(Result<(), String>),
    /// Ctrl-C, or a polite request to end.
    Interrupted,
}

/// One connection to a broker; the count tells it from earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    pub broker: BrokerId,
    count: u64,
}

/// The channel's ends, and time as the deciding side knows it.
#[derive(Debug)]
pub struct Happenings {
    pub sender: Sender<Happening>,
    receiver: Receiver<Happening>,
    start: Instant,
}

impl Happenings {
    pub fn new() -> Happenings {
        let (sender, receiver) = mpsc::channel();
        Happenings { sender, receiver, start: Instant::now() }
    }

    pub fn now(&self) -> Time {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Time { monotonic_us: self.start.elapsed().as_micros() as u64, wall_ms: wall.as_millis() as i64 }
    }

    /// The next happening, or `None` once the deadline has passed.
    pub fn wait(&self, deadline: Option<Deadline>) -> Option<Happening> {
        let Some(deadline) = deadline else {
            return Some(self.receiver.recv().expect("this value holds a sender itself"));
        };
        let wait_us = deadline.saturating_sub(self.now().monotonic_us);
        match self.receiver.recv_timeout(Duration::from_micros(wait_us)) {
            Ok(happening) => Some(happening),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => unreachable!("this value holds a sender itself"),
        }
    }

    /// From now on Ctrl-C and SIGTERM arrive as happenings; a second one ends the process at once. To be called before any
    /// other thread is started, since threads inherit which signals they leave alone.
    pub fn watch_signals(&self) -> Result<(), Failure> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block().map_err(|error| Failure::new(format_args!("cannot watch for Ctrl-C: {error}")))?;
        let sender = self.sender.clone();
        thread::spawn(move || {
            let _ = signals.wait();
            let _ = sender.send(Happening::Interrupted);
            let _ = signals.wait();
            std::process::exit(130);
        });
        Ok(())
    }
}

/// The connections of one command to the brokers that lead its partitions.
#[derive(Debug)]
pub struct Pipelines {
    sender: Sender<Happening>,
    open: BTreeMap<BrokerId, (Link, Connection)>,
    count: u64,
}

impl Pipelines {
    pub fn new(happenings: &Happenings) -> Pipelines {
        Pipelines { sender: happenings.sender.clone(), open: BTreeMap::new(), count: 0 }
    }

    /// Connects unless connected.
    pub fn connect(&mut self, client: &Client, broker: BrokerId) -> Result<(), Failure> {
        if self.open.contains_key(&broker) {
            return Ok(());
        }
        let connection = client.connect_to(broker)?;
        let stream = connection.stream.try_clone();
        let mut stream = stream.map_err(|error| Failure::new(format_args!("{}: {error}", connection.address)))?;
        // How long an answer may take is the deciding side's question.
        let _ = stream.set_read_timeout(None);
        self.count += 1;
        let link = Link { broker, count: self.count };
        let (sender, address) = (self.sender.clone(), connection.address.clone());
        thread::spawn(move || {
            loop {
                let happening = match read_frame(&mut stream) {
                    Ok(frame) => Happening::Frame { link, frame },
                    Err(error) => {
                        Happening::Lost { link, reason: format!("the broker at {address}: {}", lost(&error)) }
                    }
                };
                let is_end = matches!(happening, Happening::Lost { .. });
                if sender.send(happening).is_err() || is_end {
                    return;
                }
            }
        });
        self.open.insert(broker, (link, connection));
        Ok(())
    }

    /// Sends a request to a connected broker. Where that fails, `Lost` follows from the reading side.
    pub fn send<'a, M: Message<'a>>(&mut self, broker: BrokerId, request: &M, answered: bool) -> Result<(), Failure> {
        let (_, connection) = self.open.get_mut(&broker).expect("connect comes first");
        let session = &mut connection.session;
        let pieces = if answered { session.request(request) } else { session.request_unanswered(request) };
        let pieces =
            pieces.map_err(|error| Failure::new(format_args!("the broker at {}: {error}", connection.address)))?;
        if write_all(&mut connection.stream, &pieces).is_err() {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
        Ok(())
    }

    /// Matches a frame to its request; `None` if it comes from a connection that was given up.
    pub fn on_frame(&mut self, link: Link, frame: Bytes) -> Result<Option<Response>, Failure> {
        match self.open.get_mut(&link.broker) {
            Some((open, connection)) if *open == link => {
                let response = connection.session.on_response(frame);
                let failed = |error| Failure::new(format_args!("the broker at {}: {error}", connection.address));
                response.map(Some).map_err(failed)
            }
            _ => Ok(None),
        }
    }

    /// Whether this was the present connection to its broker, which is now forgotten.
    pub fn on_lost(&mut self, link: Link) -> bool {
        let is_present = self.open.get(&link.broker).is_some_and(|(open, _)| *open == link);
        if is_present {
            self.close(link.broker);
        }
        is_present
    }

    /// Gives a connection up; what it still brings is passed over.
    pub fn close(&mut self, broker: BrokerId) {
        if let Some((_, connection)) = self.open.remove(&broker) {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        let brokers: Vec<BrokerId> = self.open.keys().copied().collect();
        brokers.into_iter().for_each(|broker| self.close(broker));
    }
}
