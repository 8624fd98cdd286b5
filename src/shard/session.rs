//! Incremental fetch sessions (KIP-227): the partitions a client fetches, remembered so that it need not name them again
//! and is told only of those that changed. A session lives on the core that made it; its id says which that is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::BrokerConfig;
use crate::error_code::ErrorCode;
use crate::protocol::fetch::{FetchPartition, FetchRequest};
use crate::types::{Few, LeaderEpoch, Map, Offset, ShardId, Time, TopicId};

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
    /// By place: a number that is used once and never again, by which the owners know a partition.
    partitions: BTreeMap<u32, SessionPartition>,
    places: Map<(TopicId, Arc<str>, i32), u32>,
    next_place: u32,
    /// Partitions that each core owns.
    owners: BTreeMap<ShardId, usize>,
    /// Places of partitions that nobody owns.
    unknown: BTreeSet<u32>,
    /// The image that names and owners are from.
    resolved_at: u64,
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
    /// None if there is no such partition.
    pub owner: Option<ShardId>,
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

impl SessionUse {
    pub fn id(self) -> Option<i32> {
        match self {
            SessionUse::Full => None,
            SessionUse::Begin(id) | SessionUse::Incremental(id) => Some(id),
        }
    }
}

/// What a request comes down to.
#[derive(Debug)]
pub(super) struct Applied {
    pub session: SessionUse,
    /// The session that the request ended, or whose room it took, and the cores that know of it.
    pub ended: Vec<(i32, Vec<ShardId>)>,
    /// What the owners do not know yet, by place.
    pub changed: Few<(u32, SessionPartition)>,
    /// Places that owners know and should forget.
    pub forgotten: Vec<(ShardId, u32)>,
    /// Cores that own partitions of the session.
    pub owners: Few<ShardId>,
    /// Places of partitions that do not exist.
    pub unknown: Vec<u32>,
}

impl Applied {
    /// A request without a session: all that it names.
    fn full(named: Few<SessionPartition>) -> Applied {
        let (mut owners, mut unknown) = (Few::new(), Vec::new());
        let changed: Few<(u32, SessionPartition)> = (0..).zip(named).collect();
        for (place, partition) in &changed {
            match partition.owner {
                Some(owner) if owners.contains(&owner) => {}
                Some(owner) => owners.push(owner),
                None => unknown.push(*place),
            }
        }
        Applied { session: SessionUse::Full, ended: Vec::new(), changed, forgotten: Vec::new(), owners, unknown }
    }
}

/// What is known of the cluster, as sessions need it.
pub(super) trait Topics {
    /// Changes with the facts.
    fn version(&self) -> u64;
    /// A topic's name and id, either from the other; what is not found stays empty.
    fn resolve(&self, name: &str, id: TopicId) -> (Arc<str>, TopicId);
    /// None if there is no such partition.
    fn owner(&self, topic_id: TopicId, index: i32) -> Option<ShardId>;
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

    /// What to fetch for this request, and how to answer.
    pub fn apply(
        &mut self,
        now: Time,
        request: &FetchRequest<'_>,
        version: i16,
        topics: &impl Topics,
    ) -> Result<Applied, ErrorCode> {
        let by_id = version >= 13;
        let mut named = Few::new();
        for topic in &request.topics {
            let (name, id) = topics.resolve(topic.topic, topic.topic_id);
            named.extend(topic.partitions.iter().map(|partition| asked(name.clone(), id, partition, topics)));
        }
        match (request.session_id, request.session_epoch) {
            (id, FINAL_EPOCH | INITIAL_EPOCH) => {
                let mut applied = Applied::full(named);
                applied.ended.extend(self.remove(id));
                let wants_session = request.session_epoch == INITIAL_EPOCH && version >= 7;
                if wants_session && self.has_room(now, &mut applied) {
                    applied.session = SessionUse::Begin(self.begin(now, by_id, topics.version(), &applied.changed));
                }
                Ok(applied)
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
                let mut changes = Changes::default();
                if session.resolved_at != topics.version() {
                    session.resolve(topics, &mut changes);
                }
                for topic in &request.forgotten_topics_data {
                    let (name, id) = topics.resolve(topic.topic, topic.topic_id);
                    session.forget(&name, id, &topic.partitions, &mut changes);
                }
                session.update(named, &mut changes);
                self.partitions = self.partitions + session.partitions.len() - before;
                session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
                session.last_used_us = now.monotonic_us;
                let changed = changes.asked.into_iter().map(|place| (place, session.partitions[&place].clone()));
                Ok(Applied {
                    session: SessionUse::Incremental(id),
                    ended: Vec::new(),
                    changed: changed.collect(),
                    forgotten: changes.forgotten,
                    owners: session.owners.keys().copied().collect(),
                    unknown: session.unknown.iter().copied().collect(),
                })
            }
        }
    }

    fn has_room(&mut self, now: Time, applied: &mut Applied) -> bool {
        if applied.changed.is_empty() || self.partitions + applied.changed.len() > SESSION_PARTITIONS_MAX {
            return false;
        }
        if self.sessions.len() < self.slots {
            return true;
        }
        let oldest = self.sessions.iter().min_by_key(|(id, session)| (session.last_used_us, **id));
        match oldest {
            Some((&id, oldest)) if oldest.last_used_us + EVICTION_US <= now.monotonic_us => {
                applied.ended.extend(self.remove(id));
                true
            }
            _ => false,
        }
    }

    fn begin(&mut self, now: Time, by_id: bool, resolved_at: u64, partitions: &[(u32, SessionPartition)]) -> i32 {
        let id = self.new_id();
        let mut session = Session::new(by_id);
        (session.last_used_us, session.resolved_at) = (now.monotonic_us, resolved_at);
        for (place, partition) in partitions {
            assert!(session.add(partition.clone()) == *place);
        }
        self.partitions += partitions.len();
        self.sessions.insert(id, session);
        id
    }

    /// Ends a session; returns the cores that know of it.
    pub fn remove(&mut self, id: i32) -> Option<(i32, Vec<ShardId>)> {
        let session = self.sessions.remove(&id)?;
        self.partitions -= session.partitions.len();
        Some((id, session.owners.into_keys().collect()))
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

    /// The partition at this place, if session and partition are still there.
    pub fn partition_mut(&mut self, id: i32, place: u32) -> Option<&mut SessionPartition> {
        self.sessions.get_mut(&id)?.partitions.get_mut(&place)
    }
}

/// What an incremental request changes.
#[derive(Default)]
struct Changes {
    /// Places, some of them twice until the end of `update`.
    asked: Few<u32>,
    forgotten: Vec<(ShardId, u32)>,
}

impl Session {
    fn new(by_id: bool) -> Session {
        Session {
            epoch: 1,
            by_id,
            last_used_us: 0,
            partitions: BTreeMap::new(),
            places: Map::default(),
            next_place: 0,
            owners: BTreeMap::new(),
            unknown: BTreeSet::new(),
            resolved_at: 0,
        }
    }

    fn add(&mut self, partition: SessionPartition) -> u32 {
        let place = self.next_place;
        self.next_place += 1;
        self.places.insert(partition.key(), place);
        self.note_owner(place, partition.owner);
        self.partitions.insert(place, partition);
        place
    }

    fn note_owner(&mut self, place: u32, owner: Option<ShardId>) {
        match owner {
            Some(owner) => *self.owners.entry(owner).or_default() += 1,
            None => drop(self.unknown.insert(place)),
        }
    }

    fn leave_owner(&mut self, place: u32, owner: Option<ShardId>, changes: &mut Changes) {
        match owner {
            Some(owner) => {
                changes.forgotten.push((owner, place));
                let left = self.owners.get_mut(&owner).expect("counted when it was added");
                *left -= 1;
            }
            None => drop(self.unknown.remove(&place)),
        }
    }

    fn forget(&mut self, topic: &Arc<str>, topic_id: TopicId, indexes: &[i32], changes: &mut Changes) {
        for &index in indexes {
            if let Some(place) = self.places.remove(&(topic_id, topic.clone(), index)) {
                let partition = self.partitions.remove(&place).expect("every place is taken");
                self.leave_owner(place, partition.owner, changes);
            }
        }
    }

    /// Takes in what the client adds or asks differently.
    fn update(&mut self, named: Few<SessionPartition>, changes: &mut Changes) {
        for wanted in named {
            match self.places.get(&wanted.key()) {
                Some(&place) => {
                    let known = self.partitions.get_mut(&place).expect("every place is taken");
                    // The owner may differ only together with the facts, which were just looked up.
                    *known = SessionPartition { told: known.told, owner: known.owner, ..wanted };
                    changes.asked.push(place);
                }
                None if self.partitions.len() < SESSION_PARTITIONS_MAX => {
                    let place = self.add(wanted);
                    changes.asked.push(place);
                }
                None => {}
            }
        }
        self.owners.retain(|_, partitions| *partitions > 0);
        let partitions = &self.partitions;
        changes.asked.sort_unstable();
        changes.asked.dedup();
        changes.asked.retain(|place| partitions.get(place).is_some_and(|partition| partition.owner.is_some()));
    }

    /// Topics may have come, gone, or been made again under their names.
    fn resolve(&mut self, topics: &impl Topics, changes: &mut Changes) {
        self.resolved_at = topics.version();
        let places: Vec<u32> = self.partitions.keys().copied().collect();
        for place in places {
            let partition = &self.partitions[&place];
            let (name, id) = match self.by_id {
                true => topics.resolve("", partition.topic_id),
                false => topics.resolve(&partition.topic, TopicId::ZERO),
            };
            let owner = topics.owner(id, partition.index);
            if (&name, id, owner) == (&partition.topic, partition.topic_id, partition.owner) {
                continue;
            }
            let (former, key) = (partition.owner, partition.key());
            self.places.remove(&key);
            if former != owner {
                self.leave_owner(place, former, changes);
                self.note_owner(place, owner);
            }
            let partition = self.partitions.get_mut(&place).expect("just seen");
            (partition.topic, partition.topic_id, partition.owner) = (name, id, owner);
            let key = partition.key();
            self.places.insert(key, place);
            changes.asked.push(place);
        }
    }
}

impl SessionPartition {
    fn key(&self) -> (TopicId, Arc<str>, i32) {
        (self.topic_id, self.topic.clone(), self.index)
    }
}

fn asked(topic: Arc<str>, topic_id: TopicId, partition: &FetchPartition, topics: &impl Topics) -> SessionPartition {
    SessionPartition {
        owner: topics.owner(topic_id, partition.partition),
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
    use crate::types::Uuid;

    fn sessions(slots: u32) -> Sessions {
        let config = BrokerConfig { max_incremental_fetch_session_cache_slots: slots, ..BrokerConfig::default() };
        Sessions::new(ShardId(1), 3, &config, 42)
    }

    /// Topic "t" of so many partitions, all on core 2, of the given id.
    struct Facts(i32, u128);

    impl Topics for Facts {
        fn version(&self) -> u64 {
            self.1 as u64
        }

        fn resolve(&self, name: &str, _: TopicId) -> (Arc<str>, TopicId) {
            (Arc::from(name), Uuid::from_random(self.1))
        }

        fn owner(&self, topic_id: TopicId, index: i32) -> Option<ShardId> {
            (index < self.0 && topic_id == Uuid::from_random(self.1)).then_some(ShardId(2))
        }
    }

    const FACTS: Facts = Facts(3, 7);

    fn request(session: (i32, i32), partitions: &[(i32, Offset)]) -> FetchRequest<'static> {
        let partitions = partitions.iter().map(|&(partition, fetch_offset)| FetchPartition {
            partition,
            fetch_offset,
            ..FetchPartition::default()
        });
        FetchRequest {
            session_id: session.0,
            session_epoch: session.1,
            topics: [FetchTopic { topic: "t", partitions: partitions.collect(), ..FetchTopic::default() }].into(),
            ..FetchRequest::default()
        }
    }

    fn apply(sessions: &mut Sessions, request: &FetchRequest<'_>, facts: &Facts) -> Result<Applied, ErrorCode> {
        sessions.apply(Time::default(), request, 12, facts)
    }

    fn begin(sessions: &mut Sessions, partitions: &[(i32, Offset)]) -> i32 {
        match apply(sessions, &request((0, 0), partitions), &FACTS).expect("begins").session {
            SessionUse::Begin(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// (place, partition, fetch offset) of what the owners are told.
    fn changed(applied: &Applied) -> Vec<(u32, i32, Offset)> {
        applied.changed.iter().map(|(place, p)| (*place, p.index, p.fetch_offset)).collect()
    }

    #[test]
    fn owners_hear_of_all_at_first_and_then_only_of_what_changes() {
        let mut sessions = sessions(10);
        let first = apply(&mut sessions, &request((0, 0), &[(0, 5), (1, 6)]), &FACTS).expect("begins");
        assert_eq!(changed(&first), [(0, 0, 5), (1, 1, 6)]);
        let id = first.session.id().expect("begun");
        assert_eq!(id % 3, 1);
        let next = apply(&mut sessions, &request((id, 1), &[(1, 9), (2, 0)]), &FACTS).expect("goes on");
        assert_eq!((next.session, changed(&next)), (SessionUse::Incremental(id), vec![(1, 1, 9), (2, 2, 0)]));
        let quiet = apply(&mut sessions, &request((id, 2), &[]), &FACTS).expect("goes on");
        assert_eq!((changed(&quiet), &quiet.owners[..]), (vec![], &[ShardId(2)][..]));
        let forget = ForgottenTopic { topic: "t", partitions: vec![0, 1, 7], ..ForgottenTopic::default() };
        let forgetting = FetchRequest { forgotten_topics_data: vec![forget], ..request((id, 3), &[(0, 1)]) };
        let forgotten = apply(&mut sessions, &forgetting, &FACTS).expect("goes on");
        assert_eq!(forgotten.forgotten, [(ShardId(2), 0), (ShardId(2), 1)]);
        assert_eq!(changed(&forgotten), [(3, 0, 1)], "a partition that comes back has another place");
    }

    #[test]
    fn a_partition_that_is_not_there_is_told_of_until_it_is() {
        let mut sessions = sessions(10);
        let first = apply(&mut sessions, &request((0, 0), &[(0, 5), (3, 0)]), &FACTS).expect("begins");
        assert_eq!(first.unknown, [1]);
        let id = first.session.id().expect("begun");
        let still = apply(&mut sessions, &request((id, 1), &[(3, 2)]), &FACTS).expect("goes on");
        assert_eq!((still.unknown, still.changed.len()), (vec![1], 0));
        let grown = Facts(4, 8);
        let found = apply(&mut sessions, &request((id, 2), &[]), &grown).expect("goes on");
        assert_eq!((changed(&found), found.unknown), (vec![(0, 0, 5), (1, 3, 2)], vec![]), "the topic was made again");
        assert!(found.forgotten.is_empty(), "the same core owns it");
        let gone = apply(&mut sessions, &request((id, 3), &[]), &Facts(0, 9)).expect("goes on");
        assert_eq!((gone.forgotten.len(), gone.unknown, gone.owners.len()), (2, vec![0, 1], 0));
    }

    #[test]
    fn a_wrong_epoch_or_id_is_refused_and_the_final_epoch_ends_the_session() {
        let mut sessions = sessions(10);
        let id = begin(&mut sessions, &[(0, 5)]);
        let refusal = |outcome: Result<Applied, ErrorCode>| outcome.expect_err("refused");
        assert_eq!(refusal(apply(&mut sessions, &request((id, 2), &[]), &FACTS)), ErrorCode::InvalidFetchSessionEpoch);
        assert_eq!(
            refusal(apply(&mut sessions, &request((id + 3, 1), &[]), &FACTS)),
            ErrorCode::FetchSessionIdNotFound
        );
        let last = apply(&mut sessions, &request((id, -1), &[(0, 5)]), &FACTS).expect("full");
        assert_eq!((last.session, last.ended), (SessionUse::Full, vec![(id, vec![ShardId(2)])]));
        assert_eq!(refusal(apply(&mut sessions, &request((id, 1), &[]), &FACTS)), ErrorCode::FetchSessionIdNotFound);
        assert_eq!(sessions.partitions, 0);
    }

    #[test]
    fn without_a_free_slot_a_fetch_goes_without_a_session() {
        let mut sessions = sessions(3);
        begin(&mut sessions, &[(0, 5)]);
        let second = apply(&mut sessions, &request((0, 0), &[(0, 5)]), &FACTS).expect("full");
        assert_eq!(second.session, SessionUse::Full);
    }
}
