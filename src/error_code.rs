//! Kafka's error codes, the only error type towards clients. Codes and names are Kafka's, the sentences are ours.

use std::fmt;

macro_rules! error_codes {
    ($($(#[$attribute:meta])* $variant:ident = $code:literal $name:literal $retriable:ident $message:literal;)*) => {
        /// What a response says about a request, a topic or a partition.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(#[doc = $message] $(#[$attribute])* $variant = $code,)*
        }

        impl ErrorCode {
            /// Every code, in ascending order.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// `None` for a code newer than this broker.
            pub const fn from_code(code: i16) -> Option<ErrorCode> {
                match code {
                    $($code => Some(ErrorCode::$variant),)*
                    _ => None,
                }
            }

            /// Kafka's own name, as in `UNKNOWN_TOPIC_OR_PARTITION`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $name,)*
                }
            }

            /// One sentence for people.
            pub const fn message(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $message,)*
                }
            }

            /// Whether clients try the same request again by themselves.
            pub const fn is_retriable(self) -> bool {
                match self {
                    $(ErrorCode::$variant => error_codes!(@$retriable),)*
                }
            }
        }
    };
    (@retriable) => { true };
    (@fatal) => { false };
}

error_codes! {
    UnknownServerError = -1 "UNKNOWN_SERVER_ERROR" fatal
        "The broker failed in a way it did not foresee; its log has the reason.";
    #[default]
    None = 0 "NONE" fatal
        "No error.";
    OffsetOutOfRange = 1 "OFFSET_OUT_OF_RANGE" fatal
        "The offset lies outside the log of this partition.";
    CorruptMessage = 2 "CORRUPT_MESSAGE" retriable
        "The batch is damaged: its checksum, size or structure is wrong.";
    UnknownTopicOrPartition = 3 "UNKNOWN_TOPIC_OR_PARTITION" retriable
        "This broker does not host this partition.";
    InvalidFetchSize = 4 "INVALID_FETCH_SIZE" fatal
        "The fetch size is not valid.";
    LeaderNotAvailable = 5 "LEADER_NOT_AVAILABLE" retriable
        "The partition has no leader at the moment.";
    NotLeaderOrFollower = 6 "NOT_LEADER_OR_FOLLOWER" retriable
        "This broker does not lead, or does not replicate, the partition.";
    RequestTimedOut = 7 "REQUEST_TIMED_OUT" retriable
        "The request was not completed within its time limit.";
    BrokerNotAvailable = 8 "BROKER_NOT_AVAILABLE" fatal
        "The broker is not available.";
    ReplicaNotAvailable = 9 "REPLICA_NOT_AVAILABLE" retriable
        "The replica is not available on this broker.";
    MessageTooLarge = 10 "MESSAGE_TOO_LARGE" fatal
        "The batch is larger than max.message.bytes allows.";
    StaleControllerEpoch = 11 "STALE_CONTROLLER_EPOCH" fatal
        "The request comes from a deposed controller.";
    OffsetMetadataTooLarge = 12 "OFFSET_METADATA_TOO_LARGE" fatal
        "The metadata beside a committed offset is too large.";
    NetworkException = 13 "NETWORK_EXCEPTION" retriable
        "The connection closed before the response arrived.";
    CoordinatorLoadInProgress = 14 "COORDINATOR_LOAD_IN_PROGRESS" retriable
        "The coordinator is still loading its state.";
    CoordinatorNotAvailable = 15 "COORDINATOR_NOT_AVAILABLE" retriable
        "The coordinator is not available.";
    NotCoordinator = 16 "NOT_COORDINATOR" retriable
        "This broker is not the coordinator asked for.";
    InvalidTopicException = 17 "INVALID_TOPIC_EXCEPTION" fatal
        "The topic's name is not valid, or the topic does not allow this operation.";
    RecordListTooLarge = 18 "RECORD_LIST_TOO_LARGE" fatal
        "The batch is larger than a segment of the log.";
    NotEnoughReplicas = 19 "NOT_ENOUGH_REPLICAS" retriable
        "Fewer replicas are in sync than min.insync.replicas asks for; nothing was written.";
    NotEnoughReplicasAfterAppend = 20 "NOT_ENOUGH_REPLICAS_AFTER_APPEND" retriable
        "The batch was written, but to fewer in-sync replicas than min.insync.replicas asks for.";
    InvalidRequiredAcks = 21 "INVALID_REQUIRED_ACKS" fatal
        "acks is neither 0, 1 nor all.";
    IllegalGeneration = 22 "ILLEGAL_GENERATION" fatal
        "The group has moved on from this generation.";
    InconsistentGroupProtocol = 23 "INCONSISTENT_GROUP_PROTOCOL" fatal
        "The member shares no protocol with the group.";
    InvalidGroupId = 24 "INVALID_GROUP_ID" fatal
        "The group id is not valid.";
    UnknownMemberId = 25 "UNKNOWN_MEMBER_ID" fatal
        "The coordinator does not know this member.";
    InvalidSessionTimeout = 26 "INVALID_SESSION_TIMEOUT" fatal
        "The session timeout lies outside the broker's limits.";
    RebalanceInProgress = 27 "REBALANCE_IN_PROGRESS" fatal
        "The group is rebalancing; the member must join again.";
    InvalidCommitOffsetSize = 28 "INVALID_COMMIT_OFFSET_SIZE" fatal
        "The offsets of this commit are too large.";
    TopicAuthorizationFailed = 29 "TOPIC_AUTHORIZATION_FAILED" fatal
        "Not authorized for this topic.";
    GroupAuthorizationFailed = 30 "GROUP_AUTHORIZATION_FAILED" fatal
        "Not authorized for this group.";
    ClusterAuthorizationFailed = 31 "CLUSTER_AUTHORIZATION_FAILED" fatal
        "Not authorized for this cluster operation.";
    InvalidTimestamp = 32 "INVALID_TIMESTAMP" fatal
        "A timestamp lies outside the range the topic accepts.";
    UnsupportedSaslMechanism = 33 "UNSUPPORTED_SASL_MECHANISM" fatal
        "The broker does not offer this SASL mechanism.";
    IllegalSaslState = 34 "ILLEGAL_SASL_STATE" fatal
        "The request does not fit the state of the SASL exchange.";
    UnsupportedVersion = 35 "UNSUPPORTED_VERSION" fatal
        "The broker does not offer this version of the API.";
    TopicAlreadyExists = 36 "TOPIC_ALREADY_EXISTS" fatal
        "A topic of this name exists already.";
    InvalidPartitions = 37 "INVALID_PARTITIONS" fatal
        "The number of partitions is not valid.";
    InvalidReplicationFactor = 38 "INVALID_REPLICATION_FACTOR" fatal
        "The replication factor is below 1 or above the number of brokers.";
    InvalidReplicaAssignment = 39 "INVALID_REPLICA_ASSIGNMENT" fatal
        "The replica assignment is not valid.";
    InvalidConfig = 40 "INVALID_CONFIG" fatal
        "A configuration key or value is not valid.";
    NotController = 41 "NOT_CONTROLLER" retriable
        "This node is not the active controller.";
    InvalidRequest = 42 "INVALID_REQUEST" fatal
        "The request contradicts itself or the protocol.";
    UnsupportedForMessageFormat = 43 "UNSUPPORTED_FOR_MESSAGE_FORMAT" fatal
        "The log's message format does not support this request.";
    PolicyViolation = 44 "POLICY_VIOLATION" fatal
        "The request violates a policy of the cluster.";
    OutOfOrderSequenceNumber = 45 "OUT_OF_ORDER_SEQUENCE_NUMBER" fatal
        "The producer's sequence number does not follow the last one.";
    DuplicateSequenceNumber = 46 "DUPLICATE_SEQUENCE_NUMBER" fatal
        "The producer's sequence number was already used.";
    InvalidProducerEpoch = 47 "INVALID_PRODUCER_EPOCH" fatal
        "The producer's epoch is older than the one known.";
    InvalidTxnState = 48 "INVALID_TXN_STATE" fatal
        "The state of the transaction does not allow this.";
    InvalidProducerIdMapping = 49 "INVALID_PRODUCER_ID_MAPPING" fatal
        "The producer id does not belong to this transactional id.";
    InvalidTransactionTimeout = 50 "INVALID_TRANSACTION_TIMEOUT" fatal
        "The transaction timeout exceeds transaction.max.timeout.ms.";
    ConcurrentTransactions = 51 "CONCURRENT_TRANSACTIONS" retriable
        "An earlier operation on this transaction has not ended yet.";
    TransactionCoordinatorFenced = 52 "TRANSACTION_COORDINATOR_FENCED" fatal
        "The transaction coordinator was replaced.";
    TransactionalIdAuthorizationFailed = 53 "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" fatal
        "Not authorized for this transactional id.";
    SecurityDisabled = 54 "SECURITY_DISABLED" fatal
        "Security features are switched off.";
    OperationNotAttempted = 55 "OPERATION_NOT_ATTEMPTED" fatal
        "Not attempted, because another part of the request failed.";
    KafkaStorageError = 56 "KAFKA_STORAGE_ERROR" retriable
        "The broker's disk failed or is full.";
    LogDirNotFound = 57 "LOG_DIR_NOT_FOUND" fatal
        "The log directory is not one of this broker's.";
    SaslAuthenticationFailed = 58 "SASL_AUTHENTICATION_FAILED" fatal
        "SASL authentication failed.";
    UnknownProducerId = 59 "UNKNOWN_PRODUCER_ID" fatal
        "The broker holds no state for this producer id.";
    ReassignmentInProgress = 60 "REASSIGNMENT_IN_PROGRESS" fatal
        "The partition is being reassigned.";
    DelegationTokenAuthDisabled = 61 "DELEGATION_TOKEN_AUTH_DISABLED" fatal
        "Delegation tokens are switched off.";
    DelegationTokenNotFound = 62 "DELEGATION_TOKEN_NOT_FOUND" fatal
        "There is no such delegation token.";
    DelegationTokenOwnerMismatch = 63 "DELEGATION_TOKEN_OWNER_MISMATCH" fatal
        "Not the owner or a renewer of this delegation token.";
    DelegationTokenRequestNotAllowed = 64 "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" fatal
        "Delegation tokens cannot be requested over this connection.";
    DelegationTokenAuthorizationFailed = 65 "DELEGATION_TOKEN_AUTHORIZATION_FAILED" fatal
        "Not authorized for this delegation token.";
    DelegationTokenExpired = 66 "DELEGATION_TOKEN_EXPIRED" fatal
        "The delegation token has expired.";
    InvalidPrincipalType = 67 "INVALID_PRINCIPAL_TYPE" fatal
        "This type of principal is not supported.";
    NonEmptyGroup = 68 "NON_EMPTY_GROUP" fatal
        "The group still has members.";
    GroupIdNotFound = 69 "GROUP_ID_NOT_FOUND" fatal
        "There is no group of this id.";
    FetchSessionIdNotFound = 70 "FETCH_SESSION_ID_NOT_FOUND" retriable
        "The fetch session is not known, perhaps evicted.";
    InvalidFetchSessionEpoch = 71 "INVALID_FETCH_SESSION_EPOCH" retriable
        "The fetch session's epoch is not the next one.";
    ListenerNotFound = 72 "LISTENER_NOT_FOUND" retriable
        "The leader has no listener of the name this request came through.";
    TopicDeletionDisabled = 73 "TOPIC_DELETION_DISABLED" fatal
        "Deleting topics is switched off.";
    FencedLeaderEpoch = 74 "FENCED_LEADER_EPOCH" retriable
        "The request's leader epoch is older than the broker's.";
    UnknownLeaderEpoch = 75 "UNKNOWN_LEADER_EPOCH" retriable
        "The request's leader epoch is newer than the broker's.";
    UnsupportedCompressionType = 76 "UNSUPPORTED_COMPRESSION_TYPE" fatal
        "This version of the request does not support the compression codec.";
    StaleBrokerEpoch = 77 "STALE_BROKER_EPOCH" fatal
        "The request carries an old broker epoch.";
    OffsetNotAvailable = 78 "OFFSET_NOT_AVAILABLE" retriable
        "The new leader's high watermark has not caught up yet.";
    MemberIdRequired = 79 "MEMBER_ID_REQUIRED" fatal
        "The member must join again with the id it was given.";
    PreferredLeaderNotAvailable = 80 "PREFERRED_LEADER_NOT_AVAILABLE" retriable
        "The preferred leader is not available.";
    GroupMaxSizeReached = 81 "GROUP_MAX_SIZE_REACHED" fatal
        "The group has as many members as it may have.";
    FencedInstanceId = 82 "FENCED_INSTANCE_ID" fatal
        "Another member has taken over this group.instance.id.";
    EligibleLeadersNotAvailable = 83 "ELIGIBLE_LEADERS_NOT_AVAILABLE" retriable
        "No replica that may lead is available.";
    ElectionNotNeeded = 84 "ELECTION_NOT_NEEDED" retriable
        "The partition needs no election.";
    NoReassignmentInProgress = 85 "NO_REASSIGNMENT_IN_PROGRESS" fatal
        "The partition is not being reassigned.";
    GroupSubscribedToTopic = 86 "GROUP_SUBSCRIBED_TO_TOPIC" fatal
        "The group is subscribed to the topic, so its offsets stay.";
    InvalidRecord = 87 "INVALID_RECORD" fatal
        "A record failed validation.";
    UnstableOffsetCommit = 88 "UNSTABLE_OFFSET_COMMIT" retriable
        "Offsets of an open transaction are pending.";
    ThrottlingQuotaExceeded = 89 "THROTTLING_QUOTA_EXCEEDED" retriable
        "A quota is exceeded; try again after the throttle time.";
    ProducerFenced = 90 "PRODUCER_FENCED" fatal
        "A newer producer with the same transactional id has taken over.";
    ResourceNotFound = 91 "RESOURCE_NOT_FOUND" fatal
        "The resource does not exist.";
    DuplicateResource = 92 "DUPLICATE_RESOURCE" fatal
        "The request names the same resource twice.";
    UnacceptableCredential = 93 "UNACCEPTABLE_CREDENTIAL" fatal
        "The credential does not meet the requirements.";
    InconsistentVoterSet = 94 "INCONSISTENT_VOTER_SET" fatal
        "Sender or receiver is not among the expected voters.";
    InvalidUpdateVersion = 95 "INVALID_UPDATE_VERSION" fatal
        "The version of this update is not valid.";
    FeatureUpdateFailed = 96 "FEATURE_UPDATE_FAILED" fatal
        "The finalized features could not be updated.";
    PrincipalDeserializationFailure = 97 "PRINCIPAL_DESERIALIZATION_FAILURE" fatal
        "The principal of a forwarded request could not be read.";
    SnapshotNotFound = 98 "SNAPSHOT_NOT_FOUND" fatal
        "There is no such snapshot.";
    PositionOutOfRange = 99 "POSITION_OUT_OF_RANGE" fatal
        "The position lies outside the snapshot.";
    UnknownTopicId = 100 "UNKNOWN_TOPIC_ID" retriable
        "This broker does not host a topic of this id.";
    DuplicateBrokerRegistration = 101 "DUPLICATE_BROKER_REGISTRATION" fatal
        "Another broker uses this node id.";
    BrokerIdNotRegistered = 102 "BROKER_ID_NOT_REGISTERED" fatal
        "The broker is not registered.";
    InconsistentTopicId = 103 "INCONSISTENT_TOPIC_ID" retriable
        "The topic id differs from that of the log.";
    InconsistentClusterId = 104 "INCONSISTENT_CLUSTER_ID" fatal
        "The cluster id differs from this cluster's.";
    TransactionalIdNotFound = 105 "TRANSACTIONAL_ID_NOT_FOUND" fatal
        "There is no such transactional id.";
    FetchSessionTopicIdError = 106 "FETCH_SESSION_TOPIC_ID_ERROR" retriable
        "The fetch session mixes topic names and topic ids.";
    IneligibleReplica = 107 "INELIGIBLE_REPLICA" fatal
        "The new ISR names a replica that may not join it.";
    NewLeaderElected = 108 "NEW_LEADER_ELECTED" fatal
        "The change was made, and the partition has a new leader.";
    OffsetMovedToTieredStorage = 109 "OFFSET_MOVED_TO_TIERED_STORAGE" fatal
        "The offset has moved to tiered storage.";
    FencedMemberEpoch = 110 "FENCED_MEMBER_EPOCH" fatal
        "The member's epoch is fenced; it must give up its partitions and join again.";
    UnreleasedInstanceId = 111 "UNRELEASED_INSTANCE_ID" fatal
        "Another member still holds this instance id.";
    UnsupportedAssignor = 112 "UNSUPPORTED_ASSIGNOR" fatal
        "The group does not support this assignor.";
    StaleMemberEpoch = 113 "STALE_MEMBER_EPOCH" fatal
        "The member's epoch is old; it learns the new one by its next heartbeat.";
    MismatchedEndpointType = 114 "MISMATCHED_ENDPOINT_TYPE" fatal
        "The request came to an endpoint of the other type.";
    UnsupportedEndpointType = 115 "UNSUPPORTED_ENDPOINT_TYPE" fatal
        "This type of endpoint is not supported.";
    UnknownControllerId = 116 "UNKNOWN_CONTROLLER_ID" fatal
        "There is no controller of this id.";
    UnknownSubscriptionId = 117 "UNKNOWN_SUBSCRIPTION_ID" fatal
        "The telemetry subscription is not known or is out of date.";
    TelemetryTooLarge = 118 "TELEMETRY_TOO_LARGE" fatal
        "The telemetry is larger than the broker accepts.";
    InvalidRegistration = 119 "INVALID_REGISTRATION" fatal
        "The controller considers the registration not valid.";
    TransactionAbortable = 120 "TRANSACTION_ABORTABLE" fatal
        "The transaction failed; abort it and go on with the same transactional id.";
    InvalidRecordState = 121 "INVALID_RECORD_STATE" fatal
        "The record is not in a state that allows this acknowledgement.";
    ShareSessionNotFound = 122 "SHARE_SESSION_NOT_FOUND" retriable
        "The share session is not known.";
    InvalidShareSessionEpoch = 123 "INVALID_SHARE_SESSION_EPOCH" retriable
        "The share session's epoch is not the next one.";
    FencedStateEpoch = 124 "FENCED_STATE_EPOCH" fatal
        "The share group's state epoch differs.";
    InvalidVoterKey = 125 "INVALID_VOTER_KEY" fatal
        "The voter key differs from that of the receiving replica.";
    DuplicateVoter = 126 "DUPLICATE_VOTER" fatal
        "The voter is already in the set.";
    VoterNotFound = 127 "VOTER_NOT_FOUND" fatal
        "The voter is not in the set.";
    InvalidRegularExpression = 128 "INVALID_REGULAR_EXPRESSION" fatal
        "The regular expression is not valid.";
    RebootstrapRequired = 129 "REBOOTSTRAP_REQUIRED" fatal
        "The client's metadata is stale; it must start from its bootstrap servers.";
    StreamsInvalidTopology = 130 "STREAMS_INVALID_TOPOLOGY" fatal
        "The topology is not valid.";
    StreamsInvalidTopologyEpoch = 131 "STREAMS_INVALID_TOPOLOGY_EPOCH" fatal
        "The topology's epoch is not valid.";
    StreamsTopologyFenced = 132 "STREAMS_TOPOLOGY_FENCED" fatal
        "The topology's epoch is old.";
    ShareSessionLimitReached = 133 "SHARE_SESSION_LIMIT_REACHED" retriable
        "As many share sessions are open as may be.";
    GroupDeletionFailed = 134 "GROUP_DELETION_FAILED" fatal
        "The group could not be deleted; its error message says why.";
    StreamsTopologyDescriptionUpdateFailed = 135 "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED" fatal
        "The topology's description could not be taken over; the error message says why.";
    ControllerIdNotRegistered = 136 "CONTROLLER_ID_NOT_REGISTERED" fatal
        "The controller is not registered.";
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    pub const fn is_error(self) -> bool {
        !matches!(self, ErrorCode::None)
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> i16 {
        code.code()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.code(), self.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_kafka_s_without_a_gap() {
        assert_eq!(ErrorCode::ALL.iter().map(|code| code.code()).collect::<Vec<_>>(), (-1..=136).collect::<Vec<_>>());
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(code.code()), Some(*code));
        }
        assert_eq!(ErrorCode::from_code(137), None);
        assert_eq!(ErrorCode::from_code(i16::MIN), None);
    }

    #[test]
    fn an_error_names_itself_as_kafka_does() {
        assert_eq!(
            ErrorCode::UnknownTopicOrPartition.to_string(),
            "UNKNOWN_TOPIC_OR_PARTITION (3): This broker does not host this partition."
        );
    }

    #[test]
    fn clients_retry_what_may_heal() {
        assert!(ErrorCode::NotLeaderOrFollower.is_retriable());
        assert!(ErrorCode::KafkaStorageError.is_retriable());
        assert!(!ErrorCode::MessageTooLarge.is_retriable());
        assert!(!ErrorCode::OffsetOutOfRange.is_retriable());
    }
}
