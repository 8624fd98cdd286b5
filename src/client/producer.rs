//! Records on their way to partitions: gathered into batches, sent a few requests at a time, sent again where the broker
//! asks for it, in order and without duplicates. Owned by one thread; the bytes are moved by its owner.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::Cluster;
use crate::error_code::ErrorCode;
use crate::protocol::produce::{PartitionProduceData, PartitionProduceResponse, TopicProduceData};
use crate::protocol::{ProduceRequest, ProduceResponse};
use crate::record::{BatchBuilder, Compression};
use crate::types::{BrokerId, Deadline, Few, Offset, ProducerEpoch, ProducerId, Time, Timestamp, TopicId};

#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// 0 no answer at all, 1 the leader's, -1 all in-sync replicas'.
    pub acks: i16,
    pub compression: Option<Compression>,
    /// How long a batch that is not full waits for more records.
    pub linger_ms: u64,
    /// A batch is full from here on, before compression. A larger record gets a batch to itself.
    pub batch_bytes_max: usize,
    /// A request takes no further batch beyond this.
    pub request_bytes_max: usize,
    /// Per broker. Up to 5 keep their order and are never appended twice, if the producer has an identity (KIP-98).
    pub requests_in_flight_max: usize,
    /// A broker that has not answered for so long is given up as a connection.
    pub request_timeout_ms: u64,
    /// A record that has not been acknowledged after so long is given up.
    pub delivery_timeout_ms: u64,
    /// How often a batch is sent again before a refusal that might heal, or a lost connection, counts.
    pub retries: u32,
    pub retry_backoff_ms: u64,
}

/// A partition that is produced to; referred to by its place in the list given to `Producer::new`.
#[derive(Clone, Debug)]
pub struct Destination {
    pub topic: Arc<str>,
    pub topic_id: TopicId,
    /// Counted from 0.
    pub partition: i32,
    /// `None` while there is no leader.
    pub leader: Option<BrokerId>,
}

/// The end of a batch's way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    pub destination: usize,
    /// How many records the destination had taken before the first of these.
    pub first_record: u64,
    pub records: i32,
    /// The offset of the first record, -1 where the broker did not say, or the refusal with the broker's own words.
    pub outcome: Result<Offset, (ErrorCode, Option<String>)>,
}

#[derive(Debug)]
pub struct Producer {
    config: ProducerConfig,
    queues: Vec<Queue>,
    /// The queues that hold an open or a ready batch: of many partitions few are busy at once.
    busy: BTreeSet<usize>,
    /// Requests without an answer yet, in the order they were sent.
    in_flight: BTreeMap<BrokerId, VecDeque<Request>>,
    /// Where the next request begins to look, so that no partition starves.
    cursor: usize,
    /// Queues whose identity is spent.
    fenced: BTreeSet<usize>,
    buffered_bytes: usize,
    unacknowledged: usize,
    flushing: bool,
    wants_metadata: bool,
}

/// One partition's batches. The open one gathers, those in `ready` wait, the rest is in flight.
#[derive(Debug)]
struct Queue {
    destination: Destination,
    /// `None` where nothing is idempotent.
    identity: Option<(ProducerId, ProducerEpoch)>,
    /// A batch that had its sequence was given up: the broker refuses what follows under the same identity, so nothing
    /// leaves until there is another.
    is_fenced: bool,
    open: Option<Open>,
    /// The size of its last batch: the next one gets so much room.
    last_batch_bytes: usize,
    /// In the order of their numbers.
    ready: VecDeque<Batch>,
    in_flight: usize,
    next_number: u64,
    /// Records taken so far.
    records: u64,
    next_sequence: i32,
    /// A batch came back: nothing leaves until those still in flight have come back too, since the broker refuses a
    /// sequence that does not follow the last one.
    is_retrying: bool,
    not_before: Deadline,
}

#[derive(Debug)]
struct Open {
    builder: BatchBuilder,
    since: Deadline,
    first_record: u64,
}

#[derive(Debug)]
struct Batch {
    contents: Contents,
    records: i32,
    /// Order within the partition.
    number: u64,
    first_record: u64,
    retries: u32,
    /// Bytes before compression, as `buffered_bytes` counts them.
    buffered_bytes: usize,
    deadline: Deadline,
}

/// A batch gets its sequence when it first leaves: one that is given up before leaves no gap.
#[derive(Debug)]
enum Contents {
    Gathered(BatchBuilder),
    Sealed(Bytes),
}

impl Batch {
    fn sealed(&self) -> &Bytes {
        match &self.contents {
            Contents::Sealed(bytes) => bytes,
            Contents::Gathered(_) => unreachable!("only what was sealed leaves"),
        }
    }

    fn is_sealed(&self) -> bool {
        matches!(self.contents, Contents::Sealed(_))
    }
}

#[derive(Debug)]
struct Request {
    /// By destination.
    batches: Vec<(usize, Batch)>,
    deadline: Deadline,
}

impl Producer {
    /// `identity` makes every batch idempotent: InitProducerId gives it, and acks must be -1.
    pub fn new(
        config: ProducerConfig,
        identity: Option<(ProducerId, ProducerEpoch)>,
        destinations: Vec<Destination>,
    ) -> Producer {
        assert!(identity.is_none() || config.acks == -1, "an idempotent producer asks for acks=all");
        assert!(config.requests_in_flight_max > 0 && (identity.is_none() || config.requests_in_flight_max <= 5));
        let queue = |destination| Queue {
            destination,
            identity,
            is_fenced: false,
            open: None,
            last_batch_bytes: 0,
            ready: VecDeque::new(),
            in_flight: 0,
            next_number: 0,
            records: 0,
            next_sequence: 0,
            is_retrying: false,
            not_before: 0,
        };
        Producer {
            config,
            queues: destinations.into_iter().map(queue).collect(),
            busy: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            cursor: 0,
            fenced: BTreeSet::new(),
            buffered_bytes: 0,
            unacknowledged: 0,
            flushing: false,
            wants_metadata: false,
        }
    }

    /// Takes a record. True if a batch became full by it, which is when a `Partitioner` moves on.
    pub fn push(
        &mut self,
        now: Time,
        destination: usize,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> bool {
        /// No less than what a record costs beside key and value.
        const RECORD_OVERHEAD_BYTES: usize = 32;
        let record_bytes = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + RECORD_OVERHEAD_BYTES;
        let batch_bytes_max = self.config.batch_bytes_max;
        let would_overflow = |open: &Open| open.builder.size() + record_bytes > batch_bytes_max;
        let mut is_full = self.queues[destination].open.as_ref().is_some_and(would_overflow);
        if is_full {
            self.close(destination);
        }
        let Queue { records: first_record, last_batch_bytes, .. } = self.queues[destination];
        self.queues[destination].records += 1;
        let open = self.queues[destination].open.get_or_insert_with(|| {
            self.unacknowledged += 1;
            self.busy.insert(destination);
            Open { builder: BatchBuilder::with_capacity(last_batch_bytes), since: now.monotonic_us, first_record }
        });
        let size_before = if open.builder.is_empty() { 0 } else { open.builder.size() };
        open.builder.push(timestamp, key, value);
        self.buffered_bytes += open.builder.size() - size_before;
        if would_overflow(open) {
            self.close(destination);
            is_full = true;
        }
        is_full
    }

    fn close(&mut self, destination: usize) {
        let queue = &mut self.queues[destination];
        let Some(Open { builder, since, first_record }) = queue.open.take() else { return };
        let (records, buffered_bytes) = (builder.record_count(), builder.size());
        queue.last_batch_bytes = buffered_bytes;
        let deadline = since.saturating_add(self.config.delivery_timeout_ms * 1000);
        let number = queue.next_number;
        queue.next_number += 1;
        queue.ready.push_back(Batch {
            contents: Contents::Gathered(builder),
            records,
            number,
            first_record,
            retries: 0,
            buffered_bytes,
            deadline,
        });
    }

    /// The size of the batch that leaves next: it has its sequence from here on.
    fn seal(&mut self, destination: usize) -> usize {
        let Queue { ready, identity, next_sequence, .. } = &mut self.queues[destination];
        let batch = ready.front_mut().expect("the caller has seen it");
        if let Contents::Gathered(builder) = &mut batch.contents {
            let mut builder = std::mem::take(builder).compression(self.config.compression);
            if let Some((id, epoch)) = *identity {
                builder = builder.producer(id, epoch, *next_sequence);
                *next_sequence = next_sequence.wrapping_add(batch.records) & i32::MAX;
            }
            batch.contents = Contents::Sealed(builder.build());
        }
        batch.sealed().len()
    }

    /// From now on nothing lingers.
    pub fn flush(&mut self) {
        self.flushing = true;
    }

    /// Whether every record has reached its end.
    pub fn is_idle(&self) -> bool {
        self.unacknowledged == 0
    }

    /// Bytes of the records taken and not delivered yet: what the caller bounds by not pushing more.
    pub fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// The brokers that lead something here.
    pub fn leaders(&self) -> Vec<BrokerId> {
        let mut leaders: Vec<_> = self.queues.iter().filter_map(|queue| queue.destination.leader).collect();
        leaders.sort_unstable();
        leaders.dedup();
        leaders
    }

    /// The next request for this broker, counted as sent; `None` where nothing is due or enough is in flight.
    pub fn next_request(&mut self, now: Time, broker: BrokerId) -> Option<ProduceRequest<'_>> {
        if !self.has_room(broker) {
            return None;
        }
        let mut batches = Vec::new();
        let mut bytes = 0;
        let from_cursor = self.busy.range(self.cursor..).chain(self.busy.range(..self.cursor));
        for destination in from_cursor.copied().collect::<Vec<usize>>() {
            if self.queues[destination].destination.leader != Some(broker) {
                continue;
            }
            if self.due(destination).is_some_and(|due| due <= now.monotonic_us) {
                if self.queues[destination].ready.is_empty() {
                    self.close(destination);
                }
                let size = self.seal(destination);
                if bytes > 0 && bytes + size > self.config.request_bytes_max {
                    self.cursor = destination;
                    break;
                }
                bytes += size;
                let queue = &mut self.queues[destination];
                let batch = queue.ready.pop_front().expect("what is due is ready or was just closed");
                queue.is_retrying = false;
                queue.in_flight += 1;
                batches.push((destination, batch));
                self.rest_if_empty(destination);
            }
        }
        if batches.is_empty() {
            return None;
        }
        batches.sort_by_key(|(destination, _)| *destination);
        let requests = self.in_flight.entry(broker).or_default();
        requests.push_back(Request { batches, deadline: now.after_ms(self.config.request_timeout_ms) });
        let mut topic_data: Few<TopicProduceData> = Few::new();
        for (destination, batch) in &requests.back().expect("just pushed").batches {
            let Destination { topic, topic_id, partition, .. } = &self.queues[*destination].destination;
            let data = PartitionProduceData { index: *partition, records: Some(batch.sealed()) };
            match topic_data.last_mut() {
                Some(last) if last.name == &**topic => last.partition_data.push(data),
                _ => topic_data.push(TopicProduceData {
                    name: topic,
                    topic_id: *topic_id,
                    partition_data: [data].into(),
                }),
            }
        }
        let timeout_ms = i32::try_from(self.config.request_timeout_ms).unwrap_or(i32::MAX);
        Some(ProduceRequest { transactional_id: None, acks: self.config.acks, timeout_ms, topic_data })
    }

    fn rest_if_empty(&mut self, destination: usize) {
        let queue = &self.queues[destination];
        if queue.open.is_none() && queue.ready.is_empty() {
            self.busy.remove(&destination);
        }
    }

    fn has_room(&self, broker: BrokerId) -> bool {
        self.in_flight.get(&broker).is_none_or(|requests| requests.len() < self.config.requests_in_flight_max)
    }

    /// When this partition's next batch may leave; `None` while there is none, or while an answer must come first.
    fn due(&self, destination: usize) -> Option<Deadline> {
        let queue = &self.queues[destination];
        if queue.is_fenced || (queue.is_retrying && queue.in_flight > 0) {
            return None;
        }
        let linger_ms = if self.flushing { 0 } else { self.config.linger_ms };
        match (&queue.open, queue.ready.is_empty()) {
            (_, false) => Some(queue.not_before),
            (Some(open), true) => Some(queue.not_before.max(open.since.saturating_add(linger_ms * 1000))),
            (None, true) => None,
        }
    }

    /// When something is due again without any answer: a batch, or the end of its or a request's patience.
    pub fn next_deadline(&self) -> Option<Deadline> {
        let queues = self.busy.iter().filter_map(|&destination| {
            let queue = &self.queues[destination];
            let end_of_open = || Some(queue.open.as_ref()?.since + self.config.delivery_timeout_ms * 1000);
            let end = queue.ready.front().map(|batch| batch.deadline).or_else(end_of_open);
            let due = queue.destination.leader.filter(|leader| self.has_room(*leader)).and(self.due(destination));
            end.into_iter().chain(due).min()
        });
        queues.chain(self.in_flight.values().filter_map(|requests| Some(requests.front()?.deadline))).min()
    }

    /// The answer to the oldest request in flight to this broker.
    pub fn on_response(&mut self, now: Time, broker: BrokerId, response: &ProduceResponse) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for (destination, batch) in self.take_oldest(broker).into_iter().flat_map(|request| request.batches) {
            let queue = &mut self.queues[destination];
            queue.in_flight -= 1;
            let answer = find(response, &queue.destination);
            let code = answer.and_then(|answer| ErrorCode::from_code(answer.error_code));
            let outcome = match code.unwrap_or(ErrorCode::UnknownServerError) {
                ErrorCode::None => Ok(answer.map_or(-1, |answer| answer.base_offset)),
                // It had been appended, and the first answer was lost.
                ErrorCode::DuplicateSequenceNumber => Ok(-1),
                // The batch before it came back, so this one follows nothing.
                ErrorCode::OutOfOrderSequenceNumber if queue.is_retrying => {
                    self.retry(now, destination, batch);
                    continue;
                }
                code if code.is_retriable()
                    && batch.deadline > now.monotonic_us
                    && batch.retries < self.config.retries =>
                {
                    self.retry(now, destination, batch);
                    continue;
                }
                code => Err((code, answer.and_then(|answer| answer.error_message).map(str::to_owned))),
            };
            deliveries.push(self.end(destination, batch, outcome));
        }
        deliveries
    }

    /// With acks=0 a request is done when it is sent.
    pub fn on_sent_unanswered(&mut self, broker: BrokerId) -> Vec<Delivery> {
        assert!(self.config.acks == 0);
        let batches = self.take_oldest(broker).into_iter().flat_map(|request| request.batches);
        let ended = batches.map(|(destination, batch)| {
            self.queues[destination].in_flight -= 1;
            self.end(destination, batch, Ok(-1))
        });
        ended.collect()
    }

    /// The connection is gone, or never came to be: what was in flight is sent again as often as `retries` allows, elsewhere
    /// if metadata says so.
    pub fn on_disconnect(&mut self, now: Time, broker: BrokerId) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while let Some(request) = self.take_oldest(broker) {
            for (destination, batch) in request.batches {
                self.queues[destination].in_flight -= 1;
                if batch.retries < self.config.retries {
                    self.retry(now, destination, batch);
                } else {
                    deliveries.push(self.end(destination, batch, Err((ErrorCode::NetworkException, None))));
                }
            }
        }
        self.wants_metadata = true;
        let backoff = now.after_ms(self.config.retry_backoff_ms);
        for queue in self.queues.iter_mut().filter(|queue| queue.destination.leader == Some(broker)) {
            queue.not_before = backoff;
        }
        deliveries
    }

    fn take_oldest(&mut self, broker: BrokerId) -> Option<Request> {
        self.in_flight.get_mut(&broker)?.pop_front()
    }

    fn retry(&mut self, now: Time, destination: usize, mut batch: Batch) {
        self.wants_metadata = true;
        self.busy.insert(destination);
        batch.retries = batch.retries.saturating_add(1);
        let queue = &mut self.queues[destination];
        queue.is_retrying = true;
        queue.not_before = now.after_ms(self.config.retry_backoff_ms);
        let place = queue.ready.partition_point(|other| other.number < batch.number);
        queue.ready.insert(place, batch);
    }

    fn end(
        &mut self,
        destination: usize,
        batch: Batch,
        outcome: Result<Offset, (ErrorCode, Option<String>)>,
    ) -> Delivery {
        self.buffered_bytes -= batch.buffered_bytes;
        self.unacknowledged -= 1;
        let queue = &mut self.queues[destination];
        if outcome.is_err() && queue.identity.is_some() && batch.is_sealed() {
            queue.is_fenced = true;
            self.fenced.insert(destination);
        }
        Delivery { destination, first_record: batch.first_record, records: batch.records, outcome }
    }

    /// Gives up batches that could not be delivered in time.
    pub fn expire(&mut self, now: Time) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for destination in self.busy.iter().copied().collect::<Vec<usize>>() {
            let timeout_us = self.config.delivery_timeout_ms * 1000;
            if self.queues[destination].open.as_ref().is_some_and(|open| open.since + timeout_us <= now.monotonic_us) {
                self.close(destination);
            }
            let is_over = |batch: &Batch| batch.deadline <= now.monotonic_us;
            while self.queues[destination].ready.front().is_some_and(is_over) {
                let batch = self.queues[destination].ready.pop_front().expect("just seen");
                deliveries.push(self.end(destination, batch, Err((ErrorCode::RequestTimedOut, None))));
            }
            self.rest_if_empty(destination);
        }
        deliveries
    }

    /// A broker that owes an answer for too long; its connection should be given up.
    pub fn overdue(&self, now: Time) -> Option<BrokerId> {
        let is_late = |requests: &VecDeque<Request>| requests.front().is_some_and(|r| r.deadline <= now.monotonic_us);
        self.in_flight.iter().find(|(_, requests)| is_late(requests)).map(|(broker, _)| *broker)
    }

    /// Whether a partition cannot go on until InitProducerId has given this producer another identity.
    pub fn wants_identity(&self) -> bool {
        self.fenced.iter().any(|&destination| self.queues[destination].in_flight == 0)
    }

    /// Partitions that wait for it go on under this identity. What had left under the former one, and came back without a
    /// word on what became of it, is given up: sent again under another it might be there twice.
    pub fn on_identity(&mut self, identity: (ProducerId, ProducerEpoch)) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for destination in self.fenced.iter().copied().collect::<Vec<usize>>() {
            if self.queues[destination].in_flight > 0 {
                continue;
            }
            while self.queues[destination].ready.front().is_some_and(Batch::is_sealed) {
                let batch = self.queues[destination].ready.pop_front().expect("just seen");
                deliveries.push(self.end(destination, batch, Err((ErrorCode::OutOfOrderSequenceNumber, None))));
            }
            self.fenced.remove(&destination);
            let queue = &mut self.queues[destination];
            (queue.identity, queue.is_fenced, queue.is_retrying) = (Some(identity), false, false);
            queue.next_sequence = 0;
            self.rest_if_empty(destination);
        }
        deliveries
    }

    /// Whether something came back, or is leaderless, that newer metadata may explain.
    pub fn wants_metadata(&self) -> bool {
        self.wants_metadata
    }

    /// Who leads now.
    pub fn on_metadata(&mut self, cluster: &Cluster) {
        self.wants_metadata = false;
        for Queue { destination, .. } in &mut self.queues {
            let topic = cluster.topics.get(&*destination.topic).filter(|topic| topic.id == destination.topic_id);
            let partition =
                topic.and_then(|topic| topic.partitions.iter().find(|one| one.index == destination.partition));
            destination.leader = partition.and_then(|partition| partition.leader);
            self.wants_metadata |= destination.leader.is_none();
        }
    }
}

fn find<'r>(response: &'r ProduceResponse, destination: &Destination) -> Option<&'r PartitionProduceResponse<'r>> {
    // From version 13 on topics answer by their id, before by their name.
    let is_named = |name: &str, id: TopicId| match name {
        "" => id == destination.topic_id,
        name => name == &*destination.topic,
    };
    let topic = response.responses.iter().find(|topic| is_named(topic.name, topic.topic_id))?;
    topic.partition_responses.iter().find(|partition| partition.index == destination.partition)
}

#[cfg(test)]
#[path = "producer_tests.rs"]
mod tests;
