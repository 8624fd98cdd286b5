//! The client's half of the wire, for the command lines and the load generator: one connection's requests and versions, who
//! leads what, records gathered into batches, positions of a reader, a group's member. Plain values; whoever owns them moves
//! the bytes.

mod cluster;
mod fetched;
mod fetcher;
mod member;
mod partitioner;
mod producer;
mod session;

pub use cluster::{Broker, Cluster, PartitionInfo, Topic};
pub use fetched::FetchedBatches;
pub use fetcher::{Fetched, Fetcher, FetcherConfig, Subscription};
pub use member::{
    Answered, Assigned, Change, ClassicMember, CommittedOffset, ConsumerMember, Member, MemberConfig, MemberRequest,
    Position, SubscribedTopic, refusal,
};
pub use partitioner::{Partitioner, murmur2};
pub use producer::{Delivery, Destination, Producer, ProducerConfig};
pub use session::{Response, Session, SessionError};
