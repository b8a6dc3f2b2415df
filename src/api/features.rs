//! The cluster's features as ApiVersions tells of them (KIP-584). Any shard; pure.

use bytestring::ByteString;

use crate::metadata::features::{Feature, SUPPORTED};
use crate::metadata::image::MetadataImage;
use crate::protocol::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};

/// The features that this broker can run with. `with_optional` are those whose lowest level is 0,
/// at which old clients stumble (KAFKA-17011).
pub(super) fn supported(with_optional: bool) -> Vec<SupportedFeatureKey> {
    told(SUPPORTED, with_optional)
}

fn told(features: &[Feature], with_optional: bool) -> Vec<SupportedFeatureKey> {
    let told = |feature: &&Feature| with_optional || feature.min_level > 0;
    let key = |feature: &Feature| SupportedFeatureKey {
        name: ByteString::from_static(feature.name),
        min_version: feature.min_level,
        max_version: feature.max_level,
    };
    features.iter().filter(told).map(key).collect()
}

/// The levels at which the cluster runs.
pub(super) fn finalized(image: &MetadataImage) -> Vec<FinalizedFeatureKey> {
    let key = |(name, level): (&ByteString, i16)| FinalizedFeatureKey {
        name: name.clone(),
        max_version_level: level,
        min_version_level: level,
    };
    image.features().map(key).collect()
}

/// What tells an older answer from a newer one: the offset of the last record of the metadata; -1
/// before the first.
pub(super) fn epoch(image: &MetadataImage) -> i64 {
    image.next_offset().0 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_off_is_told_to_clients_that_understand_it() {
        let feature = |name, min_level| Feature {
            name,
            min_level,
            max_level: 2,
        };
        let features = [feature("always.on", 1), feature("can.be.off", 0)];
        let names = |with_optional| {
            let told = told(&features, with_optional).into_iter();
            told.map(|key| (key.name.to_string(), key.min_version, key.max_version))
                .collect::<Vec<_>>()
        };
        let [always, optional] = [("always.on", 1), ("can.be.off", 0)]
            .map(|(name, lowest)| (name.to_owned(), lowest, 2));
        assert_eq!(names(true), [always.clone(), optional]);
        assert_eq!(names(false), vec![always]);
    }
}
