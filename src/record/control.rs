//! Control records: the markers that end transactions, and the kinds that the quorum writes.
//! Any shard; pure data.
//!
//! A control record's key is a version and a type; its value depends on the type (KIP-98).

use crate::record::builder::{BatchBuilder, BuildError, RecordToWrite};
use crate::record::view::RecordView;

/// The kind of a control record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    /// A transaction was aborted.
    Abort,
    /// A transaction was committed.
    Commit,
    /// A leader of the metadata quorum begins its epoch (KIP-595).
    LeaderChange,
    /// The start of a metadata snapshot (KIP-630).
    SnapshotHeader,
    /// The end of a metadata snapshot.
    SnapshotFooter,
    /// The feature level of the quorum (KIP-853).
    KraftVersion,
    /// The voters of the quorum.
    KraftVoters,
    /// One of a later Kafka, with its id.
    Unknown(i16),
}

impl ControlType {
    /// The type in a control record's key, or `None` where the key is too short.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let (_version, rest) = key.split_first_chunk::<2>()?;
        Some(match i16::from_be_bytes(*rest.first_chunk()?) {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::KraftVersion,
            6 => Self::KraftVoters,
            id => Self::Unknown(id),
        })
    }

    /// Its id in a key.
    pub fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::LeaderChange => 2,
            Self::SnapshotHeader => 3,
            Self::SnapshotFooter => 4,
            Self::KraftVersion => 5,
            Self::KraftVoters => 6,
            Self::Unknown(id) => id,
        }
    }

    /// The key of a control record of this type, version 0.
    pub fn to_key(self) -> [u8; 4] {
        let [high, low] = self.id().to_be_bytes();
        [0, 0, high, low]
    }
}

/// The end of a producer's transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// Committed, or aborted.
    pub is_commit: bool,
    /// The epoch of the transaction coordinator that decided.
    pub coordinator_epoch: i32,
}

impl EndTransactionMarker {
    /// The marker that a record of a control batch holds, or `None` where it is another kind of
    /// control record or none that can be read.
    pub fn from_record(record: &RecordView<'_>) -> Option<Self> {
        let is_commit = match ControlType::from_key(record.key?)? {
            ControlType::Commit => true,
            ControlType::Abort => false,
            _ => return None,
        };
        let (_version, rest) = record.value?.split_first_chunk::<2>()?;
        Some(Self {
            is_commit,
            coordinator_epoch: i32::from_be_bytes(*rest.first_chunk()?),
        })
    }

    /// Adds the marker to a batch, which must be a control batch.
    pub fn append_to(&self, builder: &mut BatchBuilder, timestamp: i64) -> Result<(), BuildError> {
        let control_type = match self.is_commit {
            true => ControlType::Commit,
            false => ControlType::Abort,
        };
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        builder.append(&RecordToWrite {
            timestamp,
            key: Some(&control_type.to_key()),
            value: Some(&value),
            headers: &[],
        })
    }
}
