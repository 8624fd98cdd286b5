//! ConsumerGroupDescribe (key 69): state and members of consumer groups (KIP-848).

use super::message::message;
use crate::types::Uuid;

message! {
    ConsumerGroupDescribeRequest<'a>, key 69, versions 0-1, flexible 0+ {
        group_ids: Vec<&'a str> = 0+,
        include_authorized_operations: bool = 0+,
    }
}

message! {
    ConsumerGroupDescribeResponse<'a>, key 69, versions 0-1, flexible 0+ {
        throttle_time_ms: i32 = 0+,
        groups: Vec<DescribedGroup<'a>> = 0+,
    }
    DescribedGroup<'a> {
        /// GROUP_ID_NOT_FOUND of a classic group too: tools then ask DescribeGroups.
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        group_id: &'a str = 0+,
        group_state: &'a str = 0+,
        group_epoch: i32 = 0+,
        /// The group epoch that the target assignment was made for.
        assignment_epoch: i32 = 0+,
        assignor_name: &'a str = 0+,
        members: Vec<Member<'a>> = 0+,
        /// A bit for each operation; the least number where it was not asked for.
        authorized_operations: i32 = 0+ default i32::MIN,
    }
    Member<'a> {
        member_id: &'a str = 0+,
        instance_id: Option<&'a str> = 0+,
        rack_id: Option<&'a str> = 0+,
        member_epoch: i32 = 0+,
        client_id: &'a str = 0+,
        client_host: &'a str = 0+,
        subscribed_topic_names: Vec<&'a str> = 0+,
        subscribed_topic_regex: Option<&'a str> = 0+,
        /// What the member has.
        assignment: Assignment<'a> = 0+,
        /// What it is to have.
        target_assignment: Assignment<'a> = 0+,
        /// -1 unknown, 0 classic, 1 consumer.
        member_type: i8 = 1+ default -1,
    }
    Assignment<'a> {
        topic_partitions: Vec<TopicPartitions<'a>> = 0+,
    }
    TopicPartitions<'a> {
        topic_id: Uuid = 0+,
        topic_name: &'a str = 0+,
        partitions: Vec<i32> = 0+,
    }
}
