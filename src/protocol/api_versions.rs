//! ApiVersions (key 18): what this broker speaks. Its response header has no tagged fields in any version, so that a client
//! can read it before it knows the broker.

use super::message::message;

message! {
    /// The first request of a connection.
    ApiVersionsRequest<'a>, key 18, versions 0-4, flexible 3+ {
        client_software_name: &'a str = 3+,
        client_software_version: &'a str = 3+,
    }
}

message! {
    /// To an unknown version the answer is UNSUPPORTED_VERSION in version 0 (KIP-511).
    ApiVersionsResponse<'a>, key 18, versions 0-4, flexible 3+ {
        error_code: i16 = 0+,
        api_keys: Vec<ApiVersion> = 0+,
        throttle_time_ms: i32 = 1+,
        /// Up to version 3 without those whose `min_version` is 0, which older clients refuse (KAFKA-17011).
        supported_features: Vec<SupportedFeatureKey<'a>> = 3+ tag 0,
        /// -1 where unknown.
        finalized_features_epoch: i64 = 3+ tag 1 default -1,
        finalized_features: Vec<FinalizedFeatureKey<'a>> = 3+ tag 2,
        zk_migration_ready: bool = 3+ tag 3,
    }
    /// The versions of one API, both ends included.
    ApiVersion {
        api_key: i16 = 0+,
        min_version: i16 = 0+,
        max_version: i16 = 0+,
    }
    SupportedFeatureKey<'a> {
        name: &'a str = 3+,
        min_version: i16 = 3+,
        max_version: i16 = 3+,
    }
    FinalizedFeatureKey<'a> {
        name: &'a str = 3+,
        max_version_level: i16 = 3+,
        min_version_level: i16 = 3+,
    }
}
