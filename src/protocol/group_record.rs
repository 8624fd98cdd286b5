//! Records of `__consumer_offsets` in Kafka's own format, so that Burrow, exporters and Kafka's console formatter read
//! them: a key is its kind as a 16-bit number and then its fields, a value its version and then its fields. Which records
//! there are and what they mean is said in `coordinator/group`.

use bytes::Bytes;

use super::codec::{DecodeError, Reader, Writer};
use super::message::{Message, message};
use super::wire::Wire;
use crate::types::Uuid;

message! {
    OffsetCommitKey<'a>, key 1, versions 0, flexible 32767+ {
        group: &'a str = 0+,
        topic: &'a str = 0+,
        partition: i32 = 0+,
    }
}

message! {
    OffsetCommitValue<'a>, key 1, versions 0-4, flexible 4+ {
        offset: i64 = 0+,
        leader_epoch: i32 = 3+ default -1,
        metadata: &'a str = 0+,
        commit_timestamp: i64 = 0+,
        /// Of commits that chose how long they are kept.
        expire_timestamp: i64 = 1-1 default -1,
        topic_id: Uuid = 4+ tag 0,
    }
}

message! {
    GroupMetadataKey<'a>, key 2, versions 0, flexible 32767+ {
        group: &'a str = 0+,
    }
}

message! {
    /// A group of the classic protocol.
    GroupMetadataValue<'a>, key 2, versions 0-4, flexible 4+ {
        protocol_type: &'a str = 0+,
        generation: i32 = 0+,
        protocol: Option<&'a str> = 0+,
        leader: Option<&'a str> = 0+,
        current_state_timestamp: i64 = 2+ default -1,
        members: Vec<GroupMetadataMember<'a>> = 0+,
    }
    GroupMetadataMember<'a> {
        member_id: &'a str = 0+,
        group_instance_id: Option<&'a str> = 3+,
        client_id: &'a str = 0+,
        client_host: &'a str = 0+,
        rebalance_timeout: i32 = 1+ default -1,
        session_timeout: i32 = 0+,
        subscription: &'a [u8] = 0+,
        assignment: &'a [u8] = 0+,
    }
}

/// The key of a record: its kind and its fields.
pub fn encode_key<'a, M: Message<'a>>(key: &M) -> Bytes {
    let mut writer = Writer::new();
    writer.put(&M::KEY.to_be_bytes());
    key.encode_message(&mut writer, 0);
    writer.into_bytes()
}

/// The value of a record: its version and its fields.
pub fn encode_value<'a, M: Message<'a>>(value: &M, version: i16) -> Bytes {
    let mut writer = Writer::new();
    writer.put(&version.to_be_bytes());
    value.encode_message(&mut writer, version);
    writer.into_bytes()
}

/// The kind of a record, and the reader of its key's fields.
pub fn decode_kind(key: &[u8]) -> Result<(i16, Reader<'_>), DecodeError> {
    let mut reader = Reader::of_response(key);
    Ok((i16::read(&mut reader, 0)?, reader))
}

/// The fields of a key whose kind is known.
pub fn decode_key<'a, M: Message<'a>>(mut reader: Reader<'a>) -> Result<M, DecodeError> {
    M::decode_message(&mut reader, 0)
}

/// A value; a version that this broker does not know is an error.
pub fn decode_value<'a, M: Message<'a>>(value: &'a [u8]) -> Result<M, DecodeError> {
    let mut reader = Reader::of_response(value);
    let version = i16::read(&mut reader, 0)?;
    M::decode_message(&mut reader, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_has_the_bytes_that_kafka_writes() {
        let key = OffsetCommitKey { group: "g", topic: "t", partition: 3 };
        assert_eq!(encode_key(&key)[..], [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 3]);
        let value = OffsetCommitValue { offset: 7, metadata: "m", commit_timestamp: 9, ..Default::default() };
        let common = [0, 0, 0, 0, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff];
        let version_3 = [&[0, 3][..], &common, &[0, 1, b'm', 0, 0, 0, 0, 0, 0, 0, 9]].concat();
        let version_4 = [&[0, 4][..], &common, &[2, b'm', 0, 0, 0, 0, 0, 0, 0, 9, 0]].concat();
        assert_eq!(encode_value(&value, 3)[..], version_3);
        assert_eq!(encode_value(&value, 4)[..], version_4);
        let topic_id = Uuid([5; 16]);
        let with_id = OffsetCommitValue { topic_id, ..value };
        let tagged = [&version_4[..version_4.len() - 1], &[1, 0, 16], &[5; 16]].concat();
        assert_eq!(encode_value(&with_id, 4)[..], tagged);
        assert_eq!(decode_value::<OffsetCommitValue>(&tagged), Ok(with_id));
    }

    #[test]
    fn what_is_cut_short_or_of_an_unknown_version_is_refused() {
        assert!(decode_kind(&[0]).is_err());
        assert!(decode_value::<OffsetCommitValue>(&[0, 5, 0, 0]).is_err());
        assert!(decode_value::<GroupMetadataValue>(&[0, 3, 0]).is_err());
    }
}
