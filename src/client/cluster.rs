//! What a client knows of the cluster: its brokers, and who leads which partition. A snapshot of one Metadata response,
//! owned by whoever asked for it, replaced whole by the next.

use std::collections::BTreeMap;

use crate::error_code::ErrorCode;
use crate::protocol::MetadataResponse;
use crate::types::{BrokerId, LeaderEpoch, TopicId};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cluster {
    pub brokers: BTreeMap<BrokerId, Broker>,
    /// By name. A topic that was asked for and does not exist is among `errors` instead.
    pub topics: BTreeMap<String, Topic>,
    pub errors: BTreeMap<String, ErrorCode>,
}

/// A broker as it advertises itself to clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    pub host: String,
    pub port: u16,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    /// `TopicId::ZERO` where the broker is older than topic ids (KIP-516).
    pub id: TopicId,
    pub is_internal: bool,
    /// By index, ascending.
    pub partitions: Vec<PartitionInfo>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionInfo {
    /// Counted from 0.
    pub index: i32,
    /// `None` while there is no leader.
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
}

impl Cluster {
    pub fn of(response: &MetadataResponse) -> Cluster {
        let brokers = response.brokers.iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            Some((broker.node_id, Broker { host: broker.host.to_owned(), port }))
        });
        let mut cluster = Cluster { brokers: brokers.collect(), ..Cluster::default() };
        for topic in &response.topics {
            let Some(name) = topic.name else { continue };
            match ErrorCode::from_code(topic.error_code) {
                Some(ErrorCode::None) => {}
                error => {
                    cluster.errors.insert(name.to_owned(), error.unwrap_or(ErrorCode::UnknownServerError));
                    continue;
                }
            }
            let mut partitions: Vec<_> = topic
                .partitions
                .iter()
                .map(|partition| PartitionInfo {
                    index: partition.partition_index,
                    leader: Some(partition.leader_id).filter(|leader| cluster.brokers.contains_key(leader)),
                    leader_epoch: partition.leader_epoch,
                })
                .collect();
            partitions.sort_by_key(|partition| partition.index);
            let topic = Topic { id: topic.topic_id, is_internal: topic.is_internal, partitions };
            cluster.topics.insert(name.to_owned(), topic);
        }
        cluster
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};

    #[test]
    fn a_leader_that_is_no_broker_of_the_cluster_is_no_leader() {
        let partition =
            |partition_index, leader_id| MetadataResponsePartition { partition_index, leader_id, ..Default::default() };
        let response = MetadataResponse {
            brokers: vec![
                MetadataResponseBroker { node_id: 1, host: "one", port: 9092, rack: None },
                MetadataResponseBroker { node_id: 2, host: "two", port: 70_000, rack: None },
            ],
            topics: vec![
                MetadataResponseTopic {
                    name: Some("orders"),
                    partitions: vec![partition(2, -1), partition(0, 1), partition(1, 2)],
                    ..Default::default()
                },
                MetadataResponseTopic { error_code: 3, name: Some("gone"), ..Default::default() },
            ],
            ..Default::default()
        };
        let cluster = Cluster::of(&response);
        let leaders: Vec<_> = cluster.topics["orders"].partitions.iter().map(|p| (p.index, p.leader)).collect();
        assert_eq!(leaders, [(0, Some(1)), (1, None), (2, None)]);
        assert_eq!(cluster.errors["gone"], ErrorCode::UnknownTopicOrPartition);
        assert!(!cluster.topics.contains_key("gone"));
    }
}
