//! The messages of the protocol, made by the build script from `messages.txt`: one module per
//! message, with Kafka's own names. Pure data; nothing here is written by hand.
//!
//! Names are Kafka's, fields in snake case, and so are the defaults. A field that may be null in
//! any version is an `Option`. Strings and bytes are handles to the frame that they came in.
//! Kafka's sets are arrays here: duplicates are for the handler to see.

#![allow(clippy::all)]

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
