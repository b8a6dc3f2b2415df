//! What `meta.properties` says: whose a data directory is, and the version of its layout. Pure; the
//! file itself is read and written by who opens the directory.
//!
//! It has Kafka's keys, and `millrace.format`. Without that a directory is Kafka's, or nobody's.
//!
//! Where a node has several directories, each names the one that holds the metadata log, so that
//! their order in the settings means nothing, and none of them is taken for a whole node. That one
//! lists the ids of the others. Without the list a disk that is not mounted, which leaves an empty
//! directory behind, could not be told from one that is new.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::base::ids::{NodeId, TopicId};
use crate::config::sources::parse_properties;

/// The version of our layout that this program writes, and the highest that it reads. Since 2 there
/// are journals, without which what was acknowledged is not all there; since 3 larger entries of
/// theirs lie beside the heads of their commits; since 4 a partition's metadata has a sum; since 5
/// there may be several directories, and one alone is not all that was acknowledged.
pub const FORMAT: u32 = 5;

/// The first format in which a directory names that of the metadata.
const FORMAT_WITH_OTHERS: u32 = 5;

/// The file's name in the data directory.
pub const META_FILE: &str = "meta.properties";

/// The file that a running broker holds a lock of, and that has its process id.
pub const LOCK_FILE: &str = ".lock";

/// The version of `meta.properties` itself, as Kafka writes it in KRaft mode.
const META_VERSION: &str = "1";

/// The first line, which tells a damaged file of ours from one of Kafka's.
const META_HEAD: &str = "# Written by Millrace when it first used this directory.";

/// The key of the directory that holds the metadata log.
const METADATA_DIRECTORY_ID: &str = "millrace.metadata.directory.id";

/// The key of the list of the others.
pub const OTHER_DIRECTORY_IDS: &str = "millrace.other.directory.ids";

/// What `meta.properties` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// The cluster, 22 characters of base64.
    pub cluster_id: String,
    /// The node.
    pub node_id: NodeId,
    /// The directory itself (KIP-858).
    pub directory_id: TopicId,
    /// The directory that holds the node's metadata log: this one, unless the node has several.
    pub metadata_directory_id: TopicId,
    /// In the directory of the metadata log: all others that the node knows.
    pub other_directory_ids: Vec<TopicId>,
    /// The version of its layout.
    pub format: u32,
}

/// Why a `meta.properties` is none of ours that this version reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// Apache Kafka wrote it.
    #[error("it was written by Apache Kafka")]
    OfKafka,
    /// A later version of Millrace wrote it.
    #[error("it has the format {0}, and this version knows up to {FORMAT}")]
    Newer(String),
    /// It makes no sense.
    #[error("{0}")]
    Damaged(String),
}

impl MetaProperties {
    /// Reads the file's contents.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetaError> {
        let keys = parse_properties(bytes).map_err(MetaError::Damaged)?;
        let get = |key: &str| {
            let value = keys.get(key).map(|value| value.trim().to_owned());
            value.ok_or_else(|| MetaError::Damaged(format!("{key} is missing")))
        };
        let format = match keys.get("millrace.format").map(|format| format.trim()) {
            None if is_kafkas(&keys) && !bytes.starts_with(META_HEAD.as_bytes()) => {
                return Err(MetaError::OfKafka);
            }
            None => {
                let missing = "millrace.format is missing".to_owned();
                return Err(MetaError::Damaged(missing));
            }
            Some(format) => match format.parse::<u32>() {
                Ok(known) if (1..=FORMAT).contains(&known) => known,
                Ok(newer) if newer > FORMAT => return Err(MetaError::Newer(format.to_owned())),
                _ => {
                    let none = format!("millrace.format={format} is no format");
                    return Err(MetaError::Damaged(none));
                }
            },
        };
        let (node_id, directory_id) = (get("node.id")?, get("directory.id")?);
        let cluster_id = get("cluster.id")?;
        // It is written again as it was read: nothing in it may read differently then.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if cluster_id.is_empty() || !cluster_id.bytes().all(is_plain) {
            let none = format!("cluster.id={cluster_id} is no id");
            return Err(MetaError::Damaged(none));
        }
        let directory_id = parse_id("directory.id", &directory_id)?;
        let (of_metadata, others) = match format < FORMAT_WITH_OTHERS {
            true => (directory_id, Vec::new()),
            false => (
                parse_id(METADATA_DIRECTORY_ID, &get(METADATA_DIRECTORY_ID)?)?,
                parse_ids(OTHER_DIRECTORY_IDS, &get(OTHER_DIRECTORY_IDS)?)?,
            ),
        };
        Ok(Self {
            cluster_id,
            node_id: NodeId(node_id.parse().map_err(|_| {
                let none = format!("node.id={node_id} is no number");
                MetaError::Damaged(none)
            })?),
            directory_id,
            metadata_directory_id: of_metadata,
            other_directory_ids: others,
            format,
        })
    }

    /// Whether the directory holds the metadata log.
    pub fn is_of_metadata(&self) -> bool {
        self.directory_id == self.metadata_directory_id
    }

    /// The file's contents.
    pub fn to_text(&self) -> String {
        let others = self.other_directory_ids.iter().map(TopicId::to_string);
        let mut text = format!("{META_HEAD}\n");
        for (key, value) in [
            ("version", META_VERSION),
            ("millrace.format", &self.format.to_string()),
            ("cluster.id", &self.cluster_id),
            ("node.id", &self.node_id.to_string()),
            ("directory.id", &self.directory_id.to_string()),
            (
                METADATA_DIRECTORY_ID,
                &self.metadata_directory_id.to_string(),
            ),
            (OTHER_DIRECTORY_IDS, &others.collect::<Vec<_>>().join(",")),
        ] {
            writeln!(text, "{key}={value}").expect("a String takes every text");
        }
        text
    }
}

fn parse_id(key: &str, text: &str) -> Result<TopicId, MetaError> {
    let parsed = text.parse();
    parsed.map_err(|error| MetaError::Damaged(format!("{key}: {error}")))
}

fn parse_ids(key: &str, text: &str) -> Result<Vec<TopicId>, MetaError> {
    let ids = text.split(',').map(str::trim).filter(|id| !id.is_empty());
    ids.map(|id| parse_id(key, id)).collect()
}

/// Whether somebody's `meta.properties` says whose the directory is, as Kafka's does in every
/// version.
fn is_kafkas(keys: &BTreeMap<String, String>) -> bool {
    let of_kafka = ["cluster.id", "node.id", "broker.id", "directory.id"];
    of_kafka.iter().any(|key| keys.contains_key(*key))
}
