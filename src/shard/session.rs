//! Incremental fetch sessions (KIP-227): the partitions a client fetches, remembered so that it need not name them again
//! and is told only of those that changed. A session lives on the core that made it; its id says which that is.

use std::sync::Arc;

use crate::config::BrokerConfig;
use crate::error_code::ErrorCode;
use crate::protocol::fetch::{FetchPartition, FetchRequest};
use crate::types::{LeaderEpoch, Map, Offset, ShardId, Time, TopicId};

pub(super) struct Sessions {
    shard: ShardId,
    shards: u16,
    slots: usize,
    /// Partitions of all sessions together: what clients name costs memory.
    partitions: usize,
    sessions: Map<i32, Session>,
    random: u64,
}

struct Session {
    /// What the client's next request must say.
    epoch: i32,
    /// Partitions are named by topic id (Fetch 13 and later).
    by_id: bool,
    last_used_us: u64,
    partitions: Vec<SessionPartition>,
    /// Where each partition stands in `partitions`.
    positions: Map<(TopicId, Arc<str>, i32), usize>,
}

/// One partition as the client asks for it, and what it was last told.
#[derive(Clone, Debug)]
pub(super) struct SessionPartition {
    pub topic: Arc<str>,
    /// Zero where the name is not known.
    pub topic_id: TopicId,
    pub index: i32,
    pub fetch_offset: Offset,
    pub max_bytes: i32,
    pub current_leader_epoch: LeaderEpoch,
    pub last_fetched_epoch: LeaderEpoch,
    /// (high watermark, log start offset) of the last answer.
    pub told: Option<(Offset, Offset)>,
}

/// How a fetch is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SessionUse {
    /// Every partition, and no session.
    Full,
    /// Every partition; the session of this id begins.
    Begin(i32),
    /// Only what changed.
    Incremental(i32),
}

/// A session unused for this long gives its slot to another; Kafka's `min.incremental.fetch.session.eviction.ms`.
const EVICTION_US: u64 = 120_000_000;

/// Partitions that the sessions of one core hold together; beyond them clients fetch without a session.
const SESSION_PARTITIONS_MAX: usize = 200_000;

const FINAL_EPOCH: i32 = -1;
const INITIAL_EPOCH: i32 = 0;

impl Sessions {
    pub fn new(shard: ShardId, shards: u16, config: &BrokerConfig, seed: u64) -> Sessions {
        let slots = config.max_incremental_fetch_session_cache_slots as usize;
        Sessions {
            shard,
            shards,
            slots: slots.div_ceil(usize::from(shards)),
            partitions: 0,
            sessions: Map::default(),
            random: seed,
        }
    }

    /// The partitions to fetch for this request, and how to answer. `resolve` finds a topic's name and id, either from
    /// the other; what it does not find stays empty.
    pub fn apply(
        &mut self,
        now: Time,
        request: &FetchRequest<'_>,
        version: i16,
        resolve: impl Fn(&str, TopicId) -> (Arc<str>, TopicId),
    ) -> Result<(SessionUse, Vec<SessionPartition>), ErrorCode> {
        let by_id = version >= 13;
        let mut named = Vec::new();
        for topic in &request.topics {
            let (name, id) = resolve(topic.topic, topic.topic_id);
            named.extend(topic.partitions.iter().map(|partition| asked(name.clone(), id, partition)));
        }
        match (request.session_id, request.session_epoch) {
            (id, FINAL_EPOCH | INITIAL_EPOCH) => {
                self.remove(id);
                if request.session_epoch == FINAL_EPOCH || named.is_empty() || version < 7 {
                    return Ok((SessionUse::Full, named));
                }
                match self.begin(now, by_id, &named) {
                    Some(id) => Ok((SessionUse::Begin(id), named)),
                    None => Ok((SessionUse::Full, named)),
                }
            }
            (id, epoch) => {
                let session = self.sessions.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
                if session.by_id != by_id {
                    return Err(ErrorCode::FetchSessionTopicIdError);
                }
                if session.epoch != epoch {
                    return Err(ErrorCode::InvalidFetchSessionEpoch);
                }
                let before = session.partitions.len();
                for topic in &request.forgotten_topics_data {
                    session.forget(topic.topic_id, topic.topic, &topic.partitions);
                }
                session.update(named, &resolve);
                self.partitions = self.partitions + session.partitions.len() - before;
                session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
                session.last_used_us = now.monotonic_us;
                Ok((SessionUse::Incremental(id), session.partitions.clone()))
            }
        }
    }

    fn begin(&mut self, now: Time, by_id: bool, partitions: &[SessionPartition]) -> Option<i32> {
        if self.partitions + partitions.len() > SESSION_PARTITIONS_MAX {
            return None;
        }
        if self.sessions.len() >= self.slots {
            let oldest = self.sessions.iter().min_by_key(|(id, session)| (session.last_used_us, **id));
            let (&id, session) = oldest?;
            if session.last_used_us + EVICTION_US > now.monotonic_us {
                return None;
            }
            self.remove(id);
        }
        let id = self.new_id();
        let mut session = Session {
            epoch: 1,
            by_id,
            last_used_us: now.monotonic_us,
            partitions: partitions.to_vec(),
            positions: Map::default(),
        };
        session.find_positions();
        self.partitions += partitions.len();
        self.sessions.insert(id, session);
        Some(id)
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.partitions.len();
        }
    }

    /// An id that is free, positive, and congruent to this shard.
    fn new_id(&mut self) -> i32 {
        loop {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let shards = u64::from(self.shards);
            let id = (self.random >> 34) / shards * shards + u64::from(self.shard.0);
            if let Ok(id) = i32::try_from(id)
                && id > 0
                && !self.sessions.contains_key(&id)
            {
                return id;
            }
        }
    }

    /// What the client is told now. Partitions that had data (rising) go to the end, so that the others come first next time.
    pub fn on_answer(&mut self, id: i32, told: &[(usize, (Offset, Offset))], had_data: &[usize]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        for &(index, told) in told {
            if let Some(partition) = session.partitions.get_mut(index) {
                partition.told = Some(told);
            }
        }
        if !had_data.is_empty() && had_data.len() < session.partitions.len() {
            let (mut served, mut others) = (Vec::with_capacity(had_data.len()), Vec::new());
            for (index, partition) in session.partitions.drain(..).enumerate() {
                let target = if had_data.binary_search(&index).is_ok() { &mut served } else { &mut others };
                target.push(partition);
            }
            others.append(&mut served);
            session.partitions = others;
            session.find_positions();
        }
    }
}

impl Session {
    fn find_positions(&mut self) {
        self.positions = self.partitions.iter().enumerate().map(|(position, p)| (p.key(), position)).collect();
    }

    /// By what the client calls it: the topic may be gone by now, and with it the other half of its identity.
    fn forget(&mut self, topic_id: TopicId, topic: &str, indexes: &[i32]) {
        let by_id = self.by_id;
        let is_it = |p: &SessionPartition| if by_id { p.topic_id == topic_id } else { &*p.topic == topic };
        self.partitions.retain(|p| !(is_it(p) && indexes.contains(&p.index)));
        self.find_positions();
    }

    /// Takes in what the client adds or asks differently, and topics whose name or id has become known since.
    fn update(&mut self, named: Vec<SessionPartition>, resolve: &impl Fn(&str, TopicId) -> (Arc<str>, TopicId)) {
        let mut renamed = false;
        for partition in &mut self.partitions {
            let found = match self.by_id {
                true => resolve("", partition.topic_id),
                false => resolve(&partition.topic, TopicId::ZERO),
            };
            renamed |= found.1 != partition.topic_id || found.0 != partition.topic;
            (partition.topic, partition.topic_id) = found;
        }
        if renamed {
            self.find_positions();
        }
        for wanted in named {
            match self.positions.get(&wanted.key()) {
                Some(&position) => {
                    let told = self.partitions[position].told;
                    self.partitions[position] = SessionPartition { told, ..wanted };
                }
                None if self.partitions.len() < SESSION_PARTITIONS_MAX => {
                    self.positions.insert(wanted.key(), self.partitions.len());
                    self.partitions.push(wanted);
                }
                None => {}
            }
        }
    }
}

impl SessionPartition {
    fn key(&self) -> (TopicId, Arc<str>, i32) {
        (self.topic_id, self.topic.clone(), self.index)
    }
}

fn asked(topic: Arc<str>, topic_id: TopicId, partition: &FetchPartition) -> SessionPartition {
    SessionPartition {
        topic,
        topic_id,
        index: partition.partition,
        fetch_offset: partition.fetch_offset,
        max_bytes: partition.partition_max_bytes,
        current_leader_epoch: partition.current_leader_epoch,
        last_fetched_epoch: partition.last_fetched_epoch,
        told: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::fetch::{FetchTopic, ForgottenTopic};

    fn sessions(slots: u32) -> Sessions {
        let config = BrokerConfig { max_incremental_fetch_session_cache_slots: slots, ..BrokerConfig::default() };
        Sessions::new(ShardId(1), 3, &config, 42)
    }

    fn request(session: (i32, i32), partitions: &[(i32, Offset)]) -> FetchRequest<'static> {
        let partitions = partitions.iter().map(|&(partition, fetch_offset)| FetchPartition {
            partition,
            fetch_offset,
            ..FetchPartition::default()
        });
        FetchRequest {
            session_id: session.0,
            session_epoch: session.1,
            topics: vec![FetchTopic { topic: "t", partitions: partitions.collect(), ..FetchTopic::default() }],
            ..FetchRequest::default()
        }
    }

    fn apply(
        sessions: &mut Sessions,
        request: &FetchRequest<'_>,
    ) -> Result<(SessionUse, Vec<(i32, Offset)>), ErrorCode> {
        let resolve = |name: &str, id: TopicId| (Arc::from(name), id);
        let (used, partitions) = sessions.apply(Time::default(), request, 12, resolve)?;
        Ok((used, partitions.iter().map(|p| (p.index, p.fetch_offset)).collect()))
    }

    #[test]
    fn a_session_remembers_adds_and_forgets_partitions() {
        let mut sessions = sessions(10);
        let (used, partitions) = apply(&mut sessions, &request((0, 0), &[(0, 5), (1, 6)])).expect("begins");
        let SessionUse::Begin(id) = used else { panic!("{used:?}") };
        assert_eq!(id % 3, 1);
        assert_eq!(partitions, [(0, 5), (1, 6)]);
        let (used, partitions) = apply(&mut sessions, &request((id, 1), &[(1, 9), (2, 0)])).expect("goes on");
        assert_eq!(used, SessionUse::Incremental(id));
        assert_eq!(partitions, [(0, 5), (1, 9), (2, 0)]);
        let forget = ForgottenTopic { topic: "t", partitions: vec![0], ..ForgottenTopic::default() };
        let forgetting = FetchRequest { forgotten_topics_data: vec![forget], ..request((id, 2), &[]) };
        assert_eq!(apply(&mut sessions, &forgetting).expect("goes on").1, [(1, 9), (2, 0)]);
    }

    #[test]
    fn a_wrong_epoch_or_id_is_refused_and_the_final_epoch_ends_the_session() {
        let mut sessions = sessions(10);
        let SessionUse::Begin(id) = apply(&mut sessions, &request((0, 0), &[(0, 5)])).expect("begins").0 else {
            panic!("no session")
        };
        assert_eq!(apply(&mut sessions, &request((id, 2), &[])), Err(ErrorCode::InvalidFetchSessionEpoch));
        assert_eq!(apply(&mut sessions, &request((id + 3, 1), &[])), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(apply(&mut sessions, &request((id, -1), &[(0, 5)])).expect("full").0, SessionUse::Full);
        assert_eq!(apply(&mut sessions, &request((id, 1), &[])), Err(ErrorCode::FetchSessionIdNotFound));
    }

    #[test]
    fn without_a_free_slot_a_fetch_goes_without_a_session() {
        let mut sessions = sessions(3);
        assert!(matches!(apply(&mut sessions, &request((0, 0), &[(0, 5)])), Ok((SessionUse::Begin(_), _))));
        assert!(matches!(apply(&mut sessions, &request((0, 0), &[(0, 5)])), Ok((SessionUse::Full, _))));
    }

    #[test]
    fn served_partitions_go_behind_the_others() {
        let mut sessions = sessions(10);
        let begun = apply(&mut sessions, &request((0, 0), &[(0, 0), (1, 0), (2, 0)])).expect("begins").0;
        let SessionUse::Begin(id) = begun else { panic!("no session") };
        sessions.on_answer(id, &[], &[0]);
        assert_eq!(apply(&mut sessions, &request((id, 1), &[])).expect("goes on").1, [(1, 0), (2, 0), (0, 0)]);
    }
}
