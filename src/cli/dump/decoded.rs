//! What the broker's own records say: those of `__consumer_offsets` and of the metadata. Pure.

use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::coordinator::group::record::GroupRecord;
use crate::metadata::MetadataRecord;
use crate::record::RecordView;
use crate::record::control::ControlType;
use crate::storage::layout;

/// Whose records a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anybody's.
    Plain,
    /// The groups' and their offsets.
    Groups,
    /// The topics' and partitions'.
    Metadata,
}

impl Kind {
    /// Tells it by the name of the directory that the segment stands in.
    pub(super) fn of(segment: &Path) -> Self {
        let segment = segment
            .canonicalize()
            .unwrap_or_else(|_| segment.to_owned());
        let directory = segment.parent().and_then(Path::file_name);
        let directory = directory
            .and_then(std::ffi::OsStr::to_str)
            .unwrap_or_default();
        match layout::parse_partition_directory(directory) {
            Some(("__consumer_offsets", _)) => Self::Groups,
            Some(("__cluster_metadata", _)) => Self::Metadata,
            _ => Self::Plain,
        }
    }

    /// What the record says, where it is one of the broker's own.
    pub(super) fn decode(self, record: &RecordView<'_>, is_control: bool) -> Option<Value> {
        if is_control {
            let kind = record.key.and_then(ControlType::from_key);
            return Some(json!({ "control": kind.map(|kind| format!("{kind:?}")) }));
        }
        let key = record.key.map(Bytes::copy_from_slice);
        let value = record.value.map(Bytes::copy_from_slice);
        match self {
            Self::Plain => None,
            Self::Groups => Some(group_record(&key?, value.as_ref())),
            Self::Metadata => Some(match MetadataRecord::from_value(value?) {
                Ok(record) => json!({ "type": record.name(), "record": format!("{record:?}") }),
                Err(error) => json!({ "error": error.to_string() }),
            }),
        }
    }
}

fn group_record(key: &Bytes, value: Option<&Bytes>) -> Value {
    match GroupRecord::decode(key, value) {
        Ok(Some(GroupRecord::Offset {
            group,
            topic,
            partition,
            value,
        })) => {
            let value = value.map(|value| {
                json!({
                    "offset": value.offset,
                    "leader_epoch": value.leader_epoch,
                    "metadata": &*value.metadata,
                    "commit_timestamp": value.commit_timestamp,
                    "expire_timestamp": value.expire_timestamp,
                })
            });
            json!({
                "type": "OffsetCommit",
                "group": &*group,
                "topic": &*topic,
                "partition": partition,
                "value": value,
            })
        }
        Ok(Some(GroupRecord::Group { group, value })) => {
            let value = value.map(|value| {
                let members = value.members.iter().map(|member| {
                    json!({
                        "member_id": &*member.member_id,
                        "instance_id": member.instance_id.as_deref(),
                        "client_id": &*member.client_id,
                        "client_host": &*member.client_host,
                        "session_timeout_ms": member.session_timeout_ms,
                        "rebalance_timeout_ms": member.rebalance_timeout_ms,
                    })
                });
                json!({
                    "protocol_type": &*value.protocol_type,
                    "protocol": value.protocol.as_deref(),
                    "generation": value.generation,
                    "leader": value.leader.as_deref(),
                    "state_timestamp": value.state_timestamp,
                    "members": members.collect::<Vec<_>>(),
                })
            });
            json!({ "type": "GroupMetadata", "group": &*group, "value": value })
        }
        Ok(None) => json!({ "type": "unknown" }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}
