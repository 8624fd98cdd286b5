//! Records of `__consumer_offsets` for groups of the consumer protocol (KIP-848), in Kafka's own format. Keys and values are
//! framed by `group_record`; what the facts mean is said in `coordinator/group/consumer`.

use super::message::message;
use crate::types::Uuid;

macro_rules! keys {
    ($($name:ident = $key:literal { $($field:ident),* })*) => {
        $(message! {
            $name<'a>, key $key, versions 0, flexible 32767+ {
                $($field: &'a str = 0+,)*
            }
        })*
    };
}

keys! {
    ConsumerGroupMetadataKey = 3 { group_id }
    ConsumerGroupPartitionMetadataKey = 4 { group_id }
    ConsumerGroupMemberMetadataKey = 5 { group_id, member_id }
    ConsumerGroupTargetAssignmentMetadataKey = 6 { group_id }
    ConsumerGroupTargetAssignmentMemberKey = 7 { group_id, member_id }
    ConsumerGroupCurrentMemberAssignmentKey = 8 { group_id, member_id }
    ConsumerGroupRegularExpressionKey = 16 { group_id, regular_expression }
}

message! {
    ConsumerGroupMetadataValue, key 3, versions 0, flexible 0+ {
        epoch: i32 = 0+,
        /// Of all topics that the group is subscribed to (KIP-1101); 0 of none.
        metadata_hash: i64 = 0+ tag 0,
    }
}

message! {
    ConsumerGroupMemberMetadataValue<'a>, key 5, versions 0, flexible 0+ {
        instance_id: Option<&'a str> = 0+,
        rack_id: Option<&'a str> = 0+,
        client_id: &'a str = 0+,
        client_host: &'a str = 0+,
        subscribed_topic_names: Vec<&'a str> = 0+,
        subscribed_topic_regex: Option<&'a str> = 0+,
        rebalance_timeout_ms: i32 = 0+ default -1,
        server_assignor: Option<&'a str> = 0+,
        /// Of a member that speaks the classic protocol.
        classic_member_metadata: Option<ClassicMemberMetadata<'a>> = 0+ tag 0,
    }
    ClassicMemberMetadata<'a> {
        session_timeout_ms: i32 = 0+,
        supported_protocols: Vec<ClassicProtocol<'a>> = 0+,
    }
    ClassicProtocol<'a> {
        name: &'a str = 0+,
        metadata: &'a [u8] = 0+,
    }
}

message! {
    ConsumerGroupTargetAssignmentMetadataValue, key 6, versions 0, flexible 0+ {
        /// The group epoch that the target is for.
        assignment_epoch: i32 = 0+,
        /// When it was worked out (KIP-1263).
        assignment_timestamp: i64 = 0+ tag 0,
    }
}

message! {
    ConsumerGroupTargetAssignmentMemberValue, key 7, versions 0, flexible 0+ {
        topic_partitions: Vec<TargetPartitions> = 0+,
    }
    TargetPartitions {
        topic_id: Uuid = 0+,
        partitions: Vec<i32> = 0+,
    }
}

message! {
    ConsumerGroupCurrentMemberAssignmentValue, key 8, versions 0, flexible 0+ {
        member_epoch: i32 = 0+,
        previous_member_epoch: i32 = 0+,
        state: i8 = 0+,
        assigned_partitions: Vec<CurrentPartitions> = 0+,
        partitions_pending_revocation: Vec<CurrentPartitions> = 0+,
    }
    CurrentPartitions {
        topic_id: Uuid = 0+,
        partitions: Vec<i32> = 0+,
        /// Since when the member has each of them (KIP-1251).
        assignment_epochs: Option<Vec<i32>> = 0+ tag 0,
    }
}

message! {
    ConsumerGroupRegularExpressionValue<'a>, key 16, versions 0, flexible 0+ {
        topics: Vec<&'a str> = 0+,
        /// Of the metadata that it was resolved against.
        version: i64 = 0+,
        timestamp: i64 = 0+,
    }
}
