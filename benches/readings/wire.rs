//! A client of the bench's own: blocking questions, and frames taken from a socket as they come. Built on the broker's
//! codec; it speaks the versions that current clients speak.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use gannet::protocol::create_topics::{CreatableTopic, CreatableTopicConfig};
use gannet::protocol::fetch::{FetchPartition, FetchTopic};
use gannet::protocol::produce::{PartitionProduceData, TopicProduceData};
use gannet::protocol::{
    CreateTopicsRequest, CreateTopicsResponse, FetchRequest, FetchResponse, Message, MetadataRequest, MetadataResponse,
    ProduceRequest, decode_response, encode_request,
};
use gannet::record::BatchBuilder;
use gannet::types::{Few, Uuid};

pub const PRODUCE_VERSION: i16 = 13;
pub const FETCH_VERSION: i16 = 17;
const CREATE_TOPICS_VERSION: i16 = 7;
const METADATA_VERSION: i16 = 12;

#[derive(Clone, Copy)]
pub struct Topic {
    pub id: Uuid,
    pub partitions: i32,
}

pub struct Connection {
    pub stream: TcpStream,
    received: Vec<u8>,
    /// What of `received` has been handed out.
    taken: usize,
    unsent: Vec<u8>,
    /// How much is read at once: little, until much has come, since there may be thousands of these.
    piece_bytes: usize,
}

const PIECE_BYTES: usize = 256 << 10;
const SMALL_PIECE_BYTES: usize = 4 << 10;

impl Connection {
    pub fn open(port: u16) -> io::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Connection { stream, received: Vec::new(), taken: 0, unsent: Vec::new(), piece_bytes: SMALL_PIECE_BYTES })
    }

    pub fn ask<'a, M: Message<'a>>(&mut self, request: &M, version: i16) -> io::Result<Vec<u8>> {
        self.exchange(&frame(request, version))
    }

    /// The answer's frame, without its length. Blocks.
    pub fn exchange(&mut self, frame: &[u8]) -> io::Result<Vec<u8>> {
        self.stream.write_all(frame)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut response = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut response)?;
        Ok(response)
    }

    /// The broker says where it is reached: it takes produce requests from then on.
    pub fn is_ready(&mut self) -> io::Result<bool> {
        let request = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
        let frame = self.ask(&request, METADATA_VERSION)?;
        let (_, response) = decode_response::<MetadataResponse>(&frame, METADATA_VERSION).map_err(io::Error::other)?;
        Ok(!response.brokers.is_empty())
    }

    pub fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> io::Result<Topic> {
        let config = |&(name, value): &(_, _)| CreatableTopicConfig { name, value: Some(value) };
        let topic = CreatableTopic {
            name,
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let frame = self.ask(&request, CREATE_TOPICS_VERSION)?;
        let response = decode_response::<CreateTopicsResponse>(&frame, CREATE_TOPICS_VERSION);
        let (_, response) = response.map_err(io::Error::other)?;
        match response.topics.first() {
            Some(created) if created.error_code == 0 => Ok(Topic { id: created.topic_id, partitions }),
            refused => Err(io::Error::other(format!("the topic was not created: {refused:?}"))),
        }
    }

    /// As much of it as the socket takes; the rest goes when it is writable again.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        let sent = match self.stream.write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.unsent.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    pub fn send_rest(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.unsent);
        if rest.is_empty() { Ok(()) } else { self.send(&rest) }
    }

    /// Reads all that has come. The socket must not block.
    pub fn receive(&mut self) -> io::Result<()> {
        self.received.drain(..self.taken);
        self.taken = 0;
        loop {
            let before = self.received.len();
            self.received.resize(before + self.piece_bytes, 0);
            let outcome = self.stream.read(&mut self.received[before..]);
            let count = match outcome {
                Ok(0) => return Err(io::Error::other("the broker closed the connection")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            self.received.truncate(before + count);
            if count < self.piece_bytes {
                return Ok(());
            }
            self.piece_bytes = PIECE_BYTES;
        }
    }

    /// The next whole frame of what was received, without its length.
    pub fn next_frame(&mut self) -> Option<&[u8]> {
        let rest = &self.received[self.taken..];
        let length = u32::from_be_bytes(*rest.first_chunk::<4>()?) as usize;
        let frame = rest.get(4..4 + length)?;
        self.taken += 4 + length;
        Some(frame)
    }
}

/// One request with its length.
pub fn frame<'a, M: Message<'a>>(request: &M, version: i16) -> Vec<u8> {
    encode_request(request, version, 7, Some("readings")).concat()
}

/// A batch of so many records of so many bytes each.
pub fn batch(records: usize, record_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    let value = vec![b'x'; record_bytes];
    let now_ms =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
    (0..records).for_each(|_| builder.push(now_ms, None, Some(&value)));
    builder.build()
}

/// A produce request with one batch for each of these partitions, to be acknowledged by all.
pub fn produce<'b>(topic: Topic, batches: &[(i32, &'b Bytes)]) -> Vec<u8> {
    let data = |&(index, batch): &(i32, &'b Bytes)| PartitionProduceData { index, records: Some(batch) };
    let partition_data = batches.iter().map(data).collect();
    let topic = TopicProduceData { name: "", topic_id: topic.id, partition_data };
    frame(
        &ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: [topic].into(), ..Default::default() },
        PRODUCE_VERSION,
    )
}

/// A fetch of these partitions from these offsets on.
pub struct Fetch {
    pub session_id: i32,
    pub session_epoch: i32,
    pub partition_max_bytes: i32,
    pub max_wait_ms: i32,
}

impl Fetch {
    pub fn frame(&self, topic: Topic, offsets: impl Iterator<Item = (i32, i64)>) -> Vec<u8> {
        let partition = |(partition, fetch_offset)| FetchPartition {
            partition,
            fetch_offset,
            partition_max_bytes: self.partition_max_bytes,
            ..FetchPartition::default()
        };
        let partitions: Few<FetchPartition> = offsets.map(partition).collect();
        let topics = match partitions.is_empty() {
            true => Few::new(),
            false => [FetchTopic { topic: "", topic_id: topic.id, partitions }].into(),
        };
        let request = FetchRequest {
            max_wait_ms: self.max_wait_ms,
            min_bytes: 1,
            max_bytes: 50 << 20,
            session_id: self.session_id,
            session_epoch: self.session_epoch,
            topics,
            ..FetchRequest::default()
        };
        frame(&request, FETCH_VERSION)
    }
}

/// Ends of all partitions, as a consumer may read them.
pub fn high_watermarks(connection: &mut Connection, topic: Topic) -> io::Result<Vec<i64>> {
    let all = fetch_once(connection, topic, (0..topic.partitions).map(|partition| (partition, 0)))?;
    Ok(all.into_iter().map(|(high_watermark, _)| high_watermark).collect())
}

/// The last record of the first partition must come.
pub fn fetch_last(connection: &mut Connection, topic: Topic, end: i64) -> io::Result<()> {
    match fetch_once(connection, topic, std::iter::once((0, end - 1)))?.first() {
        Some((_, bytes)) if *bytes > 0 => Ok(()),
        found => Err(io::Error::other(format!("the last record does not come: {found:?}"))),
    }
}

/// High watermark and bytes of each partition, without waiting.
fn fetch_once(
    connection: &mut Connection,
    topic: Topic,
    offsets: impl Iterator<Item = (i32, i64)>,
) -> io::Result<Vec<(i64, usize)>> {
    let fetch = Fetch { session_id: 0, session_epoch: -1, partition_max_bytes: 1, max_wait_ms: 0 };
    let frame = connection.exchange(&fetch.frame(topic, offsets))?;
    let (_, response) = decode_response::<FetchResponse>(&frame, FETCH_VERSION).map_err(io::Error::other)?;
    let mut found = Vec::new();
    for part in response.responses.iter().flat_map(|topic| &topic.partitions) {
        if part.error_code != 0 {
            return Err(io::Error::other(format!("a fetch failed with error {}", part.error_code)));
        }
        found.push((part.high_watermark, part.records.bytes()));
    }
    Ok(found)
}
