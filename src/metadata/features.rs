//! The features whose levels are part of the metadata, and the levels that this version knows.
//! Pure facts, as in Kafka 4.3's `MetadataVersion` and `Feature`.
//!
//! A feature is in the table when the broker does what its level promises. Transactions v2, the new
//! group protocol, share groups, streams groups and eligible leader replicas are not: clients take
//! an advertised level for a promise (KIP-584, KIP-890).

/// The feature that says which records the metadata log holds.
pub const METADATA_VERSION: &str = "metadata.version";

/// The level of `metadata.version` of Kafka 4.3, `4.3-IV0`.
pub const METADATA_VERSION_4_3: i16 = 30;

/// A feature and the levels of it that the broker can run at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Kafka's name of it.
    pub name: &'static str,
    /// The lowest level.
    pub min_level: i16,
    /// The highest level, and the one that a new cluster starts with.
    pub max_level: i16,
}

/// Every feature that the broker knows, by name. `metadata.version` has one level: logs of older
/// versions of Kafka were never written here.
pub const SUPPORTED: &[Feature] = &[Feature {
    name: METADATA_VERSION,
    min_level: METADATA_VERSION_4_3,
    max_level: METADATA_VERSION_4_3,
}];

/// Whether the broker can run with `name` at `level`. Level 0 is a feature switched off.
pub fn is_supported(name: &str, level: i16) -> bool {
    SUPPORTED
        .iter()
        .filter(|feature| feature.name == name)
        .any(|feature| (feature.min_level..=feature.max_level).contains(&level))
}
