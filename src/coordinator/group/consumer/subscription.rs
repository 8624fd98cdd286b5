//! What a group is subscribed to: regular expressions matched with the topics there are, a hash that tells whether those
//! topics changed, and what an assignor is told of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use twox_hash::XxHash3_64;

use super::assignor::{Assignment, GroupSpec, MemberSpec, TopicSpec};
use super::facts::Facts;
use super::member::MemberMetadata;
use crate::coordinator::Refusal;
use crate::error_code::ErrorCode;
use crate::metadata::{MetadataImage, Topic};
use crate::types::PartitionId;

/// Memory that one compiled regular expression may take; one that asks for more is refused.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// First byte under a topic's hash: another one if the way of hashing ever changes.
const TOPIC_HASH_VERSION: u8 = 0;

/// A pattern for whole topic names, in RE2's syntax.
pub(super) fn compile(pattern: &str) -> Result<Regex, Refusal> {
    let build =
        |pattern: &str| RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build();
    let unquoted = without_quotes(pattern);
    // Alone first: a pattern must not close the group around it.
    build(&unquoted).and_then(|_| build(&format!(r"\A(?:{unquoted})\z"))).map_err(|error| {
        let message = format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {error}");
        Refusal::new(ErrorCode::InvalidRegularExpression, message)
    })
}

/// RE2 takes what stands between `\Q` and `\E` literally; `regex` does not know these.
fn without_quotes(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('\\') {
        if let Some(quoted) = rest[at..].strip_prefix(r"\Q") {
            plain.push_str(&rest[..at]);
            let end = quoted.find(r"\E");
            plain.push_str(&regex::escape(&quoted[..end.unwrap_or(quoted.len())]));
            rest = end.map_or("", |end| &quoted[end + 2..]);
        } else {
            let escaped = rest[at + 1..].chars().next().map_or(0, char::len_utf8);
            plain.push_str(&rest[..at + 1 + escaped]);
            rest = &rest[at + 1 + escaped..];
        }
    }
    plain + rest
}

/// The topics whose whole names match.
pub(super) fn resolve(image: &MetadataImage, regex: &Regex) -> BTreeSet<Arc<str>> {
    image.topics().filter(|topic| regex.is_match(&topic.name)).map(|topic| topic.name.clone()).collect()
}

/// Of all topics that the group is subscribed to and that exist, in the order of their names; 0 of none. Kafka's own number,
/// so that a group which moves between brokers is not assigned anew for nothing.
pub(super) fn metadata_hash(facts: &Facts, image: &MetadataImage) -> i64 {
    let names: BTreeSet<&Arc<str>> = facts.subscribed_topics().collect();
    let hashes: Vec<u8> = names
        .into_iter()
        .filter_map(|name| image.topic(name))
        .flat_map(|topic| topic_hash(topic, image).to_le_bytes())
        .collect();
    if hashes.is_empty() { 0 } else { XxHash3_64::oneshot(&hashes) as i64 }
}

fn topic_hash(topic: &Topic, image: &MetadataImage) -> u64 {
    let mut bytes = vec![TOPIC_HASH_VERSION];
    let (high, low) = topic.id.0.split_at(8);
    for half in [high, low] {
        bytes.extend(half.iter().rev());
    }
    put_string(&mut bytes, &topic.name);
    bytes.extend((topic.partitions.len() as i32).to_le_bytes());
    for (index, partition) in topic.partitions.iter().enumerate() {
        bytes.extend((index as i32).to_le_bytes());
        let brokers = partition.replicas.iter().filter_map(|replica| image.broker(*replica));
        let mut racks: Vec<&str> = brokers.filter_map(|broker| broker.rack.as_deref()).collect();
        racks.sort_unstable();
        for rack in racks {
            bytes.extend((rack.encode_utf16().count() as i32).to_le_bytes());
            put_string(&mut bytes, rack);
        }
    }
    XxHash3_64::oneshot(&bytes)
}

/// UTF-16 and then the length, as Java's hash streams take a string in.
fn put_string(bytes: &mut Vec<u8>, string: &str) {
    let start = bytes.len();
    bytes.extend(string.encode_utf16().flat_map(u16::to_le_bytes));
    let length = (bytes.len() - start) / 2;
    bytes.extend((length as i32).to_le_bytes());
}

/// Whether this member reads the topic that a partition is of. What a regular expression matches is what it was last
/// resolved to; a topic that is gone is read by nobody.
pub(super) fn is_subscribed(
    facts: &Facts,
    metadata: &MemberMetadata,
    image: &MetadataImage,
    partition: PartitionId,
) -> bool {
    let Some(topic) = image.topic_by_id(partition.topic) else { return false };
    let resolved = metadata.subscribed_regex.as_ref().and_then(|regex| facts.regexes.get(regex));
    metadata.subscribed_topics.contains(&topic.name) || resolved.is_some_and(|to| to.topics.contains(&topic.name))
}

/// Members that are subscribed alike share one subscription.
pub(super) fn group_spec<'a>(facts: &'a Facts, image: &MetadataImage) -> GroupSpec<'a> {
    static NOTHING: Assignment = Assignment::new();
    let names: BTreeSet<&Arc<str>> = facts.subscribed_topics().collect();
    let exist = names.into_iter().filter_map(|name| image.topic(name));
    let mut topics: Vec<TopicSpec> =
        exist.map(|topic| TopicSpec { id: topic.id, partitions: topic.partitions.len() }).collect();
    topics.sort_unstable_by_key(|topic| topic.id);

    let mut subscriptions = Vec::new();
    let mut known = BTreeMap::new();
    let members = facts.members.iter().map(|(member_id, member)| {
        let metadata = &member.metadata;
        let key = (&metadata.subscribed_topics, metadata.subscribed_regex.as_ref());
        let subscription = *known.entry(key).or_insert_with(|| {
            let resolved = metadata.subscribed_regex.as_ref().and_then(|regex| facts.regexes.get(regex));
            let names = metadata.subscribed_topics.iter().chain(resolved.into_iter().flat_map(|to| &to.topics));
            let ids = names.filter_map(|name| Some(image.topic(name)?.id));
            let places = ids.map(|id| topics.binary_search_by_key(&id, |topic| topic.id).expect("one of all"));
            let places: BTreeSet<usize> = places.collect();
            subscriptions.push(places.into_iter().collect());
            subscriptions.len() - 1
        });
        let assigned = facts.targets.get(member_id).unwrap_or(&NOTHING);
        MemberSpec { member_id, instance_id: metadata.instance.as_deref(), subscription, assigned }
    });
    let members = members.collect();
    GroupSpec { topics, subscriptions, members }
}

#[cfg(test)]
mod tests {
    use super::super::record::ConsumerFact;
    use super::*;
    use crate::metadata::{BrokerRecord, MetadataRecord, PartitionRecord, TopicRecord};
    use crate::types::Uuid;

    #[test]
    fn a_groups_topics_have_kafkas_hash() {
        let mut image = MetadataImage::new("cluster".into(), Arc::default());
        let mut apply = |record| {
            image.apply(&record).expect("consistent");
        };
        for (id, rack) in [(1, "a"), (2, "b")] {
            apply(MetadataRecord::Broker(BrokerRecord {
                id,
                incarnation: Uuid::ZERO,
                epoch: 0,
                endpoints: Vec::new(),
                rack: Some(rack.into()),
                fenced: false,
            }));
        }
        let topic = Uuid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        apply(MetadataRecord::Topic(TopicRecord { name: "orders".into(), id: topic }));
        for (index, replicas) in [vec![2, 1], vec![2]].into_iter().enumerate() {
            let replicas: Arc<[i32]> = replicas.into();
            apply(MetadataRecord::Partition(PartitionRecord {
                partition: PartitionId { topic, index: index as i32 },
                isr: replicas.clone(),
                replicas,
                leader: None,
                leader_epoch: 0,
                partition_epoch: 0,
            }));
        }
        let orders = image.topic("orders").expect("just made");
        // As the library that Kafka 4.3.1 uses answers for the same fields.
        assert_eq!(topic_hash(orders, &image) as i64, -6381203708721826188);
        let subscribed_topics = ["gone".into(), "orders".into()].into();
        let metadata = MemberMetadata { subscribed_topics, ..MemberMetadata::default() };
        let mut facts = Facts::default();
        assert_eq!(metadata_hash(&facts, &image), 0);
        facts.replay(&ConsumerFact::Member("m".into(), Some(metadata)));
        assert_eq!(metadata_hash(&facts, &image), -602214421160321675);
    }

    fn matches(pattern: &str, topic: &str) -> bool {
        compile(pattern).expect("valid").is_match(topic)
    }

    #[test]
    fn a_pattern_is_for_whole_names() {
        assert!(matches("foo.*", "foo") && matches("foo.*", "foo-1") && matches("a|b", "b"));
        assert!(!matches("foo", "foo-1") && !matches("a|b", "ab") && !matches("oo", "foo"));
    }

    #[test]
    fn what_is_quoted_is_taken_literally() {
        assert!(matches(r"\Qa.b\E.*", "a.bc") && !matches(r"\Qa.b\E.*", "axbc"));
        assert!(matches(r"\Qa.", "a.") && matches(r"\\Qa", r"\Qa") && matches(r"\.\d", ".1"));
    }

    #[test]
    fn a_pattern_that_is_none_is_refused_and_so_is_one_that_needs_too_much_memory() {
        for pattern in ["(", "a)(b", "[", r"(?P<x", r"\", "(?:a{1000}){1000}"] {
            let refusal = compile(pattern).expect_err(pattern);
            assert_eq!(refusal.error_code, ErrorCode::InvalidRegularExpression);
            assert!(refusal.message.contains(pattern));
        }
    }
}
