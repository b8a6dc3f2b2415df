//! What `meta.properties` says: whose a data directory is, and the version of its layout. Pure; the
//! file itself is read and written by who opens the directory.
//!
//! It has Kafka's keys, and `millrace.format`. Without that a directory is Kafka's, or nobody's.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::base::ids::{NodeId, TopicId};
use crate::config::sources::parse_properties;

/// The version of our layout that this program writes, and the highest that it reads. Since 2 there
/// are journals, without which what was acknowledged is not all there; since 3 larger entries of
/// theirs lie beside the heads of their commits; since 4 a partition's metadata has a sum.
pub const FORMAT: u32 = 4;

/// The file's name in the data directory.
pub const META_FILE: &str = "meta.properties";

/// The file that a running broker holds a lock of, and that has its process id.
pub const LOCK_FILE: &str = ".lock";

/// The version of `meta.properties` itself, as Kafka writes it in KRaft mode.
const META_VERSION: &str = "1";

/// The first line, which tells a damaged file of ours from one of Kafka's.
const META_HEAD: &str = "# Written by Millrace when it first used this directory.";

/// What `meta.properties` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// The cluster, 22 characters of base64.
    pub cluster_id: String,
    /// The node.
    pub node_id: NodeId,
    /// The directory itself (KIP-858).
    pub directory_id: TopicId,
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
        Ok(Self {
            cluster_id,
            node_id: NodeId(node_id.parse().map_err(|_| {
                let none = format!("node.id={node_id} is no number");
                MetaError::Damaged(none)
            })?),
            directory_id: directory_id
                .parse()
                .map_err(|error| MetaError::Damaged(format!("directory.id: {error}")))?,
            format,
        })
    }

    /// The file's contents.
    pub fn to_text(&self) -> String {
        let mut text = format!("{META_HEAD}\n");
        for (key, value) in [
            ("version", META_VERSION),
            ("millrace.format", &self.format.to_string()),
            ("cluster.id", &self.cluster_id),
            ("node.id", &self.node_id.to_string()),
            ("directory.id", &self.directory_id.to_string()),
        ] {
            writeln!(text, "{key}={value}").expect("a String takes every text");
        }
        text
    }
}

/// Whether somebody's `meta.properties` says whose the directory is, as Kafka's does in every
/// version.
fn is_kafkas(keys: &BTreeMap<String, String>) -> bool {
    let of_kafka = ["cluster.id", "node.id", "broker.id", "directory.id"];
    of_kafka.iter().any(|key| keys.contains_key(*key))
}
