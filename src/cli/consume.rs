//! `gannet consume`: records as lines, in the form of Kafka's own console consumer.

use std::io::{BufWriter, StdoutLock, Write};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::ClusterArguments;
use super::connection::{Address, Client, decode};
use super::failure::{Failure, code_of, describe};
use super::pipeline::{Happening, Happenings, Pipelines};
use super::produce::no_partition;
use super::time;
use crate::client::{Fetched, FetchedBatches, Fetcher, FetcherConfig, Subscription, Topic};
use crate::error_code::ErrorCode;
use crate::protocol::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use crate::protocol::{FetchResponse, ListOffsetsRequest, ListOffsetsResponse};
use crate::record::{Record, TimestampType};
use crate::types::{BrokerId, Deadline, Map, Offset, Time, Timestamp};

const RETRY_BACKOFF_MS: u64 = 200;
/// How long a partition may exist before it is consumed with the others.
const METADATA_MAX_AGE_MS: u64 = 30_000;
/// Kafka's special times of ListOffsets.
const LATEST: Timestamp = -1;
const EARLIEST: Timestamp = -2;

#[derive(Args, Debug)]
pub struct ConsumeArguments {
    /// The topic to consume
    topic: String,
    /// Consume this partition only
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Begin with the oldest record
    #[arg(long, conflicts_with_all = ["offset", "from_time"])]
    from_beginning: bool,
    /// Begin at this offset, or at 'earliest' or 'latest' [default: latest]
    #[arg(long, value_name = "OFFSET", conflicts_with = "from_time", allow_hyphen_values = true)]
    offset: Option<Start>,
    /// Begin with the first record of this time or later: milliseconds since 1970, or 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    from_time: Option<Timestamp>,
    /// End after so many records
    #[arg(long, value_name = "COUNT")]
    max_messages: Option<u64>,
    /// End when no record has come for so long
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// What to print before each value
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    print: Vec<Column>,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Start {
    Time(Timestamp),
    Offset(Offset),
}

impl std::str::FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Start, String> {
        match text {
            "earliest" => Ok(Start::Time(EARLIEST)),
            "latest" => Ok(Start::Time(LATEST)),
            _ => match text.parse() {
                Ok(offset @ 0..) => Ok(Start::Offset(offset)),
                _ => Err("an offset is a number from 0 on, 'earliest' or 'latest'".to_owned()),
            },
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
enum Column {
    Timestamp,
    Partition,
    Offset,
    Headers,
    Key,
}

pub fn run(arguments: ConsumeArguments) -> Result<(), Failure> {
    let mut client = Client::connect(&arguments.cluster.bootstrap_server)?;
    let topic = client.topic(&arguments.topic)?;
    let start = match (arguments.from_beginning, arguments.from_time, arguments.offset) {
        (true, _, _) => Start::Time(EARLIEST),
        (_, Some(timestamp), _) => Start::Time(timestamp),
        (_, _, Some(start)) => start,
        _ => Start::Time(LATEST),
    };
    let subscriptions = subscriptions(&arguments, &mut client, &topic, start)?;
    let config = FetcherConfig {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        partition_max_bytes: 1 << 20,
        retry_backoff_ms: RETRY_BACKOFF_MS,
        decompressed_bytes_max: 1 << 30,
    };
    let happenings = Happenings::new();
    happenings.watch_signals()?;
    let mut consuming = Consuming {
        out: Out { out: BufWriter::with_capacity(1 << 18, std::io::stdout().lock()), columns: arguments.print.clone() },
        pipelines: Pipelines::new(&happenings),
        fetcher: Fetcher::new(config, subscriptions),
        consumed: 0,
        last_record_us: happenings.now().monotonic_us,
        metadata_not_before: 0,
        metadata_due: happenings.now().after_ms(METADATA_MAX_AGE_MS),
        is_warned: false,
        warned: Map::default(),
        client,
        arguments,
    };
    let outcome = consuming.run(&happenings);
    let flushed = consuming.out.out.flush().map_err(Failure::of_output);
    if !matches!(outcome, Err(Failure::BrokenPipe)) {
        eprintln!("Processed a total of {} messages", consuming.consumed);
    }
    outcome.and(flushed)
}

/// Every partition, or the one that was asked for, from where it was asked for.
fn subscriptions(
    arguments: &ConsumeArguments,
    client: &mut Client,
    topic: &Topic,
    start: Start,
) -> Result<Vec<Subscription>, Failure> {
    let name: Arc<str> = arguments.topic.as_str().into();
    let wanted = |index| arguments.partition.is_none_or(|partition| partition == index);
    let mut subscriptions = Vec::new();
    for partition in topic.partitions.iter().filter(|partition| wanted(partition.index)) {
        let Some(leader) = partition.leader else {
            return Err(Failure::new(format_args!(
                "{name}-{} has no leader at the moment: the brokers that hold it are down. See: gannet topics describe {name}{}",
                partition.index,
                client.bootstrap_option()
            )));
        };
        let offset = match start {
            Start::Time(timestamp) => match list_offset(client, &name, partition.index, leader, timestamp)? {
                // Nothing is that young yet.
                -1 => list_offset(client, &name, partition.index, leader, LATEST)?,
                offset => offset,
            },
            Start::Offset(offset) => {
                let earliest = list_offset(client, &name, partition.index, leader, EARLIEST)?;
                let latest = list_offset(client, &name, partition.index, leader, LATEST)?;
                if !(earliest..=latest).contains(&offset) {
                    return Err(Failure::new(format_args!(
                        "offset {offset} lies outside {name}-{}, which holds {earliest} to {latest} (the next to be \
                         written). Pass one of these, or --from-beginning",
                        partition.index
                    )));
                }
                offset
            }
        };
        subscriptions.push(Subscription {
            topic: name.clone(),
            topic_id: topic.id,
            partition: partition.index,
            leader: Some(leader),
            leader_epoch: partition.leader_epoch,
            offset,
        });
    }
    match subscriptions.is_empty() {
        true => Err(no_partition(&name, arguments.partition.unwrap_or(0), topic.partitions.len())),
        false => Ok(subscriptions),
    }
}

/// The first offset at this time or later, -1 if there is none.
fn list_offset(
    client: &mut Client,
    topic: &str,
    partition: i32,
    leader: BrokerId,
    timestamp: Timestamp,
) -> Result<Offset, Failure> {
    let asked = ListOffsetsPartition { partition_index: partition, current_leader_epoch: -1, timestamp };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic { name: topic, partitions: vec![asked] }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    let response = client.call_broker(leader, &request)?;
    let answer: ListOffsetsResponse = client.decode(&response)?;
    let answer = answer.topics.first().and_then(|topic| topic.partitions.first());
    let code = answer.map_or(ErrorCode::UnknownServerError, |answer| code_of(answer.error_code));
    match code {
        ErrorCode::None => Ok(answer.map_or(-1, |answer| answer.offset)),
        code => Err(Failure::new(format_args!(
            "broker {leader} does not tell the offsets of {topic}-{partition}: {}",
            describe(code, None)
        ))),
    }
}

struct Consuming {
    arguments: ConsumeArguments,
    client: Client,
    pipelines: Pipelines,
    fetcher: Fetcher,
    out: Out,
    consumed: u64,
    last_record_us: Deadline,
    metadata_not_before: Deadline,
    metadata_due: Deadline,
    /// A lost connection is told once, until one is back.
    is_warned: bool,
    /// The last error told of each partition.
    warned: Map<usize, ErrorCode>,
}

impl Consuming {
    fn run(&mut self, happenings: &Happenings) -> Result<(), Failure> {
        if self.arguments.max_messages == Some(0) {
            return Ok(());
        }
        loop {
            let now = happenings.now();
            self.send(now)?;
            let ends =
                self.arguments.timeout_ms.map(|timeout_ms| self.last_record_us.saturating_add(timeout_ms * 1000));
            if ends.is_some_and(|ends| ends <= now.monotonic_us) {
                return Ok(());
            }
            let deadlines = [self.fetcher.next_deadline(), Some(self.refresh_at()), ends];
            match happenings.wait(deadlines.into_iter().flatten().min()) {
                None | Some(Happening::Input(_) | Happening::InputEnded(_)) => {}
                Some(Happening::Interrupted) => return Ok(()),
                Some(Happening::Frame { link, frame }) => {
                    let Some(response) = self.pipelines.on_frame(link, frame)? else { continue };
                    let address = self.broker_address(link.broker);
                    let answer: FetchResponse = decode(&address, &response)?;
                    let now = happenings.now();
                    let fetched = self.fetcher.on_response(now, link.broker, answer);
                    // The next answer comes while this one is printed.
                    self.send(now)?;
                    if self.take(fetched, now)? {
                        return Ok(());
                    }
                }
                Some(Happening::Lost { link, reason }) => {
                    let is_present = self.pipelines.on_lost(link);
                    is_present.then(|| self.lost(happenings.now(), link.broker, &reason));
                }
            }
        }
    }

    fn broker_address(&self, broker: BrokerId) -> Address {
        let advertised = self.client.cluster.brokers.get(&broker);
        let address = advertised.map(|advertised| Address { host: advertised.host.clone(), port: advertised.port });
        address.unwrap_or_else(|| self.client.address().clone())
    }

    fn send(&mut self, now: Time) -> Result<(), Failure> {
        if self.refresh_at() <= now.monotonic_us {
            self.metadata_not_before = now.after_ms(RETRY_BACKOFF_MS);
            self.metadata_due = now.after_ms(METADATA_MAX_AGE_MS);
            self.refresh()?;
        }
        for broker in self.fetcher.leaders() {
            let Some(request) = self.fetcher.next_request(now, broker) else { continue };
            match self.pipelines.connect(&self.client, broker) {
                Ok(()) => self.pipelines.send(broker, &request, true)?,
                Err(failure) if self.consumed == 0 && !self.is_warned => return Err(failure),
                Err(failure) => self.lost(now, broker, failure.message()),
            }
        }
        Ok(())
    }

    fn refresh_at(&self) -> Deadline {
        if self.fetcher.wants_metadata() { self.metadata_not_before } else { self.metadata_due }
    }

    fn refresh(&mut self) -> Result<(), Failure> {
        let name = self.arguments.topic.clone();
        // Without any broker to ask, it is asked again.
        let Ok(cluster) = self.client.refresh(Some(&[&name])) else { return Ok(()) };
        self.fetcher.on_metadata(cluster);
        let is_missing = cluster.errors.get(&name) == Some(&ErrorCode::UnknownTopicOrPartition);
        let topic_id = self.fetcher.subscription(0).topic_id;
        if is_missing || cluster.topics.get(&name).is_some_and(|topic| topic.id != topic_id) {
            return Err(Failure::new(format_args!("topic {name} has been deleted while it was consumed")));
        }
        if let (Some(topic), None) = (cluster.topics.get(&name), self.arguments.partition) {
            // Partitions that were added meanwhile are read from their beginning.
            for partition in topic.partitions.iter().skip(self.fetcher.subscriptions()) {
                self.fetcher.subscribe(Subscription {
                    topic: name.as_str().into(),
                    topic_id: topic.id,
                    partition: partition.index,
                    leader: partition.leader,
                    leader_epoch: partition.leader_epoch,
                    offset: 0,
                });
            }
        }
        Ok(())
    }

    fn lost(&mut self, now: Time, broker: BrokerId, reason: &str) {
        if !std::mem::replace(&mut self.is_warned, true) {
            eprintln!("gannet: {reason}; trying again until Ctrl-C");
        }
        self.pipelines.close(broker);
        self.fetcher.on_disconnect(now, broker);
    }

    /// Prints what came. True when enough has come.
    fn take(&mut self, fetched: Vec<Fetched>, now: Time) -> Result<bool, Failure> {
        self.is_warned = false;
        for Fetched { subscription, outcome } in fetched {
            match outcome {
                Ok(batches) => {
                    self.warned.remove(&subscription);
                    if self.print(subscription, &batches)? {
                        return Ok(true);
                    }
                    self.last_record_us = now.monotonic_us;
                }
                Err(code) => self.stopped(subscription, code)?,
            }
        }
        self.out.out.flush().map_err(Failure::of_output)?;
        Ok(false)
    }

    fn print(&mut self, subscription: usize, batches: &FetchedBatches) -> Result<bool, Failure> {
        let partition = self.fetcher.subscription(subscription).partition;
        for record in batches.records() {
            let (timestamp_type, record) = record.map_err(|error| {
                let topic = &self.arguments.topic;
                Failure::new(format_args!("the broker sent damaged records of {topic}-{partition}: {error}"))
            })?;
            self.out.write(partition, timestamp_type, &record).map_err(Failure::of_output)?;
            self.consumed += 1;
            if self.arguments.max_messages == Some(self.consumed) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn stopped(&mut self, subscription: usize, code: ErrorCode) -> Result<(), Failure> {
        let Subscription { topic, partition, offset, leader, .. } = self.fetcher.subscription(subscription);
        let (topic, partition, offset) = (topic.clone(), *partition, *offset);
        if code == ErrorCode::OffsetOutOfRange
            && let Some(leader) = *leader
        {
            // Retention has overtaken us, or the partition was cut back.
            let earliest = list_offset(&mut self.client, &topic, partition, leader, EARLIEST)?;
            let latest = list_offset(&mut self.client, &topic, partition, leader, LATEST)?;
            let next = offset.clamp(earliest, latest);
            eprintln!("gannet: offset {offset} of {topic}-{partition} is no longer there; going on at {next}");
            self.fetcher.seek(subscription, next);
            return Ok(());
        }
        if code.is_retriable() && code != ErrorCode::CorruptMessage {
            if self.warned.insert(subscription, code) != Some(code) {
                eprintln!("gannet: {topic}-{partition}: {}; trying again", describe(code, None));
            }
            return Ok(());
        }
        Err(Failure::new(format_args!("cannot read {topic}-{partition} at offset {offset}: {}", describe(code, None))))
    }
}

/// Standard output and what each line holds.
struct Out {
    out: BufWriter<StdoutLock<'static>>,
    columns: Vec<Column>,
}

impl Out {
    fn write(&mut self, partition: i32, timestamp_type: TimestampType, record: &Record) -> std::io::Result<()> {
        write_record(&mut self.out, &self.columns, partition, timestamp_type, record)
    }
}

/// One line: the columns in the order of Kafka's own console consumer, then the value. What is null prints as `null`.
fn write_record(
    out: &mut impl Write,
    columns: &[Column],
    partition: i32,
    timestamp_type: TimestampType,
    record: &Record,
) -> std::io::Result<()> {
    if columns.contains(&Column::Timestamp) {
        write!(out, "{timestamp_type:?}:{}\t", record.timestamp)?;
    }
    if columns.contains(&Column::Partition) {
        write!(out, "Partition:{partition}\t")?;
    }
    if columns.contains(&Column::Offset) {
        write!(out, "Offset:{}\t", record.offset)?;
    }
    if columns.contains(&Column::Headers) {
        for (i, header) in record.headers.iter().enumerate() {
            out.write_all(if i > 0 { b"," } else { b"" })?;
            out.write_all(&header.key)?;
            out.write_all(b":")?;
            out.write_all(header.value.as_deref().unwrap_or(b"null"))?;
        }
        out.write_all(if record.headers.is_empty() { b"NO_HEADERS\t" } else { b"\t" })?;
    }
    if columns.contains(&Column::Key) {
        out.write_all(record.key.as_deref().unwrap_or(b"null"))?;
        out.write_all(b"\t")?;
    }
    out.write_all(record.value.as_deref().unwrap_or(b"null"))?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RecordHeader;
    use bytes::Bytes;

    fn line(columns: &[Column], record: &Record) -> String {
        let mut out = Vec::new();
        write_record(&mut out, columns, 3, TimestampType::CreateTime, record).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_the_columns_of_kafka_s_own_console_consumer() {
        let header = |key: &'static str, value: Option<&'static str>| RecordHeader {
            key: key.into(),
            value: value.map(Bytes::from),
        };
        let mut record = Record {
            offset: 7,
            timestamp: 1700000000000,
            key: Some("k".into()),
            value: Some("v".into()),
            headers: vec![header("a", Some("1")), header("b", None)],
        };
        assert_eq!(line(&[], &record), "v\n");
        // In Kafka's order, whatever the order asked for.
        let all = [Column::Key, Column::Headers, Column::Offset, Column::Partition, Column::Timestamp];
        assert_eq!(line(&all, &record), "CreateTime:1700000000000\tPartition:3\tOffset:7\ta:1,b:null\tk\tv\n");
        (record.key, record.value) = (None, None);
        record.headers.clear();
        assert_eq!(line(&[Column::Headers, Column::Key], &record), "NO_HEADERS\tnull\tnull\n");
    }

    #[test]
    fn a_start_is_an_offset_or_one_of_two_names() {
        assert_eq!("12".parse(), Ok(Start::Offset(12)));
        assert_eq!("earliest".parse(), Ok(Start::Time(EARLIEST)));
        assert_eq!("latest".parse(), Ok(Start::Time(LATEST)));
        assert!("-3".parse::<Start>().is_err() && "begin".parse::<Start>().is_err());
    }
}
