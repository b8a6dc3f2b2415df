//! The corpora: inputs that the targets begin with, made from the project's own encoders, so that
//! they can be made again. An input that has found something is kept beside them under a name that
//! begins with `found-`; nobody makes these again.

mod files;
mod messages;
mod records;

use std::collections::BTreeMap;
use std::fs;

use crate::run::{corpus, corpus_directory};
use crate::targets::TARGETS;

/// Begins the names of the inputs that are not made here.
const FOUND: &str = "found-";

/// Inputs by their names.
pub type Inputs = BTreeMap<String, Vec<u8>>;

fn inputs(target: &str) -> Inputs {
    match target {
        "frames" => messages::frames(),
        "requests" => messages::requests(),
        "sequences" => messages::sequences(),
        "batches" => records::batches(),
        "decompress" => records::decompress(),
        "segments" => records::segments(),
        "journal" => records::journal(),
        "groups" => records::groups(),
        "metadata" => records::metadata(),
        "indexes" => files::indexes(),
        "recovery_checkpoint" => files::recovery_checkpoint(),
        "producer_snapshot" => files::producer_snapshot(),
        "leader_epochs" => files::leader_epochs(),
        "partition_metadata" => files::partition_metadata(),
        "server_properties" => files::server_properties(),
        "meta_properties" => files::meta_properties(),
        other => panic!("the target {other} has no seeds"),
    }
}

/// Whether what is committed is what is made here.
pub fn check() -> Result<(), String> {
    for target in TARGETS {
        let mut committed = corpus(target.name);
        committed.retain(|name, _| !name.starts_with(FOUND));
        let made = inputs(target.name);
        let mut names = committed.keys().chain(made.keys());
        if let Some(name) = names.find(|name| committed.get(*name) != made.get(*name)) {
            let how = "write them anew by `cargo test --test fuzz -- write-corpora`";
            return Err(format!(
                "{}/{name} is not as it is made: {how}",
                target.name
            ));
        }
    }
    Ok(())
}

/// Writes the corpora, and takes away what is not made any more.
pub fn write() {
    for target in TARGETS {
        let directory = corpus_directory(target.name);
        fs::create_dir_all(&directory).expect("a writable directory");
        for name in corpus(target.name).into_keys() {
            if !name.starts_with(FOUND) {
                fs::remove_file(directory.join(name)).expect("a writable directory");
            }
        }
        for (name, input) in inputs(target.name) {
            fs::write(directory.join(name), input).expect("a writable directory");
        }
    }
}

/// Inputs with names as they stand in a table.
fn named<'a>(rows: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Inputs {
    let rows = rows.into_iter();
    rows.map(|(name, input)| (name.to_owned(), input)).collect()
}

/// `bytes` behind their length in one byte.
fn short_slice(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a short slice");
    [&[length][..], bytes].concat()
}

/// `bytes` behind their length in two bytes.
fn slice(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a slice");
    [&length.to_le_bytes()[..], bytes].concat()
}
