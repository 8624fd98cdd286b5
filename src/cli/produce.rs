//! `gannet produce`: every line of the input becomes a record.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::ClusterArguments;
use super::connection::{Client, check, decode};
use super::failure::{Failure, code_of, describe};
use super::input::{Input, lines};
use super::pipeline::{Happening, Happenings, Pipelines};
use crate::client::{Delivery, Destination, Partitioner, Producer, ProducerConfig, Topic};
use crate::error_code::ErrorCode;
use crate::protocol::describe_configs::DescribeConfigsResource;
use crate::protocol::{
    DescribeConfigsRequest, DescribeConfigsResponse, InitProducerIdRequest, InitProducerIdResponse, ProduceResponse,
};
use crate::record::Compression;
use crate::types::{BrokerId, Deadline, Offset, ProducerEpoch, ProducerId, Time, TopicId};

/// Lines are read no further while so much waits to be acknowledged.
const BUFFERED_BYTES_MAX: usize = 32 << 20;
const REQUEST_BYTES_MAX: usize = 1 << 20;
const RETRY_BACKOFF_MS: u64 = 100;

#[derive(Args, Debug)]
pub struct ProduceArguments {
    /// The topic to produce to
    topic: String,
    /// Read lines from this file instead of standard input
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// What stands between key and value; without it lines are values and have no key
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// Produce to this partition only
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Who must have a record before it counts: all in-sync replicas, the leader, or nobody
    #[arg(long, default_value = "all")]
    acks: Acks,
    /// How batches are compressed
    #[arg(long, value_name = "CODEC", default_value = "none")]
    compression: Codec,
    /// How long a batch that is not full waits for more lines
    #[arg(long, value_name = "MS", default_value_t = 5)]
    linger_ms: u64,
    /// When a batch is full, before compression; the topic's max.message.bytes lowers it
    #[arg(long, value_name = "BYTES", default_value_t = 256 * 1024, value_parser = parse_batch_bytes)]
    batch_bytes: usize,
    /// How long a record may take before it is given up
    #[arg(long, value_name = "MS", default_value_t = 120_000)]
    delivery_timeout_ms: u64,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
enum Acks {
    #[value(alias = "-1")]
    All,
    #[value(name = "1")]
    Leader,
    #[value(name = "0")]
    None,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

fn parse_batch_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok().filter(|bytes| (1..=1 << 30).contains(bytes));
    bytes.ok_or_else(|| format!("a batch is 1 to {} bytes", 1 << 30))
}

pub fn run(arguments: ProduceArguments) -> Result<(), Failure> {
    let source: Box<dyn Read + Send> = match &arguments.file {
        Some(path) => Box::new(
            File::open(path).map_err(|error| Failure::new(format_args!("cannot read {}: {error}", path.display())))?,
        ),
        None => Box::new(std::io::stdin()),
    };
    let mut client = Client::connect(&arguments.cluster.bootstrap_server)?;
    let topic = client.topic(&arguments.topic)?;
    let (destinations, partitioner) = destinations(&arguments, &topic)?;
    let identity = match arguments.acks {
        Acks::All => Some(init_producer_id(&mut client)?),
        Acks::Leader | Acks::None => None,
    };
    let config = ProducerConfig {
        acks: match arguments.acks {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        },
        compression: match arguments.compression {
            Codec::None => None,
            Codec::Gzip => Some(Compression::Gzip),
            Codec::Snappy => Some(Compression::Snappy),
            Codec::Lz4 => Some(Compression::Lz4),
            Codec::Zstd => Some(Compression::Zstd),
        },
        linger_ms: arguments.linger_ms,
        batch_bytes_max: arguments.batch_bytes.min(max_message_bytes(&mut client, &arguments.topic)),
        request_bytes_max: REQUEST_BYTES_MAX,
        requests_in_flight_max: 5,
        request_timeout_ms: 30_000,
        delivery_timeout_ms: arguments.delivery_timeout_ms,
        retries: u32::MAX,
        retry_backoff_ms: RETRY_BACKOFF_MS,
    };
    if arguments.file.is_none() && std::io::stdin().is_terminal() {
        eprintln!("Every line becomes a record of {}; Ctrl-D ends.", arguments.topic);
    }
    let happenings = Happenings::new();
    happenings.watch_signals()?;
    let input = Input::start(source, happenings.sender.clone());
    let mut producing = Producing {
        pipelines: Pipelines::new(&happenings),
        producer: Producer::new(config, identity, destinations),
        partitioner,
        input,
        permits_owed: 0,
        input_ended: false,
        lines: 0,
        bytes: 0,
        refused: None,
        summary: Summary::default(),
        metadata_not_before: 0,
        is_warned: false,
        topic_id: topic.id,
        client,
        arguments,
    };
    let outcome = producing.run(&happenings);
    producing.report(happenings.now());
    outcome
}

/// Every partition, or the one that was asked for.
fn destinations(arguments: &ProduceArguments, topic: &Topic) -> Result<(Vec<Destination>, Partitioner), Failure> {
    let name: Arc<str> = arguments.topic.as_str().into();
    let wanted = |index| arguments.partition.is_none_or(|partition| partition == index);
    let partitions = topic.partitions.iter().filter(|partition| wanted(partition.index));
    let destinations: Vec<Destination> = partitions
        .map(|partition| Destination {
            topic: name.clone(),
            topic_id: topic.id,
            partition: partition.index,
            leader: partition.leader,
        })
        .collect();
    if destinations.is_empty() {
        return Err(no_partition(&arguments.topic, arguments.partition.unwrap_or(0), topic.partitions.len()));
    }
    let partitioner = Partitioner::new(destinations.len() as u32, std::process::id());
    Ok((destinations, partitioner))
}

pub fn no_partition(topic: &str, partition: i32, partitions: usize) -> Failure {
    Failure::new(format_args!(
        "topic {topic} has no partition {partition}; it has {partitions}, counted from 0. See: gannet topics describe {topic}"
    ))
}

fn init_producer_id(client: &mut Client) -> Result<(ProducerId, ProducerEpoch), Failure> {
    let request = InitProducerIdRequest { transaction_timeout_ms: i32::MAX, ..Default::default() };
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        let response = client.call(&request)?;
        let answer: InitProducerIdResponse = client.decode(&response)?;
        // A broker that has just started may still be loading what it needs for this.
        if code_of(answer.error_code).is_retriable() && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(RETRY_BACKOFF_MS));
            continue;
        }
        check(client.address(), "a producer id (--acks 1 works without)", answer.error_code)?;
        return Ok((answer.producer_id, answer.producer_epoch));
    }
}

/// What the topic takes as one batch; no limit if the broker does not say.
fn max_message_bytes(client: &mut Client, topic: &str) -> usize {
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: topic,
        configuration_keys: Some(vec!["max.message.bytes"]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let Ok(response) = client.call(&request) else { return usize::MAX };
    let Ok(answer) = client.decode::<DescribeConfigsResponse>(&response) else { return usize::MAX };
    let value = answer.results.first().and_then(|result| result.configs.first()).and_then(|config| config.value);
    value.and_then(|value| value.parse().ok()).unwrap_or(usize::MAX)
}

struct Producing {
    arguments: ProduceArguments,
    topic_id: TopicId,
    client: Client,
    pipelines: Pipelines,
    producer: Producer,
    partitioner: Partitioner,
    input: Input,
    /// Pieces of input taken in whose permit waits for room.
    permits_owed: usize,
    input_ended: bool,
    lines: u64,
    bytes: u64,
    /// A line that cannot be a record; what came before it is still delivered.
    refused: Option<Failure>,
    summary: Summary,
    metadata_not_before: Deadline,
    /// A lost connection is told once, until it is back.
    is_warned: bool,
}

#[derive(Default)]
struct Summary {
    delivered: u64,
    /// First and last offset of the partition that everything went to; `None` with several, or without answers.
    offsets: Option<(usize, Offset, Offset)>,
    has_several: bool,
}

impl Producing {
    fn run(&mut self, happenings: &Happenings) -> Result<(), Failure> {
        loop {
            let now = happenings.now();
            self.send(now)?;
            let expired = self.producer.expire(now);
            self.take(expired, None)?;
            if let Some(broker) = self.producer.overdue(now) {
                self.lost(now, broker, "it does not answer");
            }
            if self.producer.buffered_bytes() < BUFFERED_BYTES_MAX {
                (0..std::mem::take(&mut self.permits_owed)).for_each(|_| self.input.permit());
            }
            if self.input_ended && self.producer.is_idle() {
                return self.refused.take().map_or(Ok(()), Err);
            }
            let refresh = self.producer.wants_metadata().then_some(self.metadata_not_before);
            match happenings.wait(self.producer.next_deadline().into_iter().chain(refresh).min()) {
                None => {}
                Some(Happening::Input(piece)) => self.push(happenings.now(), &piece),
                Some(Happening::InputEnded(outcome)) => {
                    self.refused = self.refused.take().or(outcome.err().map(Failure::Failed));
                    self.end_input();
                }
                Some(Happening::Interrupted) => self.end_input(),
                Some(Happening::Frame { link, frame }) => {
                    let Some(response) = self.pipelines.on_frame(link, frame)? else { continue };
                    self.is_warned = false;
                    let answer: ProduceResponse = decode(self.client.address(), &response)?;
                    let deliveries = self.producer.on_response(happenings.now(), link.broker, &answer);
                    self.take(deliveries, Some(link.broker))?;
                }
                Some(Happening::Lost { link, reason }) => {
                    let is_present = self.pipelines.on_lost(link);
                    is_present.then(|| self.lost(happenings.now(), link.broker, &reason));
                }
            }
        }
    }

    fn end_input(&mut self) {
        self.input_ended = true;
        self.producer.flush();
    }

    fn push(&mut self, now: Time, piece: &[u8]) {
        self.permits_owed += 1;
        for line in lines(piece) {
            if self.input_ended {
                return;
            }
            self.lines += 1;
            let (key, value) = match &self.arguments.key_separator {
                None => (None, line),
                Some(separator) => match split(line, separator.as_bytes()) {
                    Some((key, value)) => (Some(key), value),
                    None => {
                        self.refused = Some(Failure::new(format_args!(
                            "line {} holds no key separator '{separator}'; the lines before it were produced, it and those \
                             after it were not",
                            self.lines
                        )));
                        return self.end_input();
                    }
                },
            };
            let destination = self.partitioner.partition(key);
            self.bytes += line.len() as u64;
            if self.producer.push(now, destination as usize, now.wall_ms, key, Some(value)) && key.is_none() {
                self.partitioner.on_batch_full();
            }
        }
    }

    fn send(&mut self, now: Time) -> Result<(), Failure> {
        if self.producer.wants_metadata() && self.metadata_not_before <= now.monotonic_us {
            self.metadata_not_before = now.after_ms(RETRY_BACKOFF_MS);
            self.refresh()?;
        }
        let is_answered = self.arguments.acks != Acks::None;
        for broker in self.producer.leaders() {
            while let Some(request) = self.producer.next_request(now, broker) {
                if let Err(failure) = self.pipelines.connect(&self.client, broker) {
                    drop(request);
                    if self.summary.delivered == 0 && !self.is_warned {
                        return Err(failure);
                    }
                    self.lost(now, broker, failure.message());
                    break;
                }
                self.pipelines.send(broker, &request, is_answered)?;
                if !is_answered {
                    let deliveries = self.producer.on_sent_unanswered(broker);
                    self.take(deliveries, Some(broker))?;
                }
            }
        }
        Ok(())
    }

    fn refresh(&mut self) -> Result<(), Failure> {
        let topic = self.arguments.topic.clone();
        // Without any broker to ask, the deadline of the records decides.
        let Ok(cluster) = self.client.refresh(Some(&[&topic])) else { return Ok(()) };
        self.producer.on_metadata(cluster);
        let is_missing = cluster.errors.get(&topic) == Some(&ErrorCode::UnknownTopicOrPartition);
        if is_missing || cluster.topics.get(&topic).is_some_and(|topic| topic.id != self.topic_id) {
            return Err(Failure::new(format_args!("topic {topic} has been deleted while it was produced to")));
        }
        Ok(())
    }

    fn lost(&mut self, now: Time, broker: BrokerId, reason: &str) {
        // Brokers close idle connections; the next line opens another.
        if !self.producer.is_idle() && !std::mem::replace(&mut self.is_warned, true) {
            eprintln!("gannet: {reason}; trying again for up to {} ms", self.arguments.delivery_timeout_ms);
        }
        self.pipelines.close(broker);
        let given_up = self.producer.on_disconnect(now, broker);
        assert!(given_up.is_empty(), "retries have no end here");
    }

    fn take(&mut self, deliveries: Vec<Delivery>, broker: Option<BrokerId>) -> Result<(), Failure> {
        for Delivery { destination, records, outcome, .. } in deliveries {
            match outcome {
                Ok(base_offset) => self.summary.add(destination, records, base_offset),
                Err((code, message)) => {
                    let partition = self.arguments.partition.unwrap_or(destination as i32);
                    return Err(self.refusal(partition, records, code, message.as_deref(), broker));
                }
            }
        }
        Ok(())
    }

    fn refusal(
        &self,
        partition: i32,
        records: i32,
        code: ErrorCode,
        message: Option<&str>,
        broker: Option<BrokerId>,
    ) -> Failure {
        let topic = &self.arguments.topic;
        let Some(broker) = broker else {
            return Failure::new(format_args!(
                "a batch of {records} records for {topic}-{partition} could not be delivered within {} ms: is its leader \
                 running? See: gannet topics describe {topic}{}",
                self.arguments.delivery_timeout_ms,
                self.client.bootstrap_option()
            ));
        };
        let advice = match code {
            ErrorCode::MessageTooLarge => ". Send smaller lines, or raise max.message.bytes of the topic",
            ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend => {
                ". Bring its replicas back, or lower min.insync.replicas of the topic"
            }
            _ => "",
        };
        Failure::new(format_args!(
            "broker {broker} refused a batch of {records} records for {topic}-{partition}: {}{advice}",
            describe(code, message)
        ))
    }

    fn report(&self, now: Time) {
        let Summary { delivered, .. } = self.summary;
        let seconds = now.monotonic_us as f64 / 1e6;
        let offsets = match self.summary.offsets {
            Some((destination, first, last)) => {
                let partition = self.arguments.partition.unwrap_or(destination as i32);
                format!(", partition {partition} at offsets {first} to {last}")
            }
            None => String::new(),
        };
        let sent = if self.arguments.acks == Acks::None { "sent" } else { "delivered" };
        let missing = match self.lines.saturating_sub(delivered) {
            0 => String::new(),
            missing => format!(" ({missing} not)"),
        };
        eprintln!(
            "{delivered} records {sent}{missing} to {}{offsets}: {} bytes in {seconds:.3} s, {:.0} records/s, {:.1} MB/s",
            self.arguments.topic,
            self.bytes,
            delivered as f64 / seconds,
            self.bytes as f64 / 1e6 / seconds
        );
    }
}

impl Summary {
    fn add(&mut self, destination: usize, records: i32, base_offset: Offset) {
        self.delivered += u64::try_from(records).unwrap_or(0);
        let last_offset = base_offset.saturating_add(i64::from(records) - 1);
        self.offsets = match self.offsets {
            _ if base_offset < 0 || self.has_several => None,
            None => Some((destination, base_offset, last_offset)),
            Some((same, first, last)) if same == destination => {
                Some((same, first.min(base_offset), last.max(last_offset)))
            }
            Some(_) => None,
        };
        self.has_several |= self.offsets.is_none();
    }
}

/// What stands before and behind the first separator.
fn split<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    if separator.is_empty() {
        return None;
    }
    let at = line.windows(separator.len()).position(|window| window == separator)?;
    Some((&line[..at], &line[at + separator.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_at_its_first_separator() {
        assert_eq!(split(b"k:v:w", b":"), Some((&b"k"[..], &b"v:w"[..])));
        assert_eq!(split(b"k=>v", b"=>"), Some((&b"k"[..], &b"v"[..])));
        assert_eq!(split(b"kv:", b":"), Some((&b"kv"[..], &b""[..])));
        assert_eq!((split(b"kv", b":"), split(b"kv", b"")), (None, None));
    }

    #[test]
    fn offsets_are_told_while_everything_went_to_one_partition() {
        let mut summary = Summary::default();
        summary.add(2, 3, 10);
        summary.add(2, 1, 13);
        assert_eq!((summary.delivered, summary.offsets), (4, Some((2, 10, 13))));
        summary.add(1, 1, 0);
        summary.add(2, 1, 14);
        assert_eq!((summary.delivered, summary.offsets), (6, None));
    }
}
