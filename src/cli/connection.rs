//! Blocking connections to brokers: one request, one answer. `Client` finds the brokers; `pipeline.rs` carries many requests.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use super::failure::{Failure, code_of, describe};
use crate::client::{Cluster, Response, Session, Topic};
use crate::config::nearest;
use crate::error_code::ErrorCode;
use crate::protocol::metadata::MetadataRequestTopic;
use crate::protocol::{Message, MetadataRequest, MetadataResponse};
use crate::types::BrokerId;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A broker that takes longer for an answer than its own request time-outs allow is taken for dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Far above what a client here asks for; a "length" beyond it is some other protocol's greeting.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// Where a broker listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl FromStr for Address {
    type Err = String;

    /// `host:port`, `[v6]:port`, or a host alone for port 9092.
    fn from_str(text: &str) -> Result<Address, String> {
        let wrong = || format!("'{text}' is not HOST:PORT");
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
            Some(_) if !text.ends_with(']') => {
                return Err(format!("{}; write an IPv6 address as [{text}]:9092", wrong()));
            }
            _ => (text, "9092"),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        if host.is_empty() { Err(wrong()) } else { Ok(Address { host: host.to_owned(), port }) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// One connection that has learned what the broker speaks.
#[derive(Debug)]
pub struct Connection {
    pub address: Address,
    pub stream: TcpStream,
    pub session: Session,
}

impl Connection {
    /// The error names the address and what the operating system said, as the second half of a sentence.
    pub fn open(address: &Address) -> Result<Connection, String> {
        let stream = connect(address)?;
        let prepare = |stream: &TcpStream| {
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
            stream.set_read_timeout(Some(ANSWER_TIMEOUT))
        };
        prepare(&stream).map_err(|error| format!("{address}: {error}"))?;
        let mut connection = Connection { address: address.clone(), stream, session: Session::new("gannet-cli") };
        connection.hello().map_err(|reason| {
            format!("{address} took the connection but does not seem to speak Kafka's protocol without TLS: {reason}")
        })?;
        Ok(connection)
    }

    fn hello(&mut self) -> Result<(), String> {
        let mut question = Some(self.session.hello());
        while let Some(pieces) = question {
            write_all(&mut self.stream, &pieces).map_err(|error| lost(&error))?;
            let frame = read_frame(&mut self.stream).map_err(|error| lost(&error))?;
            question = self.session.on_hello(frame).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Asks and waits for the answer.
    pub fn call<'a, M: Message<'a>>(&mut self, request: &M) -> Result<Response, Failure> {
        let address = &self.address;
        let pieces = self.session.request(request);
        let pieces = pieces.map_err(|error| Failure::new(format_args!("the broker at {address}: {error}")))?;
        let answer = write_all(&mut self.stream, &pieces).and_then(|()| read_frame(&mut self.stream));
        let frame = answer.map_err(|error| {
            Failure::new(format_args!(
                "the broker at {address} did not answer {}: {}; its own log says why",
                M::NAME,
                lost(&error)
            ))
        })?;
        self.session.on_response(frame).map_err(|error| Failure::new(format_args!("the broker at {address}: {error}")))
    }
}

fn connect(address: &Address) -> Result<TcpStream, String> {
    let candidates = (&*address.host, address.port).to_socket_addrs();
    let candidates = candidates.map_err(|error| format!("the host name of {address} does not resolve: {error}"))?;
    let mut failed = format!("the host name of {address} resolves to no address");
    for candidate in candidates {
        match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                failed = format!("{address} refuses connections: no broker listens there");
            }
            Err(error) => failed = format!("{address} cannot be reached: {error}"),
        }
    }
    Err(failed)
}

/// What happened to a connection, in words.
pub fn lost(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("nothing came within {} s", ANSWER_TIMEOUT.as_secs())
        }
        _ => error.to_string(),
    }
}

pub fn write_all(stream: &mut TcpStream, pieces: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut slices = &mut slices[..];
    while !slices.is_empty() {
        match stream.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One whole frame without its length prefix. Memory grows with the bytes that come, not with the length that is claimed.
pub fn read_frame(stream: &mut impl Read) -> io::Result<Bytes> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|length| *length <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("its answer does not begin with a plausible length"))?;
    let mut frame = Vec::with_capacity(length.min(1 << 20));
    stream.take(length as u64).read_to_end(&mut frame)?;
    if frame.len() < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(frame.into()) }
}

/// The way into a cluster: a connection to whichever bootstrap server answers, and the brokers learned from it.
#[derive(Debug)]
pub struct Client {
    bootstrap: Vec<Address>,
    any: Connection,
    leaders: BTreeMap<BrokerId, Connection>,
    pub cluster: Cluster,
}

impl Client {
    pub fn connect(bootstrap: &[Address]) -> Result<Client, Failure> {
        let any = connect_any(bootstrap)?;
        let (leaders, cluster) = (BTreeMap::new(), Cluster::default());
        Ok(Client { bootstrap: bootstrap.to_vec(), any, leaders, cluster })
    }

    /// The broker that answers, for messages.
    pub fn address(&self) -> &Address {
        &self.any.address
    }

    /// Asks any broker.
    pub fn call<'a, M: Message<'a>>(&mut self, request: &M) -> Result<Response, Failure> {
        self.any.call(request)
    }

    /// Reads an answer of the broker that `call` asked.
    pub fn decode<'r, M: Message<'r>>(&self, response: &'r Response) -> Result<M, Failure> {
        decode(&self.any.address, response)
    }

    /// Learns brokers and topics anew; `None` asks for all topics. Connects again if the old connection is gone.
    pub fn refresh(&mut self, topics: Option<&[&str]>) -> Result<&Cluster, Failure> {
        let named = |name| MetadataRequestTopic { name: Some(name), ..Default::default() };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().copied().map(named).collect()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = match self.any.call(&request) {
            Ok(response) => response,
            Err(_) => {
                self.any = connect_any(&self.bootstrap)?;
                self.any.call(&request)?
            }
        };
        self.cluster = Cluster::of(&self.decode::<MetadataResponse>(&response)?);
        Ok(&self.cluster)
    }

    /// Learns one topic; if it is not there, says which one is near.
    pub fn topic(&mut self, name: &str) -> Result<Topic, Failure> {
        let cluster = self.refresh(Some(&[name]))?;
        if let Some(topic) = cluster.topics.get(name) {
            return Ok(topic.clone());
        }
        let code = cluster.errors.get(name).copied().unwrap_or(ErrorCode::UnknownTopicOrPartition);
        Err(self.without_topic(name, code))
    }

    /// What to say when a topic was answered with an error.
    pub fn without_topic(&mut self, name: &str, code: ErrorCode) -> Failure {
        let address = self.any.address.clone();
        if code != ErrorCode::UnknownTopicOrPartition {
            return Failure::new(format_args!("topic {name} on the broker at {address}: {}", describe(code, None)));
        }
        let hint = match self.nearest_topic(name) {
            Some(near) => format!("Did you mean {near}? Otherwise create it"),
            None => "Create it".to_owned(),
        };
        Failure::new(format_args!(
            "topic {name} does not exist on the broker at {address}. {hint} with: gannet topics create {name}{}",
            self.bootstrap_option()
        ))
    }

    /// The existing topic whose name is most like this one, if any is.
    pub fn nearest_topic(&mut self, name: &str) -> Option<String> {
        let topics = &self.refresh(None).ok()?.topics;
        nearest(name, topics.keys().map(String::as_str)).map(str::to_owned)
    }

    /// ` --bootstrap-server …` as the user gave it, for commands in messages; nothing where it is the default.
    pub fn bootstrap_option(&self) -> String {
        let servers: Vec<String> = self.bootstrap.iter().map(Address::to_string).collect();
        match servers.join(",") {
            servers if servers == "127.0.0.1:9092" => String::new(),
            servers => format!(" --bootstrap-server {servers}"),
        }
    }

    /// A new connection to the broker of this id, at the address it advertises.
    pub fn connect_to(&self, broker: BrokerId) -> Result<Connection, Failure> {
        let advertised = self.cluster.brokers.get(&broker);
        let advertised = advertised.ok_or_else(|| {
            Failure::new(format_args!("the broker at {} does not tell where broker {broker} is", self.any.address))
        })?;
        let address = Address { host: advertised.host.clone(), port: advertised.port };
        Connection::open(&address).map_err(|reason| match self.bootstrap.contains(&address) {
            true => unreachable(&reason),
            false => Failure::new(format_args!(
                "{reason}. {address} is what broker {broker} tells clients to connect to (we asked the one at {}): set \
                 advertised.listeners in its configuration to an address that this machine reaches",
                self.any.address
            )),
        })
    }

    /// Asks the broker of this id, over one connection that is kept.
    pub fn call_broker<'a, M: Message<'a>>(&mut self, broker: BrokerId, request: &M) -> Result<Response, Failure> {
        if !self.leaders.contains_key(&broker) {
            let connection = self.connect_to(broker)?;
            self.leaders.insert(broker, connection);
        }
        self.leaders.get_mut(&broker).expect("just inserted").call(request)
    }
}

/// Reads an answer, or says whose it was.
pub fn decode<'r, M: Message<'r>>(address: &Address, response: &'r Response) -> Result<M, Failure> {
    response.decode().map_err(|error| Failure::new(format_args!("the broker at {address}: {error}")))
}

/// An error at the top of a response, where it has one.
pub fn check(address: &Address, what: &str, error_code: i16) -> Result<(), Failure> {
    match code_of(error_code) {
        ErrorCode::None => Ok(()),
        code => Err(Failure::new(format_args!("the broker at {address} refused {what}: {}", describe(code, None)))),
    }
}

fn connect_any(bootstrap: &[Address]) -> Result<Connection, Failure> {
    let mut reasons = Vec::new();
    for address in bootstrap {
        match Connection::open(address) {
            Ok(connection) => return Ok(connection),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(unreachable(&reasons.join("; ")))
}

fn unreachable(reason: &str) -> Failure {
    Failure::new(format_args!(
        "{reason}. Start a broker with: gannet serve, or name another one with --bootstrap-server HOST:PORT"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let address = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        assert_eq!(address("kafka-1:9093").as_deref(), Ok("kafka-1:9093"));
        assert_eq!(address("kafka-1").as_deref(), Ok("kafka-1:9092"));
        assert_eq!(address("[::1]:19092").as_deref(), Ok("[::1]:19092"));
        assert_eq!(address("[::1]").as_deref(), Ok("[::1]:9092"));
        for wrong in ["", ":9092", "a:", "a:0", "a:65536", "a:b", "::1"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_frame_is_not_believed_beyond_the_bytes_that_come() {
        assert_eq!(&read_frame(&mut &[0, 0, 0, 2, 7, 8, 9][..]).unwrap()[..], [7, 8]);
        let cut = read_frame(&mut &[0, 0, 0, 3, 7][..]).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
        assert!(read_frame(&mut &b"HTTP/1.1 400 Bad Request"[..]).is_err());
        assert!(read_frame(&mut &[0xff; 8][..]).is_err());
    }
}
