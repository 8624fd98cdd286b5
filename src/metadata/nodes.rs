//! As which nodes clients see the brokers. With one address a listener, a broker is one node; with several
//! (`gannet.listener.per.core`) each of its cores is one, and leads for clients what it owns. Only what clients are told
//! changes: facts, replicas and racks are of brokers, so that no two replicas of a partition share one.

use std::sync::Arc;

use super::{Broker, Endpoint, MetadataImage};
use crate::types::{BrokerId, PartitionId, ShardId};

/// What a client connects to.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    pub id: BrokerId,
    pub broker: &'a Arc<Broker>,
    pub endpoint: &'a Endpoint,
}

/// The nodes as clients of one listener see them, in the order of brokers and cores.
pub struct Nodes<'a>(Vec<Node<'a>>);

impl MetadataImage {
    pub fn nodes(&self, listener: &str) -> Nodes<'_> {
        let mut nodes = Vec::new();
        for broker in self.brokers() {
            let cores = (0..u16::MAX).zip(broker.endpoints_of(listener));
            let node = |(core, endpoint)| Node { id: ShardId(core).node_of(broker.id), broker, endpoint };
            nodes.extend(cores.map(node));
        }
        Nodes(nodes)
    }

    /// The broker that is this node, by whichever listener.
    pub fn broker_of_node(&self, id: BrokerId) -> Option<&Arc<Broker>> {
        let of_core = || {
            let broker = self.broker(id.checked_rem(ShardId::NODE_ID_STEP)?)?;
            let core = usize::try_from(id / ShardId::NODE_ID_STEP).ok()?;
            let has_core = |endpoint: &Endpoint| core < broker.endpoints_of(&endpoint.listener).count();
            broker.endpoints.iter().any(has_core).then_some(broker)
        };
        self.broker(id).or_else(of_core)
    }
}

impl Nodes<'_> {
    pub fn iter(&self) -> impl Iterator<Item = &Node<'_>> {
        self.0.iter()
    }

    /// The node that stands for a broker where a partition is concerned: the core that owns it. Of a broker that clients of
    /// this listener do not see, its own id.
    pub fn of(&self, broker: BrokerId, partition: PartitionId) -> BrokerId {
        let first = self.0.partition_point(|node| node.broker.id < broker);
        match self.0[first..].partition_point(|node| node.broker.id == broker) as u16 {
            0 => broker,
            cores => partition.owner(cores).node_of(broker),
        }
    }

    pub fn get(&self, id: BrokerId) -> Option<&Node<'_>> {
        self.0.iter().find(|node| node.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BrokerConfig;
    use crate::metadata::{BrokerRecord, MetadataRecord};
    use crate::types::Uuid;

    /// Broker 7 has three cores for clients and is one node for its own kind, broker 8 is one node for all.
    fn image() -> MetadataImage {
        let mut image = MetadataImage::new("cluster".into(), Arc::new(BrokerConfig::default()));
        let endpoint = |listener: &str, port| Endpoint {
            listener: listener.into(),
            host: "localhost".into(),
            port,
            security_protocol: 0,
        };
        let seven = [("CLIENTS", 1), ("OWN", 9), ("CLIENTS", 2), ("CLIENTS", 3)];
        for (id, endpoints) in [(7, &seven[..]), (8, &[("CLIENTS", 1)])] {
            let endpoints = endpoints.iter().map(|(listener, port)| endpoint(listener, *port)).collect();
            let record = BrokerRecord { id, incarnation: Uuid::ZERO, epoch: 0, endpoints, rack: None, fenced: false };
            image.apply(&MetadataRecord::Broker(record)).expect("brokers always fit");
        }
        image
    }

    fn seen(image: &MetadataImage, listener: &str) -> Vec<(BrokerId, BrokerId, u16)> {
        image.nodes(listener).iter().map(|node| (node.id, node.broker.id, node.endpoint.port)).collect()
    }

    #[test]
    fn each_address_of_a_listener_is_a_core_that_is_a_node() {
        let image = image();
        assert_eq!(seen(&image, "CLIENTS"), [(7, 7, 1), (100_007, 7, 2), (200_007, 7, 3), (8, 8, 1)]);
        assert_eq!(seen(&image, "OWN"), [(7, 7, 9)]);
        assert!(seen(&image, "OTHER").is_empty());
    }

    #[test]
    fn the_core_that_owns_a_partition_stands_for_its_broker() {
        let image = image();
        for index in 0..6 {
            let partition = PartitionId { topic: Uuid([3; 16]), index };
            let owner = partition.owner(3);
            assert_eq!(image.nodes("CLIENTS").of(7, partition), 7 + i32::from(owner.0) * 100_000);
            for (listener, broker) in [("OWN", 7), ("CLIENTS", 8), ("OTHER", 7), ("CLIENTS", 9)] {
                assert_eq!(image.nodes(listener).of(broker, partition), broker, "{listener}");
            }
        }
    }

    #[test]
    fn a_node_leads_back_to_its_broker() {
        let image = image();
        let broker_of = |id| image.broker_of_node(id).map(|broker| broker.id);
        for (node, broker) in [
            (7, Some(7)),
            (200_007, Some(7)),
            (8, Some(8)),
            (300_007, None),
            (100_008, None),
            (9, None),
            (-1, None),
            (-100_000, None),
            (-99_993, None),
            (i32::MIN, None),
            (i32::MAX, None),
        ] {
            assert_eq!(broker_of(node), broker, "{node}");
        }
    }
}
