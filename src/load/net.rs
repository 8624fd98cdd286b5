//! The generator's sockets: one epoll per thread, connections that never block it, frames in and out. Nothing here knows
//! what a request means.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::{Domain, Protocol, Socket, Type};

use crate::client::{Response, Session};
use crate::protocol::Message;
use crate::types::{BrokerId, Time};

/// Far above what a client here asks for; a "length" beyond it is some other protocol's greeting.
const FRAME_BYTES_MAX: usize = 1 << 30;
/// What one read takes: answers to produce requests by the dozen, a fetch in few.
const SCRATCH_BYTES: usize = 256 << 10;
/// After a frame of so many bytes the next one is expected to be no smaller: only its beginning is read elsewhere first.
const LARGE_FRAME_BYTES: usize = 64 << 10;
const FIRST_READ_BYTES: usize = 4 << 10;
/// Room that is made for a frame on its own word; more as it comes.
const TRUSTED_FRAME_BYTES: usize = 64 << 20;
const PIECES_PER_WRITE: usize = 64;
/// How long a connection may take until the broker has said its versions.
const CONNECT_TIMEOUT_NS: u64 = 10_000_000_000;
const RECONNECT_BACKOFF_NS: u64 = 100_000_000;

/// Time since the run began, on one clock for all threads.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    pub fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    pub fn time(now_ns: u64) -> Time {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Time { monotonic_us: now_ns / 1000, wall_ms: wall.as_millis() as i64 }
    }
}

/// Waits for sockets, and for a moment with the precision of the clock.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    timer: TimerFd,
    /// When the timer fires.
    armed_ns: u64,
    events: Vec<EpollEvent>,
    pub scratch: Vec<u8>,
}

const TIMER: u64 = u64::MAX;

impl Poller {
    pub fn new() -> io::Result<Poller> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TIMER))?;
        Ok(Poller {
            epoll,
            timer,
            armed_ns: 0,
            events: vec![EpollEvent::empty(); 256],
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    /// Tokens of the sockets on which something happened, until then.
    pub fn wait(&mut self, now_ns: u64, until_ns: u64, tokens: &mut Vec<u64>) -> io::Result<()> {
        let mut timeout = EpollTimeout::ZERO;
        let wait_ns = until_ns.saturating_sub(now_ns);
        if wait_ns > 0 {
            // A socket that ended the last wait has left the timer as it was.
            if self.armed_ns <= now_ns || self.armed_ns > until_ns {
                let wait = TimeSpec::from(Duration::from_nanos(wait_ns));
                self.timer.set(Expiration::OneShot(wait), TimerSetTimeFlags::empty())?;
                self.armed_ns = until_ns;
            }
            // The timer ends the wait; should it fail to, so does this.
            timeout = EpollTimeout::try_from(Duration::from_nanos(wait_ns) + Duration::from_secs(1)).unwrap_or(timeout);
        }
        let count = match self.epoll.wait(&mut self.events, timeout) {
            Err(nix::errno::Errno::EINTR) => 0,
            other => other?,
        };
        tokens.extend(self.events[..count].iter().map(|event| event.data()).filter(|token| *token != TIMER));
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Until the broker has said its versions.
    Opening {
        since_ns: u64,
    },
    Ready,
}

/// One connection to a broker.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    session: Session,
    state: State,
    is_connected: bool,
    out: VecDeque<Bytes>,
    prefix: [u8; 4],
    prefix_filled: usize,
    /// The frame that has not come whole: `filled` bytes of `length` are there. No length while the prefix is not whole.
    frame: BytesMut,
    filled: usize,
    length: usize,
    /// A frame that is done with: the next one takes its place.
    spare: BytesMut,
    last_length: usize,
}

impl Link {
    fn open(address: SocketAddr, client_id: &str, poller: &Poller, token: u64, now_ns: u64) -> io::Result<Link> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let stream: TcpStream = socket.into();
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        poller.epoll.add(&stream, EpollEvent::new(interest, token))?;
        let mut session = Session::new(client_id);
        let out = session.hello().into();
        let state = State::Opening { since_ns: now_ns };
        Ok(Link {
            stream,
            session,
            state,
            is_connected: false,
            out,
            prefix: [0; 4],
            prefix_filled: 0,
            frame: BytesMut::new(),
            filled: 0,
            length: 0,
            spare: BytesMut::new(),
            last_length: 0,
        })
    }

    pub fn send<'a, M: Message<'a>>(&mut self, request: &M, answered: bool) -> Result<(), String> {
        let session = &mut self.session;
        let pieces = if answered { session.request(request) } else { session.request_unanswered(request) };
        self.out.extend(pieces.map_err(|error| error.to_string())?);
        self.flush().map_err(|error| lost(&error))
    }

    /// Bytes that the socket does not take yet wait in memory; the client's own limits bound them.
    fn flush(&mut self) -> io::Result<()> {
        while self.is_connected && !self.out.is_empty() {
            let slices: Vec<IoSlice> =
                self.out.iter().take(PIECES_PER_WRITE).map(|piece| IoSlice::new(piece)).collect();
            let mut written = match self.stream.write_vectored(&slices) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            while let Some(front) = self.out.front_mut().filter(|_| written > 0) {
                let taken = written.min(front.len());
                written -= taken;
                if taken < front.len() {
                    let _ = front.split_to(taken);
                } else {
                    self.out.pop_front();
                }
            }
            while self.out.front().is_some_and(Bytes::is_empty) {
                self.out.pop_front();
            }
        }
        Ok(())
    }

    /// Something happened on the socket: writes what waits, gives every whole frame to `take`.
    fn on_event(&mut self, scratch: &mut [u8], responses: &mut Vec<Response>) -> Result<(), String> {
        if !self.is_connected {
            if let Some(error) = self.stream.take_error().map_err(|error| error.to_string())? {
                return Err(lost(&error));
            }
            if self.stream.peer_addr().is_err() {
                return Ok(());
            }
            self.is_connected = true;
        }
        self.flush().map_err(|error| lost(&error))?;
        loop {
            // What is missing of a frame goes straight into its place, what follows it into the scratch.
            let missing = self.length.min(self.frame.len()) - self.filled;
            let elsewhere = match self.last_length {
                LARGE_FRAME_BYTES.. if missing == 0 => FIRST_READ_BYTES,
                _ => scratch.len(),
            };
            let (at, room) = (self.filled, missing + elsewhere);
            let mut slices =
                [IoSliceMut::new(&mut self.frame[at..at + missing]), IoSliceMut::new(&mut scratch[..elsewhere])];
            match self.stream.read_vectored(&mut slices) {
                Ok(0) => return Err("it closed the connection".into()),
                Ok(count) => {
                    self.filled += count.min(missing);
                    self.go_on_with_frame(responses)?;
                    self.take_frames(&scratch[..count.saturating_sub(missing)], responses)?;
                    // What fills less than there was room for has emptied the socket: epoll tells of the next.
                    if count < room {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(&error)),
            }
        }
    }

    fn take_frames(&mut self, mut bytes: &[u8], responses: &mut Vec<Response>) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.length == 0 {
                let (prefix, rest) = bytes.split_at((4 - self.prefix_filled).min(bytes.len()));
                self.prefix[self.prefix_filled..][..prefix.len()].copy_from_slice(prefix);
                self.prefix_filled += prefix.len();
                bytes = rest;
                if self.prefix_filled < 4 {
                    return Ok(());
                }
                self.begin_frame()?;
            }
            let (part, rest) = bytes.split_at((self.frame.len() - self.filled).min(bytes.len()));
            self.frame[self.filled..][..part.len()].copy_from_slice(part);
            self.filled += part.len();
            bytes = rest;
            self.go_on_with_frame(responses)?;
        }
        Ok(())
    }

    fn begin_frame(&mut self) -> Result<(), String> {
        let length = usize::try_from(i32::from_be_bytes(self.prefix)).ok();
        let sound = length.filter(|length| (4..=FRAME_BYTES_MAX).contains(length));
        self.length =
            sound.ok_or("its answer does not begin with a plausible length: is this a Kafka listener without TLS?")?;
        (self.prefix_filled, self.filled) = (0, 0);
        let room = self.length.min(TRUSTED_FRAME_BYTES);
        self.frame = std::mem::take(&mut self.spare);
        if self.frame.capacity() < room {
            self.frame = BytesMut::zeroed(room);
        }
        self.frame.resize(room, 0);
        Ok(())
    }

    fn go_on_with_frame(&mut self, responses: &mut Vec<Response>) -> Result<(), String> {
        if self.length > 0 && self.filled == self.length {
            return self.end_frame(responses);
        }
        if self.filled == self.frame.len() {
            self.frame.resize(self.length.min(2 * self.filled), 0);
        }
        Ok(())
    }

    fn end_frame(&mut self, responses: &mut Vec<Response>) -> Result<(), String> {
        (self.last_length, self.length, self.filled) = (self.length, 0, 0);
        let frame = std::mem::take(&mut self.frame).freeze();
        match self.state {
            State::Opening { .. } => match self.session.on_hello(frame).map_err(|error| error.to_string())? {
                Some(again) => {
                    self.out.extend(again);
                    self.flush().map_err(|error| lost(&error))?;
                }
                None => self.state = State::Ready,
            },
            State::Ready => responses.push(self.session.on_response(frame).map_err(|error| error.to_string())?),
        }
        Ok(())
    }
}

/// What happened to a connection, in words.
pub fn lost(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "it refuses connections: no broker listens there".into(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "it broke the connection off".into(),
        _ => error.to_string(),
    }
}

/// The connections of one client to the brokers that lead something of it.
#[derive(Debug)]
pub struct Links {
    /// In the tokens: which client of this thread it is.
    client: u32,
    client_id: String,
    addresses: BTreeMap<BrokerId, SocketAddr>,
    open: BTreeMap<BrokerId, Link>,
    /// After a loss: when to try again.
    not_before_ns: BTreeMap<BrokerId, u64>,
}

impl Links {
    pub fn new(client: u32, client_id: String, addresses: BTreeMap<BrokerId, SocketAddr>) -> Links {
        Links { client, client_id, addresses, open: BTreeMap::new(), not_before_ns: BTreeMap::new() }
    }

    /// Of a token: the client it belongs to, and the broker.
    pub fn parts(token: u64) -> (usize, BrokerId) {
        ((token >> 32) as usize, token as u32 as BrokerId)
    }

    pub fn set_addresses(&mut self, addresses: BTreeMap<BrokerId, SocketAddr>) {
        self.addresses = addresses;
    }

    /// A connection that can take requests. Begins to connect where there is none; `Err` tells why one was lost.
    pub fn ready(&mut self, poller: &Poller, now_ns: u64, broker: BrokerId) -> Result<Option<&mut Link>, String> {
        let is_late = |link: &Link| match link.state {
            State::Opening { since_ns } => now_ns.saturating_sub(since_ns) > CONNECT_TIMEOUT_NS,
            State::Ready => false,
        };
        if self.open.get(&broker).is_some_and(is_late) {
            self.close(broker, now_ns);
            return Err(format!("nothing came within {} s of connecting", CONNECT_TIMEOUT_NS / 1_000_000_000));
        }
        if !self.open.contains_key(&broker) {
            let Some(address) = self.addresses.get(&broker) else { return Ok(None) };
            if self.not_before_ns.get(&broker).is_some_and(|not_before| now_ns < *not_before) {
                return Ok(None);
            }
            let token = u64::from(self.client) << 32 | u64::from(broker as u32);
            match Link::open(*address, &self.client_id, poller, token, now_ns) {
                Ok(link) => self.open.insert(broker, link),
                Err(error) => {
                    self.close(broker, now_ns);
                    return Err(lost(&error));
                }
            };
        }
        Ok(self.open.get_mut(&broker).filter(|link| link.state == State::Ready))
    }

    /// Any connection that can take requests.
    pub fn any_ready(&mut self) -> Option<(BrokerId, &mut Link)> {
        let mut ready = self.open.iter_mut().filter(|(_, link)| link.state == State::Ready);
        ready.next().map(|(broker, link)| (*broker, link))
    }

    /// The address of a broker, for messages.
    pub fn name(&self, broker: BrokerId) -> String {
        match self.addresses.get(&broker) {
            Some(address) => format!("broker {broker} at {address}"),
            None => format!("broker {broker}"),
        }
    }

    pub fn on_event(
        &mut self,
        broker: BrokerId,
        scratch: &mut [u8],
        responses: &mut Vec<Response>,
    ) -> Result<(), String> {
        self.open.get_mut(&broker).map_or(Ok(()), |link| link.on_event(scratch, responses))
    }

    /// A response that nobody needs any more: the next frame takes its place in memory, if nothing of it is kept.
    pub fn recycle(&mut self, broker: BrokerId, response: Response) {
        if let Some(link) = self.open.get_mut(&broker)
            && let Ok(buffer) = response.into_frame().try_into_mut()
            && buffer.capacity() > link.spare.capacity()
        {
            link.spare = buffer;
        }
    }

    pub fn close(&mut self, broker: BrokerId, now_ns: u64) {
        self.open.remove(&broker);
        self.not_before_ns.insert(broker, now_ns + RECONNECT_BACKOFF_NS);
    }

    /// When a lost connection may be tried again, or one that opens is late.
    pub fn next_ns(&self) -> Option<u64> {
        let retries = self.not_before_ns.iter().filter(|(broker, _)| !self.open.contains_key(broker));
        let opening = self.open.values().filter_map(|link| match link.state {
            State::Opening { since_ns } => Some(since_ns + CONNECT_TIMEOUT_NS + 1),
            State::Ready => None,
        });
        retries.map(|(_, not_before)| *not_before).chain(opening).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::api_versions::ApiVersion;
    use crate::protocol::metadata::MetadataResponseTopic;
    use crate::protocol::{ApiVersionsResponse, MetadataRequest, MetadataResponse, response_writer};
    use std::net::TcpListener;

    /// The frame that a broker would send, with its length.
    fn frame<'a, M: Message<'a>>(response: &M, version: i16, correlation_id: i32) -> Bytes {
        let mut writer = response_writer(M::KEY, version, correlation_id);
        response.encode_message(&mut writer, version);
        writer.into_bytes()
    }

    fn pump(links: &mut Links, poller: &mut Poller, until: impl Fn(&mut Links, &[Response]) -> bool) -> Vec<Response> {
        let (mut tokens, mut responses) = (Vec::new(), Vec::new());
        for turn in 0..10_000 {
            poller.wait(turn * 10_000_000, (turn + 1) * 10_000_000, &mut tokens).unwrap();
            let mut scratch = std::mem::take(&mut poller.scratch);
            for token in tokens.drain(..) {
                links.on_event(Links::parts(token).1, &mut scratch, &mut responses).unwrap();
            }
            poller.scratch = scratch;
            if until(links, &responses) {
                return responses;
            }
        }
        panic!("it never comes");
    }

    #[test]
    fn a_link_opens_asks_and_takes_frames_in_any_pieces() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = BTreeMap::from([(1, listener.local_addr().unwrap())]);
        let name = "x".repeat(30_000);
        let topic = || MetadataResponseTopic { name: Some(&name), ..Default::default() };
        let big = MetadataResponse { topics: (0..40).map(|_| topic()).collect(), ..Default::default() };
        let answers = [frame(&big, 9, 1), frame(&MetadataResponse::default(), 9, 2)].concat();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = |stream: &mut TcpStream| {
                let mut length = [0; 4];
                stream.read_exact(&mut length).unwrap();
                stream.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize]).unwrap();
            };
            request(&mut stream);
            let apis = vec![ApiVersion { api_key: 3, min_version: 0, max_version: 9 }];
            let hello = ApiVersionsResponse { api_keys: apis, ..Default::default() };
            stream.write_all(&frame(&hello, 4, 0)).unwrap();
            (0..2).for_each(|_| request(&mut stream));
            for piece in answers.chunks(100_000) {
                stream.write_all(piece).unwrap();
            }
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
        });
        let mut poller = Poller::new().unwrap();
        let mut links = Links::new(0, "test".into(), addresses);
        assert!(links.ready(&poller, 0, 1).unwrap().is_none());
        pump(&mut links, &mut poller, |links, _| links.any_ready().is_some());
        let link = links.ready(&poller, 0, 1).unwrap().expect("it has said its versions");
        link.send(&MetadataRequest::default(), true).unwrap();
        link.send(&MetadataRequest::default(), true).unwrap();
        let responses = pump(&mut links, &mut poller, |_, responses| responses.len() == 2);
        assert_eq!(responses[0].decode(), Ok(big.clone()));
        assert_eq!(responses[1].decode(), Ok(MetadataResponse::default()));
        drop(links);
        server.join().unwrap();
    }

    #[test]
    fn a_refused_connection_is_told_and_tried_again_later() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut poller = Poller::new().unwrap();
        let mut links = Links::new(3, "test".into(), BTreeMap::from([(1, address)]));
        let mut told = links.ready(&poller, 0, 1).err();
        let mut tokens = Vec::new();
        for turn in 0..10_000 {
            if told.is_some() {
                break;
            }
            poller.wait(turn * 10_000_000, (turn + 1) * 10_000_000, &mut tokens).unwrap();
            let mut scratch = vec![0; 10];
            for token in tokens.drain(..) {
                assert_eq!(Links::parts(token), (3, 1));
                told = links.on_event(1, &mut scratch, &mut Vec::new()).err();
            }
        }
        assert!(told.unwrap().contains("refuses connections"));
        links.close(1, 5);
        assert_eq!(links.next_ns(), Some(5 + RECONNECT_BACKOFF_NS));
        assert!(links.ready(&poller, 6, 1).unwrap().is_none());
        assert_eq!(links.next_ns(), Some(5 + RECONNECT_BACKOFF_NS));
    }
}
