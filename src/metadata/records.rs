//! The records of the metadata log and their framing. Pure; any shard.
//!
//! The records themselves are made from Kafka's definitions. Only those stand here that something
//! replays: reading any other is an error, since skipping it would make a wrong image.

use bytes::Bytes;

use crate::protocol::error::{DecodeError, EncodeError};
use crate::protocol::messages::config_record::ConfigRecord;
use crate::protocol::messages::feature_level_record::FeatureLevelRecord;
use crate::protocol::messages::no_op_record::NoOpRecord;
use crate::protocol::messages::partition_change_record::PartitionChangeRecord;
use crate::protocol::messages::partition_record::PartitionRecord;
use crate::protocol::messages::producer_ids_record::ProducerIdsRecord;
use crate::protocol::messages::register_broker_record::RegisterBrokerRecord;
use crate::protocol::messages::remove_topic_record::RemoveTopicRecord;
use crate::protocol::messages::topic_record::TopicRecord;
use crate::protocol::reader::Reader;
use crate::protocol::wire::Message;
use crate::protocol::writer::Writer;

/// The version of the frame around a record, the only one that Kafka has.
const FRAME_VERSION: u32 = 1;

/// Bytes that are no record of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A frame of a version that does not exist.
    #[error("a frame of version {version}, where {FRAME_VERSION} is expected")]
    FrameVersion {
        /// The version in front of the record.
        version: u32,
    },
    /// A record that nothing replays.
    #[error("a record of type {type_id} version {version}, which this release does not know")]
    UnknownType {
        /// Kafka's number of the record's type.
        type_id: u32,
        /// Its version.
        version: u32,
    },
    /// A record that is not what its type and version say.
    #[error("a malformed record of type {type_id}: {error}")]
    Malformed {
        /// Kafka's number of the record's type.
        type_id: u32,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A frame that ends before its record begins.
    #[error("a malformed frame: {0}")]
    Frame(DecodeError),
    /// Bytes behind the record.
    #[error("{bytes} bytes behind a record of type {type_id}")]
    Garbage {
        /// Kafka's number of the record's type.
        type_id: u32,
        /// How many.
        bytes: usize,
    },
}

macro_rules! metadata_records {
    ($($(#[$doc:meta])* $variant:ident($message:ident), version $version:literal;)*) => {
        /// A change to the metadata.
        #[derive(Clone, Debug, PartialEq)]
        pub enum MetadataRecord {
            $($(#[$doc])* $variant($message),)*
        }

        impl MetadataRecord {
            /// Kafka's name of its type.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$message as Message>::NAME,)*
                }
            }

            fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
                match self {
                    $(Self::$variant(record) => {
                        writer.unsigned_varint(u32::from(type_id::<$message>()));
                        writer.unsigned_varint($version);
                        record.encode(writer, $version)
                    })*
                }
            }

            fn read(reader: &mut Reader, id: u32, version: u32) -> Result<Self, RecordError> {
                $(if id == u32::from(type_id::<$message>()) {
                    let record = decode::<$message>(reader, id, version)?;
                    return Ok(Self::$variant(record));
                })*
                Err(RecordError::UnknownType { type_id: id, version })
            }
        }

        $(impl From<$message> for MetadataRecord {
            fn from(record: $message) -> Self {
                Self::$variant(record)
            }
        })*
    };
}

// The versions are those that Kafka writes at `metadata.version` 4.3-IV0.
metadata_records! {
    /// A broker is there, with a new epoch.
    RegisterBroker(RegisterBrokerRecord), version 4;
    /// A topic is there, without partitions yet.
    Topic(TopicRecord), version 0;
    /// A partition is there.
    Partition(PartitionRecord), version 2;
    /// A setting of a topic or broker was set, or removed.
    Config(ConfigRecord), version 0;
    /// Something about a partition changed.
    PartitionChange(PartitionChangeRecord), version 2;
    /// A topic is gone, with its partitions and settings.
    RemoveTopic(RemoveTopicRecord), version 0;
    /// A feature's level was set.
    FeatureLevel(FeatureLevelRecord), version 0;
    /// A block of producer ids was given out.
    ProducerIds(ProducerIdsRecord), version 0;
    /// Nothing: what an idle leader writes.
    NoOp(NoOpRecord), version 0;
}

impl MetadataRecord {
    /// The value of the record in the log, framed.
    ///
    /// # Errors
    /// A field that the version cannot express, such as a string of more than 32,767 bytes.
    pub fn to_value(&self) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::new();
        writer.unsigned_varint(FRAME_VERSION);
        self.write(&mut writer)?;
        Ok(writer.into_bytes())
    }

    /// Reads the value of a record in the log.
    ///
    /// # Errors
    /// Whatever is wrong with it; a type or version that nothing replays.
    pub fn from_value(value: Bytes) -> Result<Self, RecordError> {
        let mut reader = Reader::new(value);
        let mut number = || reader.unsigned_varint().map_err(RecordError::Frame);
        let (frame_version, type_id, version) = (number()?, number()?, number()?);
        if frame_version != FRAME_VERSION {
            return Err(RecordError::FrameVersion {
                version: frame_version,
            });
        }
        let record = Self::read(&mut reader, type_id, version)?;
        match reader.remaining() {
            0 => Ok(record),
            bytes => Err(RecordError::Garbage { type_id, bytes }),
        }
    }
}

fn type_id<M: Message>() -> u16 {
    u16::try_from(M::KEY).expect("a metadata record has a number")
}

fn decode<M: Message>(reader: &mut Reader, type_id: u32, version: u32) -> Result<M, RecordError> {
    let version =
        i16::try_from(version).map_err(|_| RecordError::UnknownType { type_id, version })?;
    if !M::VERSIONS.contains(&version) {
        let version = version.unsigned_abs().into();
        return Err(RecordError::UnknownType { type_id, version });
    }
    M::decode(reader, version).map_err(|error| RecordError::Malformed { type_id, error })
}
