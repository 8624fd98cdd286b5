//! The cluster's features (KIP-584): the levels that this broker supports, and the controller's decisions on which are in
//! force.

use super::controller::{Controller, ControllerDecision};
use super::{ControllerReply, Decision, Refusal};
use crate::error_code::ErrorCode;
use crate::metadata::{FeatureRecord, MetadataImage, MetadataRecord};

/// A feature and the levels of it that this broker knows, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feature {
    pub name: &'static str,
    pub min: i16,
    pub max: i16,
}

const METADATA_VERSION: &str = "metadata.version";

/// A new cluster starts with the highest level of each. Levels of `metadata.version` are Kafka's, 3.3-IV3 to 4.3-IV0.
pub const FEATURES: &[Feature] =
    &[Feature { name: "group.version", min: 0, max: 1 }, Feature { name: METADATA_VERSION, min: 7, max: 30 }];

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeatureUpdate {
    pub feature: String,
    /// 0 switches the feature off.
    pub level: i16,
    pub direction: FeatureDirection,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeatureDirection {
    Upgrade,
    SafeDowngrade,
    UnsafeDowngrade,
    /// Something that the client made up.
    Unknown,
}

impl Controller {
    /// All of the updates or none.
    pub(super) fn update_features(
        &self,
        image: &MetadataImage,
        updates: &[FeatureUpdate],
        validate_only: bool,
    ) -> ControllerDecision {
        let records: Result<Vec<_>, Refusal> = updates.iter().map(|update| decide(image, update)).collect();
        let reply = ControllerReply::UpdateFeatures(records.as_ref().map(|_| ()).map_err(Refusal::clone));
        let records = records.unwrap_or_default();
        Decision { records: if validate_only { Vec::new() } else { records }, reply }
    }
}

/// Levels for a cluster that has none yet.
pub(super) fn first_levels(image: &MetadataImage) -> impl Iterator<Item = MetadataRecord> {
    let is_new = image.features().is_empty();
    let levels = FEATURES.iter().filter(move |_| is_new);
    levels.map(|feature| MetadataRecord::Feature(FeatureRecord { name: feature.name.into(), level: feature.max }))
}

fn decide(image: &MetadataImage, update: &FeatureUpdate) -> Result<MetadataRecord, Refusal> {
    let FeatureUpdate { feature, level, direction } = update;
    let refuse = |reason: &str| {
        let message = format!("Invalid update version {level} for feature {feature}. {reason}");
        Err(Refusal::new(ErrorCode::InvalidUpdateVersion, message))
    };
    let present = image.features().get(feature.as_str()).copied().unwrap_or(0);
    if *direction == FeatureDirection::Unknown {
        return refuse("The controller does not support the given upgrade type.");
    }
    if *level < 0 {
        return refuse("A feature version cannot be less than 0.");
    }
    let node_id = image.config().node_id;
    match FEATURES.iter().find(|known| known.name == feature) {
        None => return refuse(&format!("Local controller {node_id} does not support this feature.")),
        Some(Feature { min, max, .. }) if !(*min..=*max).contains(level) => {
            return refuse(&format!("Local controller {node_id} only supports versions {min}-{max}"));
        }
        Some(_) => {}
    }
    if *level < present && *direction == FeatureDirection::Upgrade {
        return refuse(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.",
        );
    }
    if *level > present && *direction != FeatureDirection::Upgrade {
        return refuse("Can't downgrade to a newer version.");
    }
    if feature == METADATA_VERSION && *level < present {
        let message = format!(
            "Unsupported metadata.version downgrade from {present} to {level}. Refusing to perform the requested \
             downgrade because it might delete metadata information."
        );
        return Err(Refusal::new(ErrorCode::InvalidUpdateVersion, message));
    }
    Ok(MetadataRecord::Feature(FeatureRecord { name: feature.as_str().into(), level: *level }))
}

#[cfg(test)]
mod tests {
    use super::super::controller::tests::Cluster;
    use super::*;
    use crate::coordinator::ControllerRequest;
    use FeatureDirection::*;

    fn update(
        cluster: &mut Cluster,
        feature: &str,
        level: i16,
        direction: FeatureDirection,
        validate_only: bool,
    ) -> Result<(), String> {
        let updates = vec![FeatureUpdate { feature: feature.to_owned(), level, direction }];
        let reply = cluster.handle(ControllerRequest::UpdateFeatures { updates, validate_only });
        let ControllerReply::UpdateFeatures(outcome) = reply else { panic!("another reply") };
        outcome.map_err(|refusal| refusal.message)
    }

    #[test]
    fn a_new_cluster_has_the_highest_level_of_each_feature() {
        let cluster = Cluster::of(2);
        let levels: Vec<_> = cluster.image.features().iter().map(|(name, level)| (&**name, *level)).collect();
        assert_eq!(levels, [("group.version", 1), ("metadata.version", 30)]);
    }

    #[test]
    fn a_level_goes_down_only_if_asked_to_and_up_again() {
        let mut cluster = Cluster::of(1);
        assert!(update(&mut cluster, "group.version", 0, Upgrade, false).unwrap_err().contains("Can't downgrade"));
        assert_eq!(update(&mut cluster, "group.version", 0, SafeDowngrade, true), Ok(()));
        assert_eq!(cluster.image.features().get("group.version"), Some(&1), "only validated");
        assert_eq!(update(&mut cluster, "group.version", 0, SafeDowngrade, false), Ok(()));
        assert_eq!(cluster.image.features().get("group.version"), None);
        assert!(
            update(&mut cluster, "group.version", 1, UnsafeDowngrade, false).unwrap_err().contains("newer version")
        );
        assert_eq!(update(&mut cluster, "group.version", 1, Upgrade, false), Ok(()));
        assert_eq!(cluster.image.features().get("group.version"), Some(&1));
    }

    #[test]
    fn refusals_have_kafkas_words() {
        let mut cluster = Cluster::of(1);
        for (feature, level, direction, reason) in [
            ("share.version", 1, Upgrade, "Local controller 1 does not support this feature."),
            ("group.version", 2, Upgrade, "Local controller 1 only supports versions 0-1"),
            ("group.version", -1, Upgrade, "A feature version cannot be less than 0."),
            ("group.version", 1, Unknown, "The controller does not support the given upgrade type."),
        ] {
            let expected = format!("Invalid update version {level} for feature {feature}. {reason}");
            assert_eq!(update(&mut cluster, feature, level, direction, false), Err(expected));
        }
        let refused = update(&mut cluster, "metadata.version", 20, UnsafeDowngrade, false).unwrap_err();
        assert!(refused.starts_with("Unsupported metadata.version downgrade from 30 to 20."), "{refused}");
    }
}
