//! Records of `__cluster_metadata` in Kafka's own format, so that Kafka's tools read our metadata log: frame version, key
//! and version as variable-length integers, then the body. The facts they state live in `metadata/`.

use bytes::Bytes;

use super::codec::{DecodeError, Reader, Writer};
use super::message::{Message, message};
use crate::types::Uuid;

/// Version of the three integers in front of a body.
const FRAME_VERSION: u32 = 1;

message! {
    /// A broker joined, or came back with a new incarnation.
    RegisterBrokerRecord<'a>, key 0, versions 0-3, flexible 0+ {
        broker_id: i32 = 0+,
        is_migrating_zk_broker: bool = 2+,
        incarnation_id: Uuid = 0+,
        /// Offset of this record.
        broker_epoch: i64 = 0+,
        end_points: Vec<BrokerEndpoint<'a>> = 0+,
        features: Vec<BrokerFeature<'a>> = 0+,
        rack: Option<&'a str> = 0+,
        fenced: bool = 0+ default true,
        in_controlled_shutdown: bool = 1+,
        log_dirs: Vec<Uuid> = 3+ tag 0,
    }
    BrokerEndpoint<'a> {
        /// The listener's.
        name: &'a str = 0+,
        host: &'a str = 0+,
        port: u16 = 0+,
        /// 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
        security_protocol: i16 = 0+,
    }
    BrokerFeature<'a> {
        name: &'a str = 0+,
        min_supported_version: i16 = 0+,
        max_supported_version: i16 = 0+,
    }
}

message! {
    TopicRecord<'a>, key 2, versions 0, flexible 0+ {
        name: &'a str = 0+,
        topic_id: Uuid = 0+,
    }
}

message! {
    PartitionRecord, key 3, versions 0-2, flexible 0+ {
        partition_id: i32 = 0+ default -1,
        topic_id: Uuid = 0+,
        replicas: Vec<i32> = 0+,
        isr: Vec<i32> = 0+,
        removing_replicas: Vec<i32> = 0+,
        adding_replicas: Vec<i32> = 0+,
        /// -1 where there is none.
        leader: i32 = 0+ default -1,
        /// 1 while a leader elected out of the ISR has not recovered (KIP-704).
        leader_recovery_state: i8 = 0+ tag 0,
        leader_epoch: i32 = 0+ default -1,
        partition_epoch: i32 = 0+ default -1,
        /// Log directory of each replica (KIP-858).
        directories: Vec<Uuid> = 1+,
        eligible_leader_replicas: Option<Vec<i32>> = 2+ tag 1,
        last_known_elr: Option<Vec<i32>> = 2+ tag 2,
    }
}

message! {
    /// A setting; null removes it.
    ConfigRecord<'a>, key 4, versions 0, flexible 0+ {
        /// As in DescribeConfigs.
        resource_type: i8 = 0+,
        resource_name: &'a str = 0+,
        name: &'a str = 0+,
        value: Option<&'a str> = 0+,
    }
}

message! {
    RemoveTopicRecord, key 9, versions 0, flexible 0+ {
        topic_id: Uuid = 0+,
    }
}

message! {
    /// A feature finalized at this level, as `metadata.version`.
    FeatureLevelRecord<'a>, key 12, versions 0, flexible 0+ {
        name: &'a str = 0+,
        feature_level: i16 = 0+,
    }
}

message! {
    /// A quota of an entity; with `remove` it is taken back.
    ClientQuotaRecord<'a>, key 14, versions 0, flexible 0+ {
        entity: Vec<EntityData<'a>> = 0+,
        key: &'a str = 0+,
        value: f64 = 0+,
        remove: bool = 0+,
    }
    EntityData<'a> {
        /// user, client-id or ip.
        entity_type: &'a str = 0+,
        /// Null is the default entity.
        entity_name: Option<&'a str> = 0+,
    }
}

message! {
    /// Producer ids below `next_producer_id` were given to this broker or before it.
    ProducerIdsRecord, key 15, versions 0, flexible 0+ {
        broker_id: i32 = 0+,
        broker_epoch: i64 = 0+ default -1,
        next_producer_id: i64 = 0+,
    }
}

message! {
    NoOpRecord, key 20, versions 0, flexible 0+ {}
}

macro_rules! metadata_records {
    ($($variant:ident($record:ident $(<$life:lifetime>)?) = $version:literal;)*) => {
        /// One fact of the metadata log.
        #[derive(Clone, PartialEq, Debug)]
        pub enum MetadataRecord<'a> {
            $($variant($record $(<$life>)?),)*
        }

        impl<'a> MetadataRecord<'a> {
            /// Reads the value of one record. A kind or version that this broker does not know is an error: skipping a
            /// fact of the cluster would make its image wrong.
            pub fn decode(value: &'a [u8]) -> Result<MetadataRecord<'a>, DecodeError> {
                let mut reader = Reader::new(value);
                let frame_version = reader.uvarint()?;
                let key = reader.uvarint()?;
                let version = i16::try_from(reader.uvarint()?).map_err(|_| DecodeError::Varint)?;
                if frame_version != FRAME_VERSION {
                    return Err(DecodeError::MetadataRecord { frame_version, key });
                }
                $(if key == $record::KEY as u32 {
                    return $record::decode(&mut reader, version).map(MetadataRecord::$variant);
                })*
                Err(DecodeError::MetadataRecord { frame_version, key })
            }

            /// The value of one record, in the version this broker writes.
            pub fn encode(&self) -> Bytes {
                let mut writer = Writer::new();
                match self {
                    $(MetadataRecord::$variant(record) => {
                        writer.uvarint(FRAME_VERSION);
                        writer.uvarint($record::KEY as u32);
                        writer.uvarint($version);
                        record.encode(&mut writer, $version);
                    })*
                }
                writer.into_bytes()
            }
        }

        $(impl<'a> From<$record $(<$life>)?> for MetadataRecord<'a> {
            fn from(record: $record $(<$life>)?) -> MetadataRecord<'a> {
                MetadataRecord::$variant(record)
            }
        })*
    };
}

metadata_records! {
    RegisterBroker(RegisterBrokerRecord<'a>) = 3;
    Topic(TopicRecord<'a>) = 0;
    Partition(PartitionRecord) = 1;
    Config(ConfigRecord<'a>) = 0;
    RemoveTopic(RemoveTopicRecord) = 0;
    FeatureLevel(FeatureLevelRecord<'a>) = 0;
    ClientQuota(ClientQuotaRecord<'a>) = 0;
    ProducerIds(ProducerIdsRecord) = 0;
    NoOp(NoOpRecord) = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_from_its_value() {
        let topic = TopicRecord { name: "orders", topic_id: Uuid([7; 16]) };
        let value = MetadataRecord::from(topic.clone()).encode();
        assert_eq!(value[..], [&[1, 2, 0, 7][..], b"orders", &[7; 16], &[0]].concat());
        assert_eq!(MetadataRecord::decode(&value), Ok(MetadataRecord::Topic(topic)));
    }

    #[test]
    fn an_unknown_record_is_refused() {
        assert_eq!(MetadataRecord::decode(&[2, 2, 0]), Err(DecodeError::MetadataRecord { frame_version: 2, key: 2 }));
        assert_eq!(MetadataRecord::decode(&[1, 99, 0]), Err(DecodeError::MetadataRecord { frame_version: 1, key: 99 }));
        assert_eq!(MetadataRecord::decode(&[1, 2, 1]), Err(DecodeError::Version { version: 1, min: 0, max: 0 }));
        assert!(MetadataRecord::decode(&[]).is_err());
    }
}
