//! Reading partitions from an offset on: what to ask each leader for, and where each partition goes on. Owned by one
//! thread; the bytes are moved by its owner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::{Cluster, FetchedBatches};
use crate::error_code::ErrorCode;
use crate::protocol::fetch::{FetchPartition, FetchTopic, ForgottenTopic};
use crate::protocol::{FetchRequest, FetchResponse};
use crate::record::{BatchError, HEADER_BYTES, batches};
use crate::types::{BrokerId, Deadline, Few, LeaderEpoch, Map, Offset, Time, TopicId};

#[derive(Clone, Debug)]
pub struct FetcherConfig {
    /// How long the broker may wait for `min_bytes`.
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
    pub retry_backoff_ms: u64,
    /// What the records of one batch may be, decompressed.
    pub decompressed_bytes_max: usize,
}

/// A partition that is read; referred to by its place in the list given to `Fetcher::new`.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub topic: Arc<str>,
    pub topic_id: TopicId,
    /// Counted from 0.
    pub partition: i32,
    /// `None` while there is no leader.
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    /// Of the next record wanted.
    pub offset: Offset,
}

/// What a broker said about one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub subscription: usize,
    /// The batches, or an error. One that is not retriable, or damage, stops this partition until `seek`.
    pub outcome: Result<FetchedBatches, ErrorCode>,
}

#[derive(Debug)]
pub struct Fetcher {
    config: FetcherConfig,
    partitions: Vec<Partition>,
    /// What the request in flight to each broker asks for; at most one request each.
    in_flight: BTreeMap<BrokerId, Vec<usize>>,
    sessions: BTreeMap<BrokerId, Session>,
    /// Place in the list by topic and partition, and the names of topics that answer by their id.
    places: Map<Arc<str>, Map<i32, usize>>,
    names: Map<TopicId, Arc<str>>,
    /// Where the next request begins to list, so that no partition starves.
    cursor: usize,
    wants_metadata: bool,
}

/// What a broker remembers of this reader (KIP-227): later requests name what has changed since, and answers what has moved.
#[derive(Debug, Default)]
struct Session {
    /// 0 while there is none.
    id: i32,
    /// Of the next request; 0 asks for a session.
    epoch: i32,
    /// Offset and leader epoch of each partition as the broker knows them.
    held: BTreeMap<usize, (Offset, LeaderEpoch)>,
}

#[derive(Debug)]
struct Partition {
    subscription: Subscription,
    /// Who owes an answer about it.
    asked: Option<BrokerId>,
    /// As the last answer said; -1 before the first.
    high_watermark: Offset,
    not_before: Deadline,
    is_stopped: bool,
}

impl Fetcher {
    pub fn new(config: FetcherConfig, subscriptions: Vec<Subscription>) -> Fetcher {
        let mut fetcher = Fetcher {
            config,
            partitions: Vec::new(),
            in_flight: BTreeMap::new(),
            sessions: BTreeMap::new(),
            places: Map::default(),
            names: Map::default(),
            cursor: 0,
            wants_metadata: false,
        };
        subscriptions.into_iter().for_each(|subscription| fetcher.subscribe(subscription));
        fetcher
    }

    /// Reads one more partition, as the last of the list.
    pub fn subscribe(&mut self, subscription: Subscription) {
        let topic = subscription.topic.clone();
        self.names.insert(subscription.topic_id, topic.clone());
        self.places.entry(topic).or_default().insert(subscription.partition, self.partitions.len());
        let partition = Partition { subscription, asked: None, high_watermark: -1, not_before: 0, is_stopped: false };
        self.partitions.push(partition);
    }

    /// How many partitions are read.
    pub fn subscriptions(&self) -> usize {
        self.partitions.len()
    }

    pub fn subscription(&self, subscription: usize) -> &Subscription {
        &self.partitions[subscription].subscription
    }

    /// Records between where the reader stands and the end that the last answers told, over all partitions.
    pub fn lag(&self) -> u64 {
        let behind = |one: &Partition| u64::try_from(one.high_watermark - one.subscription.offset).unwrap_or(0);
        self.partitions.iter().map(behind).sum()
    }

    /// The brokers that lead something here.
    pub fn leaders(&self) -> Vec<BrokerId> {
        let mut leaders: Vec<_> = self.partitions.iter().filter_map(|one| one.subscription.leader).collect();
        leaders.sort_unstable();
        leaders.dedup();
        leaders
    }

    /// The next request for this broker, counted as sent; `None` where nothing is to be asked or one is in flight.
    pub fn next_request(&mut self, now: Time, broker: BrokerId) -> Option<FetchRequest<'_>> {
        if self.in_flight.contains_key(&broker) {
            return None;
        }
        let count = self.partitions.len();
        let in_turn = (0..count).map(|i| (self.cursor + i) % count);
        let asked: Vec<usize> = in_turn
            .filter(|i| {
                let partition = &self.partitions[*i];
                let is_due = !partition.is_stopped && partition.not_before <= now.monotonic_us;
                is_due && partition.subscription.leader == Some(broker)
            })
            .collect();
        if asked.is_empty() {
            return None;
        }
        self.cursor = (asked[0] + 1) % count;
        let session = self.sessions.entry(broker).or_default();
        let (session_id, session_epoch) = (session.id, session.epoch);
        let is_asked: BTreeSet<usize> = asked.iter().copied().collect();
        let forgotten: Vec<usize> = session.held.keys().copied().filter(|i| !is_asked.contains(i)).collect();
        session.held.retain(|i, _| is_asked.contains(i));
        let mut topics: Few<FetchTopic> = Few::new();
        for i in &asked {
            self.partitions[*i].asked = Some(broker);
        }
        for i in &asked {
            let subscription = &self.partitions[*i].subscription;
            let known = session.held.insert(*i, (subscription.offset, subscription.leader_epoch));
            if known == Some((subscription.offset, subscription.leader_epoch)) {
                continue;
            }
            let partition = FetchPartition {
                partition: subscription.partition,
                current_leader_epoch: subscription.leader_epoch,
                fetch_offset: subscription.offset,
                partition_max_bytes: self.config.partition_max_bytes,
                ..FetchPartition::default()
            };
            match topics.iter_mut().rfind(|topic| topic.topic == &*subscription.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(FetchTopic {
                    topic: &subscription.topic,
                    topic_id: subscription.topic_id,
                    partitions: [partition].into(),
                }),
            }
        }
        self.in_flight.insert(broker, asked);
        let forgotten_topic = |i: usize| {
            let Subscription { topic, topic_id, partition, .. } = &self.partitions[i].subscription;
            ForgottenTopic { topic, topic_id: *topic_id, partitions: vec![*partition] }
        };
        Some(FetchRequest {
            max_wait_ms: self.config.max_wait_ms,
            min_bytes: self.config.min_bytes,
            max_bytes: self.config.max_bytes,
            session_id,
            session_epoch,
            topics,
            forgotten_topics_data: forgotten.into_iter().map(forgotten_topic).collect(),
            ..FetchRequest::default()
        })
    }

    /// The answer to the request in flight to this broker. Partitions go on behind what it brought.
    pub fn on_response(&mut self, now: Time, broker: BrokerId, response: FetchResponse) -> Vec<Fetched> {
        let asked = self.in_flight.remove(&broker).unwrap_or_default();
        match ErrorCode::from_code(response.error_code) {
            Some(ErrorCode::None) => self.go_on(broker, response.session_id),
            Some(
                ErrorCode::FetchSessionIdNotFound
                | ErrorCode::InvalidFetchSessionEpoch
                | ErrorCode::FetchSessionTopicIdError,
            ) if self.sessions.get(&broker).is_some_and(|session| session.id != 0) => {
                // The broker has forgotten this reader: the next request names everything again.
                self.sessions.remove(&broker);
                self.answered(&asked);
                return Vec::new();
            }
            _ => {
                self.sessions.remove(&broker);
                self.answered(&asked);
                self.back_off(now, &asked);
                return Vec::new();
            }
        }
        let mut fetched = Vec::new();
        for topic in response.responses {
            // From version 13 on topics answer by their id, before by their name.
            let name = match topic.topic {
                "" => self.names.get(&topic.topic_id).cloned(),
                name => self.places.get_key_value(name).map(|(name, _)| name.clone()),
            };
            let Some(name) = name else { continue };
            for answer in topic.partitions {
                let place = self.places.get(&name).and_then(|places| places.get(&answer.partition_index)).copied();
                let Some(i) = place.filter(|i| self.partitions[*i].asked == Some(broker)) else { continue };
                let code = ErrorCode::from_code(answer.error_code).unwrap_or(ErrorCode::UnknownServerError);
                let outcome = match code {
                    ErrorCode::None => {
                        self.partitions[i].high_watermark = answer.high_watermark;
                        let records = answer.records.0.into_iter().next().unwrap_or_default();
                        match self.advance(i, records) {
                            Some(batches) => Ok(batches),
                            None => continue,
                        }
                    }
                    code => {
                        // Damage on the broker's disk does not heal by asking again.
                        self.partitions[i].is_stopped = !code.is_retriable() || code == ErrorCode::CorruptMessage;
                        self.back_off(now, &[i]);
                        Err(code)
                    }
                };
                fetched.push(Fetched { subscription: i, outcome });
            }
        }
        self.answered(&asked);
        fetched
    }

    /// The session after a good answer. A broker that keeps none is asked for one with every request.
    fn go_on(&mut self, broker: BrokerId, session_id: i32) {
        let session = self.sessions.entry(broker).or_default();
        if session_id == 0 {
            *session = Session::default();
            return;
        }
        session.epoch = if session.id == session_id { session.epoch.checked_add(1).unwrap_or(1) } else { 1 };
        session.id = session_id;
    }

    fn answered(&mut self, asked: &[usize]) {
        asked.iter().for_each(|i| self.partitions[*i].asked = None);
    }

    /// Moves the partition behind the whole batches among `records`; `None` if there is none.
    fn advance(&mut self, i: usize, records: Bytes) -> Option<FetchedBatches> {
        let subscription = &mut self.partitions[i].subscription;
        let from = subscription.offset;
        let mut walk = batches(&records);
        for (_, header) in walk.by_ref().map_while(Result::ok) {
            subscription.offset = subscription.offset.max(header.next_offset());
        }
        // A broker may cut the last batch short (KIP-74): it comes whole with the next fetch. Damage is left in, for the
        // reader of the batches to find.
        let is_damaged = records.len() - walk.position() >= HEADER_BYTES
            && !matches!(batches(&records[walk.position()..]).next(), Some(Err(BatchError::Truncated { .. })));
        let bytes = if is_damaged { records } else { records.slice(..walk.position()) };
        let decompressed_bytes_max = self.config.decompressed_bytes_max;
        (!bytes.is_empty()).then_some(FetchedBatches { bytes, from, decompressed_bytes_max })
    }

    fn back_off(&mut self, now: Time, partitions: &[usize]) {
        self.wants_metadata = true;
        for i in partitions {
            self.partitions[*i].not_before = now.after_ms(self.config.retry_backoff_ms);
        }
    }

    /// The connection is gone, or never came to be.
    pub fn on_disconnect(&mut self, now: Time, broker: BrokerId) {
        let asked = self.in_flight.remove(&broker).unwrap_or_default();
        self.answered(&asked);
        self.sessions.remove(&broker);
        let led_by_it = |i: &usize| self.partitions[*i].subscription.leader == Some(broker);
        let led: Vec<usize> = (0..self.partitions.len()).filter(led_by_it).collect();
        self.back_off(now, &led);
    }

    /// Goes on from another offset, also where an error had stopped the partition.
    pub fn seek(&mut self, subscription: usize, offset: Offset) {
        let partition = &mut self.partitions[subscription];
        partition.subscription.offset = offset;
        partition.is_stopped = false;
    }

    /// When something is due again without any answer.
    pub fn next_deadline(&self) -> Option<Deadline> {
        let waits = self.partitions.iter().filter(|partition| {
            let leader = partition.subscription.leader;
            !partition.is_stopped && leader.is_some_and(|leader| !self.in_flight.contains_key(&leader))
        });
        waits.map(|partition| partition.not_before).min()
    }

    /// Whether something came back, or is leaderless, that newer metadata may explain.
    pub fn wants_metadata(&self) -> bool {
        self.wants_metadata
    }

    /// Who leads now.
    pub fn on_metadata(&mut self, cluster: &Cluster) {
        self.wants_metadata = false;
        for Partition { subscription, .. } in &mut self.partitions {
            let topic = cluster.topics.get(&*subscription.topic).filter(|topic| topic.id == subscription.topic_id);
            let partition =
                topic.and_then(|topic| topic.partitions.iter().find(|one| one.index == subscription.partition));
            subscription.leader = partition.and_then(|partition| partition.leader);
            subscription.leader_epoch = partition.map_or(-1, |partition| partition.leader_epoch);
            self.wants_metadata |= subscription.leader.is_none();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{PartitionInfo, Topic};
    use crate::protocol::Records;
    use crate::protocol::fetch::{FetchableTopicResponse, PartitionData};
    use crate::record::BatchBuilder;
    use crate::types::Uuid;

    const NOW: Time = Time { monotonic_us: 0, wall_ms: 0 };

    fn fetcher(leaders: &[BrokerId]) -> Fetcher {
        let config = FetcherConfig {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1 << 20,
            partition_max_bytes: 1 << 16,
            retry_backoff_ms: 100,
            decompressed_bytes_max: 1 << 20,
        };
        let subscription = |(index, leader): (usize, &BrokerId)| Subscription {
            topic: "orders".into(),
            topic_id: Uuid::from_random(7),
            partition: index as i32,
            leader: Some(*leader),
            leader_epoch: 4,
            offset: 10,
        };
        Fetcher::new(config, leaders.iter().enumerate().map(subscription).collect())
    }

    /// Three records from `base_offset` on.
    fn batch(base_offset: Offset) -> Vec<u8> {
        let mut builder = BatchBuilder::new().base_offset(base_offset);
        (0..3).for_each(|i| builder.push(i, None, Some(b"v")));
        builder.build().to_vec()
    }

    fn control_batch(base_offset: Offset) -> Vec<u8> {
        let mut builder = BatchBuilder::new().base_offset(base_offset).control();
        builder.push(0, Some(&[0, 0, 0, 1]), Some(&[0; 6]));
        builder.build().to_vec()
    }

    fn response(partition_index: i32, error_code: ErrorCode, records: Vec<u8>) -> FetchResponse<'static> {
        let records = Records((!records.is_empty()).then(|| records.into()).into_iter().collect());
        let partition =
            PartitionData { partition_index, error_code: error_code.code(), records, ..PartitionData::default() };
        let topic =
            FetchableTopicResponse { topic: "", topic_id: Uuid::from_random(7), partitions: [partition].into() };
        FetchResponse { responses: [topic].into(), ..FetchResponse::default() }
    }

    fn asked(fetcher: &mut Fetcher, now: Time, broker: BrokerId) -> Option<Vec<(i32, Offset)>> {
        let request = fetcher.next_request(now, broker)?;
        let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
        Some(partitions.map(|partition| (partition.partition, partition.fetch_offset)).collect())
    }

    fn offsets(fetched: &[Fetched]) -> Vec<Result<Offset, ()>> {
        let batches = || fetched.iter().map(|one| one.outcome.as_ref().unwrap());
        let records = batches().flat_map(FetchedBatches::records);
        let owned: Vec<_> = records.map(|record| record.map(|(_, record)| record.offset).map_err(|_| ())).collect();
        let mut visited = Vec::new();
        batches().for_each(|one| one.for_each(|record| visited.push(record.map(|r| r.offset).map_err(|_| ()))));
        assert_eq!(visited, owned, "both ways of reading tell the same");
        owned
    }

    #[test]
    fn records_below_the_offset_asked_for_and_control_records_are_passed_over() {
        let mut fetcher = fetcher(&[1]);
        assert_eq!(asked(&mut fetcher, NOW, 1), Some(vec![(0, 10)]));
        assert_eq!(asked(&mut fetcher, NOW, 1), None);
        let records = [batch(8), control_batch(11), batch(12)].concat();
        let fetched = fetcher.on_response(NOW, 1, response(0, ErrorCode::None, records));
        assert_eq!(offsets(&fetched), [Ok(10), Ok(12), Ok(13), Ok(14)]);
        assert_eq!(asked(&mut fetcher, NOW, 1), Some(vec![(0, 15)]));
    }

    #[test]
    fn a_batch_cut_short_at_the_end_comes_whole_with_the_next_fetch() {
        let mut fetcher = fetcher(&[1]);
        asked(&mut fetcher, NOW, 1);
        let mut records = [batch(10), batch(13)].concat();
        records.truncate(records.len() - 1);
        let fetched = fetcher.on_response(NOW, 1, response(0, ErrorCode::None, records));
        assert_eq!(offsets(&fetched), [Ok(10), Ok(11), Ok(12)]);
        assert_eq!(asked(&mut fetcher, NOW, 1), Some(vec![(0, 13)]));
        assert!(fetcher.on_response(NOW, 1, response(0, ErrorCode::None, batch(13)[..20].to_vec())).is_empty());
        assert_eq!(asked(&mut fetcher, NOW, 1), Some(vec![(0, 13)]));
    }

    #[test]
    fn damage_is_an_error_and_not_the_end() {
        let mut damaged = batch(13);
        *damaged.last_mut().unwrap() ^= 1;
        let mut wrong_magic = batch(13);
        wrong_magic[16] = 1;
        for bad in [damaged, wrong_magic] {
            let mut fetcher = fetcher(&[1]);
            asked(&mut fetcher, NOW, 1);
            let fetched = fetcher.on_response(NOW, 1, response(0, ErrorCode::None, [batch(10), bad].concat()));
            assert_eq!(offsets(&fetched), [Ok(10), Ok(11), Ok(12), Err(())]);
        }
    }

    #[test]
    fn each_leader_is_asked_for_its_own_and_the_first_listed_takes_turns() {
        let mut fetcher = fetcher(&[1, 2, 1]);
        assert_eq!(fetcher.leaders(), [1, 2]);
        assert_eq!(asked(&mut fetcher, NOW, 1), Some(vec![(0, 10), (2, 10)]));
        assert_eq!(asked(&mut fetcher, NOW, 2), Some(vec![(1, 10)]));
        fetcher.on_response(NOW, 1, FetchResponse::default());
        assert_eq!(asked(&mut fetcher, NOW, 1), Some(vec![(2, 10), (0, 10)]));
    }

    #[test]
    fn an_error_that_may_heal_waits_and_asks_for_metadata_and_another_stops_until_seek() {
        let mut fetcher = fetcher(&[1]);
        asked(&mut fetcher, NOW, 1);
        let fetched = fetcher.on_response(NOW, 1, response(0, ErrorCode::NotLeaderOrFollower, vec![]));
        assert_eq!(fetched[0].outcome.as_ref().unwrap_err(), &ErrorCode::NotLeaderOrFollower);
        assert!(fetcher.wants_metadata());
        assert_eq!((asked(&mut fetcher, NOW, 1), fetcher.next_deadline()), (None, Some(100_000)));
        let later = Time { monotonic_us: 100_000, ..NOW };
        assert_eq!(asked(&mut fetcher, later, 1), Some(vec![(0, 10)]));
        fetcher.on_response(later, 1, response(0, ErrorCode::OffsetOutOfRange, vec![]));
        let later = Time { monotonic_us: 300_000, ..NOW };
        assert_eq!((asked(&mut fetcher, later, 1), fetcher.next_deadline()), (None, None));
        fetcher.seek(0, 40);
        assert_eq!(asked(&mut fetcher, later, 1), Some(vec![(0, 40)]));
    }

    #[test]
    fn after_a_lost_connection_the_new_leader_is_asked_from_the_same_offset() {
        let mut fetcher = fetcher(&[1]);
        asked(&mut fetcher, NOW, 1);
        fetcher.on_disconnect(NOW, 1);
        let partition = PartitionInfo { index: 0, leader: Some(2), leader_epoch: 5 };
        let topic = Topic { id: Uuid::from_random(7), is_internal: false, partitions: vec![partition] };
        let mut cluster = Cluster::default();
        cluster.topics.insert("orders".to_owned(), topic);
        fetcher.on_metadata(&cluster);
        assert_eq!(fetcher.subscription(0).leader_epoch, 5);
        let later = Time { monotonic_us: 100_000, ..NOW };
        assert_eq!((asked(&mut fetcher, later, 1), asked(&mut fetcher, later, 2)), (None, Some(vec![(0, 10)])));
    }

    #[test]
    fn partitions_that_nobody_asked_for_are_passed_over() {
        let mut fetcher = fetcher(&[1]);
        asked(&mut fetcher, NOW, 1);
        assert!(fetcher.on_response(NOW, 1, response(3, ErrorCode::None, batch(10))).is_empty());
        assert!(fetcher.on_response(NOW, 1, response(0, ErrorCode::None, batch(10))).is_empty());
    }

    /// What a request says of its session: id, epoch, partitions with their offsets, partitions to be forgotten.
    type Said = (i32, i32, Vec<(i32, Offset)>, Vec<i32>);

    fn said(fetcher: &mut Fetcher, now: Time, broker: BrokerId) -> Option<Said> {
        let request = fetcher.next_request(now, broker)?;
        let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
        let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| topic.partitions.clone());
        let named = partitions.map(|partition| (partition.partition, partition.fetch_offset)).collect();
        Some((request.session_id, request.session_epoch, named, forgotten.collect()))
    }

    #[test]
    fn within_a_session_only_what_changed_is_named() {
        let mut fetcher = fetcher(&[1, 1, 1]);
        assert_eq!(said(&mut fetcher, NOW, 1), Some((0, 0, vec![(0, 10), (1, 10), (2, 10)], vec![])));
        let in_session = |response: FetchResponse<'static>| FetchResponse { session_id: 77, ..response };
        fetcher.on_response(NOW, 1, in_session(response(1, ErrorCode::None, batch(10))));
        assert_eq!(said(&mut fetcher, NOW, 1), Some((77, 1, vec![(1, 13)], vec![])));
        fetcher.on_response(NOW, 1, in_session(FetchResponse::default()));
        assert_eq!(said(&mut fetcher, NOW, 1), Some((77, 2, vec![], vec![])));
        // A partition that waits is forgotten, and named again when it is due.
        fetcher.on_response(NOW, 1, in_session(response(2, ErrorCode::NotLeaderOrFollower, vec![])));
        assert_eq!(said(&mut fetcher, NOW, 1), Some((77, 3, vec![], vec![2])));
        fetcher.on_response(NOW, 1, in_session(FetchResponse::default()));
        let later = Time { monotonic_us: 100_000, ..NOW };
        assert_eq!(said(&mut fetcher, later, 1), Some((77, 4, vec![(2, 10)], vec![])));
    }

    #[test]
    fn a_session_that_the_broker_forgot_begins_anew_at_once() {
        for code in [ErrorCode::FetchSessionIdNotFound, ErrorCode::InvalidFetchSessionEpoch] {
            let mut fetcher = fetcher(&[1, 1]);
            said(&mut fetcher, NOW, 1);
            fetcher.on_response(NOW, 1, FetchResponse { session_id: 77, ..FetchResponse::default() });
            said(&mut fetcher, NOW, 1);
            let refused = FetchResponse { error_code: code.code(), ..FetchResponse::default() };
            assert!(fetcher.on_response(NOW, 1, refused).is_empty());
            let again = said(&mut fetcher, NOW, 1).map(|(id, epoch, named, _)| (id, epoch, named.len()));
            assert_eq!((again, fetcher.wants_metadata()), (Some((0, 0, 2)), false));
        }
    }

    #[test]
    fn a_lost_connection_ends_its_session() {
        let mut fetcher = fetcher(&[1]);
        said(&mut fetcher, NOW, 1);
        fetcher.on_response(NOW, 1, FetchResponse { session_id: 77, ..FetchResponse::default() });
        said(&mut fetcher, NOW, 1);
        fetcher.on_disconnect(NOW, 1);
        let later = Time { monotonic_us: 100_000, ..NOW };
        assert_eq!(said(&mut fetcher, later, 1), Some((0, 0, vec![(0, 10)], vec![])));
    }
}
