//! Millrace: an event streaming broker for Linux that speaks the Kafka protocol.
//!
//! One pinned io_uring executor per core, a *shard*, owns its partitions outright: logs, tail
//! caches, producer states and the requests that wait on them. No locks and no shared mutable state
//! cross shards; reference-counted immutable bytes may. Messages between shards route requests and
//! nothing else.
//!
//! # The rooms
//!
//! Each folder is a room. Its `mod.rs` says what it is for and what must stay true; `tests/tidy.rs`
//! holds this table against every `use crate::`.
//!
//! | room | may use |
//! |---|---|
//! | [`base`] | nothing |
//! | [`config`] | base |
//! | [`record`] | base |
//! | [`runtime`] | base |
//! | [`shard`] | base, runtime |
//! | [`protocol`] | base, record |
//! | [`metadata`] | base, protocol, record |
//! | [`storage`] | base, config, record, runtime |
//! | [`partition`] | base, config, record, runtime, metadata, shard, storage |
//! | [`controller`] | base, config, metadata, protocol, record, runtime, shard, storage |
//! | [`coordinator`] | base, config, metadata, protocol, record, runtime, shard, partition |
//! | [`api`] | every room above |
//! | [`net`] | base, config, protocol, runtime, shard, api |
//! | [`cli`] | base, protocol, record, metadata, storage, partition, coordinator |
//! | [`process`] | every room |
//!
//! Storage never sees a socket; partition and storage never name a Kafka error code; the message
//! enums of a mailbox live in the room that receives them.

pub mod api;
pub mod base;
pub mod cli;
pub mod config;
pub mod controller;
pub mod coordinator;
pub mod metadata;
pub mod net;
pub mod partition;
pub mod process;
pub mod protocol;
pub mod record;
pub mod runtime;
pub mod shard;
pub mod storage;
