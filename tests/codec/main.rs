//! The codec over every message in every version, held against the facts that it was made from.
//!
//! The filler makes bytes straight from the facts; the codec reads them and writes them again.

mod differential;
mod filler;
#[path = "../fuzz/targets/memory.rs"]
mod held;
mod kafka;
mod memory;
#[allow(dead_code)]
#[path = "../../build/schema.rs"]
mod schema;
mod served;
#[allow(
    dead_code,
    reason = "each test program uses its own part of the support"
)]
#[path = "../support/mod.rs"]
mod support;

use std::ops::RangeInclusive;

use bytes::Bytes;
use millrace::protocol::error::{DecodeError, EncodeError};
use millrace::protocol::wire::{Message, Reader};

use filler::Random;

include!(concat!(env!("OUT_DIR"), "/every_message.rs"));

/// Random contents of each message in each version.
const FILLINGS: u64 = 40;
/// Damaged copies of each of those.
const DAMAGES: usize = 20;

/// What the codec does with one message.
struct Codec {
    facts: schema::Message,
    versions: RangeInclusive<i16>,
    flexible_since: i16,
    bytes_min: usize,
    default: fn(i16) -> Result<Bytes, EncodeError>,
    recode: fn(Bytes, i16) -> Result<Recoded, DecodeError>,
}

/// A message that was read.
struct Recoded {
    unread: usize,
    written: Result<Bytes, EncodeError>,
}

fn default<M: Message>(version: i16) -> Result<Bytes, EncodeError> {
    M::default().to_bytes(version)
}

fn recode<M: Message>(bytes: Bytes, version: i16) -> Result<Recoded, DecodeError> {
    let mut reader = Reader::new(bytes);
    let message = M::decode(&mut reader, version)?;
    Ok(Recoded {
        unread: reader.remaining(),
        written: message.to_bytes(version),
    })
}

fn add<M: Message>(codecs: &mut Vec<Codec>, facts: &[schema::Message]) {
    let facts = facts.iter().find(|message| message.name == M::NAME);
    codecs.push(Codec {
        facts: facts.expect("the message was made from its facts").clone(),
        versions: M::VERSIONS,
        flexible_since: M::FLEXIBLE_SINCE,
        bytes_min: M::BYTES_MIN,
        default: default::<M>,
        recode: recode::<M>,
    });
}

fn codecs() -> Vec<Codec> {
    let facts = include_str!("../../src/protocol/messages.txt");
    let facts = schema::parse(facts).expect("the facts are part of the source");
    let mut codecs = Vec::new();
    every_message!(add(&mut codecs, &facts));
    assert_eq!(codecs.len(), facts.len());
    codecs
}

impl Codec {
    /// Calls `check` for each version with a name for failures and some fillings, each with its
    /// seed.
    fn fill(&self, fillings: u64, mut check: impl FnMut(i16, &str, u64, Vec<u8>)) {
        for version in self.versions.clone() {
            for round in 0..fillings {
                let seed = round.wrapping_mul(0x2545_f491_4f6c_dd1d) + 1;
                let name = format!("{} version {version} seed {seed}", self.facts.name);
                let bytes = filler::random_bytes(&self.facts, version, seed);
                check(version, &name, seed, bytes);
            }
        }
    }

    fn read(&self, bytes: Bytes, version: i16, name: &str) -> Recoded {
        (self.recode)(bytes, version).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

#[test]
fn defaults_are_those_of_the_facts() {
    for codec in codecs() {
        for version in codec.versions.clone() {
            let name = format!("{} version {version}", codec.facts.name);
            let expected = Bytes::from(filler::default_bytes(&codec.facts, version));
            assert_eq!((codec.default)(version).as_ref(), Ok(&expected), "{name}");
            assert!(expected.len() >= codec.bytes_min, "{name}");
            let read = codec.read(expected.clone(), version, &name);
            assert_eq!(read.written, Ok(expected), "{name}");
        }
        for version in [codec.versions.start() - 1, codec.versions.end() + 1] {
            assert!((codec.default)(version).is_err());
            assert!((codec.recode)(Bytes::from_static(&[0; 64]), version).is_err());
        }
    }
}

#[test]
fn every_message_round_trips_in_every_version() {
    for codec in codecs() {
        codec.fill(FILLINGS, |version, name, _, bytes| {
            let bytes = Bytes::from(bytes);
            let read = codec.read(bytes.clone(), version, name);
            assert_eq!(read.unread, 0, "{name}");
            assert_eq!(read.written, Ok(bytes), "{name}");
        });
    }
}

#[test]
fn no_part_of_a_message_is_a_message() {
    for codec in codecs() {
        codec.fill(4, |version, name, _, bytes| {
            let bytes = Bytes::from(bytes);
            for length in 0..bytes.len() {
                let cut = (codec.recode)(bytes.slice(..length), version);
                assert!(cut.is_err(), "{name}, {length} of {} bytes", bytes.len());
            }
        });
    }
}

/// What can be read can be written, and reads as that for good.
#[test]
fn damaged_messages_are_refused_or_read_for_what_they_are() {
    let (mut refused, mut read) = (0, 0);
    for codec in codecs() {
        codec.fill(FILLINGS, |version, name, seed, bytes| {
            let mut random = Random(seed);
            for damage in 0..DAMAGES {
                let name = format!("{name} damage {damage}");
                let Ok(recoded) = (codec.recode)(damaged(&bytes, &mut random), version) else {
                    refused += 1;
                    continue;
                };
                read += 1;
                let written = recoded.written.expect(&name);
                let again = codec.read(written.clone(), version, &name);
                assert_eq!(again.written, Ok(written), "{name}");
            }
        });
    }
    // Both happen often, or the damage is not what it should be.
    assert!(
        refused > 10_000 && read > 10_000,
        "{refused} refused, {read} read"
    );
}

fn damaged(bytes: &[u8], random: &mut Random) -> Bytes {
    let mut damaged = bytes.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(damaged.len() + 1);
        let byte = [0, 1, 0x7f, 0x80, 0xff, random.next() as u8][random.below(6)];
        match random.below(3) {
            0 => damaged.insert(at, byte),
            _ if at == damaged.len() => damaged.truncate(at / 2),
            1 => damaged[at] = byte,
            _ => drop(damaged.remove(at)),
        }
    }
    damaged.into()
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let mut checked = 0;
    for codec in codecs() {
        // The message's own tagged fields come last, so that some can be added there.
        let known = codec.facts.fields.iter().any(|field| field.tag.is_some());
        codec.fill(1, |version, name, _, mut bytes| {
            if known || version < codec.flexible_since {
                return;
            }
            let plain = Bytes::from(bytes.clone());
            assert_eq!(bytes.pop(), Some(0), "{name}");
            // Two of them: tag 100 with three bytes, and tag 200 with none.
            bytes.extend([2, 100, 3, 1, 2, 3, 0xc8, 0x01, 0]);
            let read = codec.read(bytes.into(), version, name);
            assert_eq!((read.unread, read.written), (0, Ok(plain)), "{name}");
            checked += 1;
        });
    }
    assert!(checked > 100, "{checked} messages and versions");
}
