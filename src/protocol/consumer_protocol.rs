//! What consumers tell each other through a group of the classic protocol: a version, then a subscription or an assignment.
//! The broker reads them only where a group moves between the protocols, or to know which topics a group reads.

use bytes::Bytes;

use super::codec::{DecodeError, Reader, Writer};
use super::message::{Message, message};
use super::wire::Wire;

/// The protocol type of such groups.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

message! {
    ConsumerProtocolSubscription<'a>, key 0, versions 0-3, flexible 32767+ {
        topics: Vec<&'a str> = 0+,
        /// For the client's assignor.
        user_data: Option<&'a [u8]> = 0+,
        owned_partitions: Vec<TopicPartitions<'a>> = 1+,
        generation_id: i32 = 2+ default -1,
        rack_id: Option<&'a str> = 3+,
    }
    TopicPartitions<'a> {
        topic: &'a str = 0+,
        partitions: Vec<i32> = 0+,
    }
}

message! {
    ConsumerProtocolAssignment<'a>, key 1, versions 0-3, flexible 32767+ {
        assigned_partitions: Vec<TopicPartitions<'a>> = 0+,
        user_data: Option<&'a [u8]> = 0+,
    }
}

impl<'a> ConsumerProtocolSubscription<'a> {
    /// The version that it was written in, and what it says.
    pub fn of_bytes(bytes: &'a [u8]) -> Result<(i16, ConsumerProtocolSubscription<'a>), DecodeError> {
        of_bytes(bytes)
    }

    pub fn to_bytes(&self, version: i16) -> Bytes {
        to_bytes(self, version)
    }
}

impl<'a> ConsumerProtocolAssignment<'a> {
    pub fn of_bytes(bytes: &'a [u8]) -> Result<ConsumerProtocolAssignment<'a>, DecodeError> {
        of_bytes(bytes).map(|(_, assignment)| assignment)
    }

    /// `version` is that of the subscription of the member it is for.
    pub fn to_bytes(&self, version: i16) -> Bytes {
        to_bytes(self, version)
    }
}

fn to_bytes<'a, M: Message<'a>>(message: &M, version: i16) -> Bytes {
    let version = version.clamp(*M::VERSIONS.start(), *M::VERSIONS.end());
    let mut writer = Writer::new();
    writer.put(&version.to_be_bytes());
    message.encode_message(&mut writer, version);
    writer.into_bytes()
}

/// A version to come only adds fields at the end, and is read as far as this one goes.
fn of_bytes<'a, M: Message<'a>>(bytes: &'a [u8]) -> Result<(i16, M), DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = i16::read(&mut reader, 0)?;
    let message = M::decode_message(&mut reader, version.min(*M::VERSIONS.end()))?;
    Ok((version, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_has_the_bytes_that_kafka_writes() {
        let orders = TopicPartitions { topic: "orders", partitions: vec![0, 3] };
        let assignment = ConsumerProtocolAssignment { assigned_partitions: vec![orders], user_data: None };
        let bytes = assignment.to_bytes(1);
        let expected =
            [&[0, 1, 0, 0, 0, 1, 0, 6][..], b"orders", &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 255, 255, 255, 255]];
        assert_eq!(bytes, expected.concat());
        assert_eq!(ConsumerProtocolAssignment::of_bytes(&bytes), Ok(assignment));
    }

    #[test]
    fn a_subscription_of_a_version_to_come_is_read_as_far_as_known() {
        let bytes = [&[0, 9, 0, 0, 0, 1, 0, 1][..], b"t", &[255; 4], &[0; 4], &[255; 4], &[255, 255], b"new"].concat();
        let (version, subscription) = ConsumerProtocolSubscription::of_bytes(&bytes).expect("reads");
        assert_eq!((version, subscription.topics), (9, vec!["t"]));
        assert!(ConsumerProtocolSubscription::of_bytes(&[0, 0, 0]).is_err());
        assert!(ConsumerProtocolSubscription::of_bytes(&[255, 255, 0, 0, 0, 0, 255, 255, 255, 255]).is_err());
    }
}
