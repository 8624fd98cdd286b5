//! Before the load: finds the cluster, its topics and their ends, and gets the producers their identities. Blocking, one
//! question at a time; nothing here is measured.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::net::lost;
use super::plan::{Place, Plan};
use crate::client::{Cluster, Response, Session};
use crate::config::nearest;
use crate::error_code::ErrorCode;
use crate::protocol::create_topics::{CreatableTopic, CreatableTopicConfig};
use crate::protocol::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use crate::protocol::metadata::MetadataRequestTopic;
use crate::protocol::{
    CreateTopicsRequest, CreateTopicsResponse, InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, Message, MetadataRequest, MetadataResponse,
};
use crate::types::{BrokerId, Offset, ProducerEpoch, ProducerId};

const TIMEOUT: Duration = Duration::from_secs(10);
const FRAME_BYTES_MAX: u64 = 256 << 20;
/// How long a new topic may take until every partition has a leader.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(50);

/// A connection that asks one question at a time.
#[derive(Debug)]
pub struct Asker {
    address: String,
    stream: TcpStream,
    session: Session,
}

impl Asker {
    pub fn connect(address: &str) -> Result<Asker, String> {
        let with_port = match address.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => address.to_owned(),
            _ => format!("{address}:9092"),
        };
        let resolved = with_port.to_socket_addrs();
        let resolved = resolved.map_err(|error| format!("the host name of {with_port} does not resolve: {error}"))?;
        let mut reason = format!("the host name of {with_port} resolves to no address");
        for candidate in resolved {
            match TcpStream::connect_timeout(&candidate, TIMEOUT) {
                Ok(stream) => return Asker::open(with_port, stream),
                Err(error) => reason = format!("{with_port}: {}", lost(&error)),
            }
        }
        Err(reason)
    }

    fn open(address: String, stream: TcpStream) -> Result<Asker, String> {
        let mut asker = Asker { address, stream, session: Session::new("gannet-load") };
        let mut hello = || -> Result<(), String> {
            let io = |error: io::Error| unanswered(&error);
            asker.stream.set_nodelay(true).map_err(io)?;
            asker.stream.set_read_timeout(Some(TIMEOUT)).map_err(io)?;
            asker.stream.set_write_timeout(Some(TIMEOUT)).map_err(io)?;
            let mut question = Some(asker.session.hello());
            while let Some(pieces) = question {
                let frame = asker.exchange(&pieces).map_err(io)?;
                question = asker.session.on_hello(frame).map_err(|error| error.to_string())?;
            }
            Ok(())
        };
        let outcome = hello();
        let address = &asker.address;
        outcome.map_err(|reason| {
            format!("{address} takes connections and does not answer as a Kafka broker without TLS does: {reason}")
        })?;
        Ok(asker)
    }

    fn exchange(&mut self, pieces: &[Bytes]) -> io::Result<Bytes> {
        self.stream.write_all(&pieces.concat())?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u64::from(u32::from_be_bytes(length));
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::other("its answer does not begin with a plausible length"));
        }
        let mut frame = Vec::new();
        (&mut self.stream).take(length).read_to_end(&mut frame)?;
        if (frame.len() as u64) < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(frame.into()) }
    }

    fn ask<'a, M: Message<'a>>(&mut self, request: &M) -> Result<Response, String> {
        let pieces =
            self.session.request(request).map_err(|error| format!("the broker at {}: {error}", self.address))?;
        let frame = self.exchange(&pieces);
        let frame = frame.map_err(|error| {
            let reason = unanswered(&error);
            format!("the broker at {} did not answer {}: {reason}", self.address, M::NAME)
        })?;
        self.session.on_response(frame).map_err(|error| format!("the broker at {}: {error}", self.address))
    }

    fn read<'r, M: Message<'r>>(&self, response: &'r Response) -> Result<M, String> {
        response.decode().map_err(|error| format!("the broker at {}: {error}", self.address))
    }

    fn metadata(&mut self, topics: Option<&[String]>) -> Result<(Cluster, String), String> {
        let named = |name| MetadataRequestTopic { name: Some(name), ..Default::default() };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(|topic| named(topic.as_str())).collect()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = self.ask(&request)?;
        let metadata: MetadataResponse = self.read(&response)?;
        Ok((Cluster::of(&metadata), metadata.cluster_id.unwrap_or("").to_owned()))
    }
}

/// Why no answer came, in words.
fn unanswered(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("nothing came within {TIMEOUT:?}"),
        io::ErrorKind::UnexpectedEof => "it closed the connection".into(),
        _ => lost(error),
    }
}

/// What is wanted of the cluster.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub bootstrap: Vec<String>,
    pub topics: Vec<String>,
    /// Create the topics that are missing, with so many partitions and replicas and these settings.
    pub create: Option<NewTopic>,
    /// The identities to get, one per producer.
    pub identities: usize,
    pub from_beginning: bool,
}

#[derive(Clone, Debug)]
pub struct NewTopic {
    pub partitions: i32,
    pub replication_factor: i16,
    pub configs: Vec<(String, String)>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    pub cluster_id: String,
    pub cluster: Cluster,
    pub places: Vec<Place>,
    pub partitions_per_topic: usize,
    pub identities: Vec<(ProducerId, ProducerEpoch)>,
}

pub fn find(wanted: &Wanted) -> Result<Found, String> {
    let mut reasons = Vec::new();
    let mut any = None;
    for address in &wanted.bootstrap {
        match Asker::connect(address) {
            Ok(asker) => {
                any = Some(asker);
                break;
            }
            Err(reason) => reasons.push(reason),
        }
    }
    let mut any = any.ok_or_else(|| {
        let reasons = reasons.join("; ");
        format!("{reasons}. Start a broker with: gannet serve, or name another one with --bootstrap-server HOST:PORT")
    })?;
    if let Some(new) = &wanted.create {
        create(&mut any, &wanted.topics, new)?;
    }
    let (cluster, cluster_id) = topics(&mut any, wanted)?;
    let mut counts: Vec<usize> = wanted.topics.iter().map(|topic| cluster.topics[topic].partitions.len()).collect();
    counts.dedup();
    let [partitions_per_topic] = counts[..] else {
        return Err("the topics of one load have equally many partitions; these do not".into());
    };
    let mut places = Vec::new();
    for name in &wanted.topics {
        let (topic, name): (_, Arc<str>) = (&cluster.topics[name], name.as_str().into());
        places.extend(topic.partitions.iter().map(|partition| Place {
            topic: name.clone(),
            topic_id: topic.id,
            partition: partition.index,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            offset: 0,
        }));
    }
    offsets(&cluster, &mut places, if wanted.from_beginning { -2 } else { -1 })?;
    let identities = (0..wanted.identities).map(|_| identity(&mut any)).collect::<Result<_, String>>()?;
    Ok(Found { cluster_id, cluster, places, partitions_per_topic, identities })
}

fn create(any: &mut Asker, topics: &[String], new: &NewTopic) -> Result<(), String> {
    let topic = |name| CreatableTopic {
        name,
        num_partitions: new.partitions,
        replication_factor: new.replication_factor,
        assignments: vec![],
        configs: new.configs.iter().map(|(name, value)| CreatableTopicConfig { name, value: Some(value) }).collect(),
    };
    let request = CreateTopicsRequest {
        topics: topics.iter().map(|name| topic(name.as_str())).collect(),
        timeout_ms: 30_000,
        validate_only: false,
    };
    let response = any.ask(&request)?;
    let answer: CreateTopicsResponse = any.read(&response)?;
    for topic in &answer.topics {
        let code = ErrorCode::from_code(topic.error_code).unwrap_or(ErrorCode::UnknownServerError);
        if !matches!(code, ErrorCode::None | ErrorCode::TopicAlreadyExists) {
            let words = topic.error_message.filter(|words| !words.is_empty());
            let words = words.map_or_else(|| code.to_string(), |words| format!("{words} ({})", code.name()));
            return Err(format!("the broker at {} does not create topic {}: {words}", any.address, topic.name));
        }
    }
    Ok(())
}

/// Asks until every partition has a leader.
fn topics(any: &mut Asker, wanted: &Wanted) -> Result<(Cluster, String), String> {
    let give_up = Instant::now() + LEADERS_TIMEOUT;
    loop {
        let (cluster, id) = any.metadata(Some(&wanted.topics))?;
        let missing = wanted.topics.iter().find(|topic| !cluster.topics.contains_key(*topic));
        let leaderless = cluster.topics.iter().find_map(|(name, topic)| {
            let partition = topic.partitions.iter().find(|partition| partition.leader.is_none())?;
            Some(format!("{name}-{}", partition.index))
        });
        let reason = match (missing, leaderless) {
            (None, None) => return Ok((cluster, id)),
            (Some(topic), _) => {
                let code = cluster.errors.get(topic).copied().unwrap_or(ErrorCode::UnknownTopicOrPartition);
                if wanted.create.is_none() || !code.is_retriable() {
                    return Err(without_topic(any, topic, code));
                }
                format!("topic {topic} has been created and does not appear")
            }
            (None, Some(partition)) => format!("partition {partition} has no leader"),
        };
        if Instant::now() > give_up {
            return Err(format!("{reason} for {LEADERS_TIMEOUT:?}. See: gannet topics describe {}", wanted.topics[0]));
        }
        std::thread::sleep(AGAIN);
    }
}

fn without_topic(any: &mut Asker, name: &str, code: ErrorCode) -> String {
    let address = any.address.clone();
    if code != ErrorCode::UnknownTopicOrPartition {
        return format!("topic {name} on the broker at {address}: {code}");
    }
    let near = any.metadata(None).ok().and_then(|(cluster, _)| {
        nearest(name, cluster.topics.keys().map(String::as_str))
            .map(|near| format!("Did you mean {near}? Otherwise add "))
    });
    let near = near.unwrap_or_else(|| "Add ".into());
    format!("topic {name} does not exist on the broker at {address}. {near}--create to this command, and it is created")
}

/// Where each partition ends (-1) or begins (-2), as its leader says.
fn offsets(cluster: &Cluster, places: &mut [Place], timestamp: i64) -> Result<(), String> {
    let mut by_leader: BTreeMap<BrokerId, Vec<usize>> = BTreeMap::new();
    for (at, place) in places.iter().enumerate() {
        by_leader.entry(place.leader.unwrap_or(-1)).or_default().push(at);
    }
    for (leader, led) in by_leader {
        let broker = cluster.brokers.get(&leader).ok_or("a partition has no leader")?;
        let host = if broker.host.contains(':') { format!("[{}]", broker.host) } else { broker.host.clone() };
        let advertised = Asker::connect(&format!("{host}:{}", broker.port));
        let mut asker = advertised.map_err(|reason| {
            format!("{reason}. This is what broker {leader} tells clients to connect to: see advertised.listeners in its configuration")
        })?;
        let found = leader_offsets(&mut asker, places, &led, timestamp)?;
        for at in led {
            let offset = found.get(&(places[at].topic.to_string(), places[at].partition));
            places[at].offset =
                *offset.ok_or_else(|| format!("broker {leader} does not tell where {} ends", places[at].name()))?;
        }
    }
    Ok(())
}

fn leader_offsets(
    asker: &mut Asker,
    places: &[Place],
    led: &[usize],
    timestamp: i64,
) -> Result<BTreeMap<(String, i32), Offset>, String> {
    let give_up = Instant::now() + LEADERS_TIMEOUT;
    loop {
        let mut topics: Vec<ListOffsetsTopic> = Vec::new();
        for place in led.iter().map(|at| &places[*at]) {
            let partition =
                ListOffsetsPartition { partition_index: place.partition, current_leader_epoch: -1, timestamp };
            match topics.last_mut() {
                Some(last) if *last.name == *place.topic => last.partitions.push(partition),
                _ => topics.push(ListOffsetsTopic { name: &place.topic, partitions: vec![partition] }),
            }
        }
        let request = ListOffsetsRequest { replica_id: -1, isolation_level: 0, topics, timeout_ms: 10_000 };
        let response = asker.ask(&request)?;
        let answer: ListOffsetsResponse = asker.read(&response)?;
        let mut found = BTreeMap::new();
        let mut refused = None;
        for topic in &answer.topics {
            for partition in &topic.partitions {
                match ErrorCode::from_code(partition.error_code) {
                    Some(ErrorCode::None) => {
                        found.insert((topic.name.to_owned(), partition.partition_index), partition.offset);
                    }
                    code => refused = Some((topic.name, partition.partition_index, code.unwrap_or_default())),
                }
            }
        }
        match refused {
            None => return Ok(found),
            Some((_, _, code)) if code.is_retriable() && Instant::now() < give_up => std::thread::sleep(AGAIN),
            Some((topic, partition, code)) => {
                return Err(format!(
                    "the broker at {} does not tell where {topic}-{partition} ends: {code}",
                    asker.address
                ));
            }
        }
    }
}

fn identity(any: &mut Asker) -> Result<(ProducerId, ProducerEpoch), String> {
    let give_up = Instant::now() + LEADERS_TIMEOUT;
    loop {
        let response = any.ask(&InitProducerIdRequest { transaction_timeout_ms: i32::MAX, ..Default::default() })?;
        let answer: InitProducerIdResponse = any.read(&response)?;
        match ErrorCode::from_code(answer.error_code).unwrap_or(ErrorCode::UnknownServerError) {
            ErrorCode::None => return Ok((answer.producer_id, answer.producer_epoch)),
            // A broker that has just started may still be loading what it needs for this.
            code if code.is_retriable() && Instant::now() < give_up => std::thread::sleep(AGAIN),
            code => {
                return Err(format!(
                    "the broker at {} gives no producer id: {code}. --producer-prop enable.idempotence=false works without",
                    any.address
                ));
            }
        }
    }
}

impl Found {
    pub fn brokers(&self) -> Vec<String> {
        self.cluster.brokers.iter().map(|(id, broker)| format!("{id} at {}:{}", broker.host, broker.port)).collect()
    }

    pub fn addresses(&self) -> BTreeMap<BrokerId, std::net::SocketAddr> {
        Plan::resolve(&self.cluster)
    }
}
