//! ApiVersions and UpdateFeatures: what this broker speaks, and which of the cluster's features are in force.

use super::connection::Caller;
use super::{Effect, Shard};
use crate::coordinator::{ControllerRequest, FEATURES, FeatureDirection, FeatureUpdate, Refusal};
use crate::error_code::ErrorCode;
use crate::protocol::api_versions::*;
use crate::protocol::update_features::*;
use crate::protocol::{self, APIS, DecodeError, Reader};
use crate::types::Time;

impl Shard {
    pub(super) fn on_api_versions(
        &mut self,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = ApiVersionsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let named = caller.api_version < 3
            || is_software_name(request.client_software_name) && is_software_name(request.client_software_version);
        if !named {
            let error_code = ErrorCode::InvalidRequest.code();
            let response = ApiVersionsResponse { error_code, ..Default::default() };
            self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
            return Ok(());
        }
        // Clients of version 3 take a lowest level of 0 for an error (KAFKA-17011).
        let told = FEATURES.iter().filter(|feature| caller.api_version > 3 || feature.min > 0);
        let supported = told.map(|feature| SupportedFeatureKey {
            name: feature.name,
            min_version: feature.min,
            max_version: feature.max,
        });
        let image = self.image.clone();
        let finalized = image.features().iter().map(|(name, level)| FinalizedFeatureKey {
            name,
            max_version_level: *level,
            min_version_level: *level,
        });
        let response = ApiVersionsResponse {
            api_keys: offered(),
            supported_features: supported.collect(),
            finalized_features_epoch: image.version() as i64,
            finalized_features: finalized.collect(),
            ..Default::default()
        };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }

    pub(super) fn on_update_features(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = UpdateFeaturesRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let direction = |update: &FeatureUpdateKey<'_>| match (caller.api_version, update.upgrade_type) {
            (0, _) if update.allow_downgrade => FeatureDirection::SafeDowngrade,
            (0, _) | (_, 1) => FeatureDirection::Upgrade,
            (_, 2) => FeatureDirection::SafeDowngrade,
            (_, 3) => FeatureDirection::UnsafeDowngrade,
            _ => FeatureDirection::Unknown,
        };
        let updates = request.feature_updates.iter().map(|update| FeatureUpdate {
            feature: update.feature.to_owned(),
            level: update.max_version_level,
            direction: direction(update),
        });
        let (updates, validate_only) = (updates.collect(), request.validate_only);
        self.ask_controller(now, caller, ControllerRequest::UpdateFeatures { updates, validate_only }, effects);
        Ok(())
    }

    pub(super) fn answer_update_features(
        &mut self,
        caller: Caller,
        outcome: &Result<(), Refusal>,
        effects: &mut Vec<Effect>,
    ) {
        let refusal = outcome.as_ref().err();
        let response = UpdateFeaturesResponse {
            error_code: refusal.map_or(ErrorCode::None, |refusal| refusal.error_code).code(),
            error_message: refusal.map(|refusal| refusal.message.as_str()),
            ..Default::default()
        };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }
}

/// The versions of every API.
pub(super) fn offered() -> Vec<ApiVersion> {
    let row = |api: &protocol::ApiRange| ApiVersion {
        api_key: api.key.code(),
        min_version: api.advertised_min,
        max_version: api.max,
    };
    APIS.iter().map(row).collect()
}

/// What KIP-511 allows as name and version of a client's software.
fn is_software_name(name: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_alphanumeric();
    let inner = |byte: u8| edge(byte) || byte == b'-' || byte == b'.';
    match name.as_bytes() {
        [] => false,
        [only] => edge(*only),
        [first, middle @ .., last] => edge(*first) && edge(*last) && middle.iter().copied().all(inner),
    }
}
