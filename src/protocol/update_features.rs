//! UpdateFeatures (key 57): levels of the cluster's features are finalized, or lowered (KIP-584).

use super::message::message;

message! {
    UpdateFeaturesRequest<'a>, key 57, versions 0-2, flexible 0+ {
        timeout_ms: i32 = 0+ default 60_000,
        feature_updates: Vec<FeatureUpdateKey<'a>> = 0+,
        validate_only: bool = 1+,
    }
    FeatureUpdateKey<'a> {
        feature: &'a str = 0+,
        /// 0 switches the feature off.
        max_version_level: i16 = 0+,
        allow_downgrade: bool = 0-0,
        /// 1 upgrade, 2 downgrade where nothing is lost, 3 downgrade whatever is lost.
        upgrade_type: i8 = 1+ default 1,
    }
}

message! {
    UpdateFeaturesResponse<'a>, key 57, versions 0-2, flexible 0+ {
        throttle_time_ms: i32 = 0+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        results: Vec<UpdatableFeatureResult<'a>> = 0-1,
    }
    UpdatableFeatureResult<'a> {
        feature: &'a str = 0+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
    }
}
