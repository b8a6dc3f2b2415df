//! Brings what journals hold into the segments, at a start. On the main thread, before any log is
//! recovered: recovery then finds what it would have found without a journal.
//!
//! Of a commit that is torn or damaged the whole entries are replayed too: nobody was told of it,
//! or they are all that is left. An entry is written where it was appended, and nothing else is
//! ever written there, so replaying twice does what replaying once does, and a crash meanwhile does
//! no harm. What is no longer there is passed over: a segment that was deleted, and a partition
//! that was, or was made anew, which its `partition.metadata` tells.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map};
use std::path::{Path, PathBuf};

use crate::base::ids::Offset;
use crate::base::limits::BLOCK_BYTES;
use crate::storage::directory::LogDirectory;
use crate::storage::error::FileError;
use crate::storage::layout;

use super::IN_FLIGHT_MAX;
use super::format::{self, Entry, Found};

/// No journal's file is larger.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// What was found in journals.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Bytes that were written to segments.
    pub bytes: u64,
    /// Segments that they were written to.
    pub segments: usize,
    /// Journals whose records may not all be in segments now.
    pub damaged: Vec<Damaged>,
}

/// Replays the journals of the last run and removes them. After a clean stop they are only removed:
/// all that they hold is in its segments.
pub fn replay(directory: &LogDirectory, was_clean: bool) -> Result<Replayed, FileError> {
    let paths = journals_in(directory)?;
    let mut replayed = Replayed::default();
    if paths.is_empty() {
        return Ok(replayed);
    }
    if !was_clean {
        let files = read_all(directory, &paths)?;
        let (commits, damaged) = contents(&paths, &files);
        replayed.damaged = damaged;
        let is_all_placed = write(directory, &commits, &mut replayed)?;
        if !is_all_placed {
            let damaged = paths.iter().map(|path| Damaged::new(path, UNCLAIMED));
            replayed.damaged = damaged.collect();
        }
    }
    for path in &paths {
        if !replayed
            .damaged
            .iter()
            .any(|damaged| damaged.journal == *path)
        {
            directory.remove_file(path)?;
        }
    }
    for damaged in &replayed.damaged {
        directory.rename_unsynced(&damaged.journal, &damaged.kept)?;
    }
    directory.sync_directory(directory.path())?;
    Ok(replayed)
}

/// Bytes that a journal holds, and where they belong.
#[derive(Debug, PartialEq, Eq)]
pub struct PendingBytes {
    /// The name of the partition's directory.
    pub name: Vec<u8>,
    /// What its `partition.metadata` said.
    pub identity: Vec<u8>,
    /// Base offset of the segment.
    pub segment: Offset,
    /// Where in its file.
    pub position: u64,
    /// Whole batches.
    pub bytes: Vec<u8>,
}

/// What the next start would replay after an unclean stop, in its order, and the journals that are
/// damaged. Nothing is changed.
pub fn pending(directory: &LogDirectory) -> Result<(Vec<PendingBytes>, Vec<Damaged>), FileError> {
    let paths = journals_in(directory)?;
    let files = read_all(directory, &paths)?;
    let (commits, damaged) = contents(&paths, &files);
    let entries = commits.iter().flat_map(|commit| &commit.entries);
    let owned = entries.map(|entry| PendingBytes {
        name: entry.name.to_vec(),
        identity: entry.identity.to_vec(),
        segment: entry.at.segment,
        position: entry.at.position,
        bytes: entry.bytes.to_vec(),
    });
    Ok((owned.collect(), damaged))
}

fn journals_in(directory: &LogDirectory) -> Result<Vec<PathBuf>, FileError> {
    let names = directory.list(directory.path())?.into_iter();
    let journals = names.filter(|it| it.is_file && layout::is_journal_file(&it.name));
    Ok(journals.map(|it| directory.path().join(it.name)).collect())
}

fn read_all(directory: &LogDirectory, paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, FileError> {
    let read = |path: &PathBuf| {
        let bytes = directory.read_file(path, FILE_BYTES_MAX)?;
        Ok(bytes.unwrap_or_default())
    };
    paths.iter().map(read).collect()
}

/// The commits of journals in the order in which they are replayed, and the journals that are
/// damaged.
fn contents<'a>(paths: &[PathBuf], files: &'a [Vec<u8>]) -> (Vec<Found<'a>>, Vec<Damaged>) {
    let (mut all, mut damaged) = (Vec::new(), Vec::new());
    let mut numbers: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (path, bytes) in paths.iter().zip(files) {
        match commits_of(bytes) {
            Some(found) => {
                // The two files of a shard differ in what follows the point.
                let numbers = numbers.entry(path.with_extension("")).or_default();
                numbers.extend(found.of_this_turn);
                all.extend(found.commits);
            }
            None => damaged.push(Damaged::new(path, NOT_A_JOURNAL)),
        }
    }
    let lacking = numbers.iter().filter(|(_, numbers)| lacks_some(numbers));
    let lacking: Vec<_> = lacking.map(|(journal, _)| journal).collect();
    let is_lacking = |path: &&PathBuf| lacking.contains(&&path.with_extension(""));
    let those = paths.iter().filter(is_lacking);
    damaged.extend(those.map(|path| Damaged::new(path, LACKING)));
    // A log is one shard's, so the order among shards means nothing.
    all.sort_by_key(|commit| commit.number);
    (all, damaged)
}

/// A journal that may hold more than could be replayed, and is kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Damaged {
    /// What it was.
    pub journal: PathBuf,
    /// What it is now.
    pub kept: PathBuf,
    /// What is wrong.
    pub reason: &'static str,
}

impl Damaged {
    fn new(journal: &Path, reason: &'static str) -> Self {
        let kept = (1_u32..).map(|number| {
            let mut name = journal.as_os_str().to_owned();
            name.push(match number {
                1 => ".damaged".to_owned(),
                number => format!(".damaged-{number}"),
            });
            PathBuf::from(name)
        });
        let free = kept.into_iter().find(|kept| !kept.exists());
        Self {
            journal: journal.to_owned(),
            kept: free.expect("there are more numbers than files"),
            reason,
        }
    }
}

const NOT_A_JOURNAL: &str = "its first block is not one of a journal";
const LACKING: &str = "a commit is missing among others";
const UNCLAIMED: &str =
    "partition.metadata does not say whose the directory is that it has records of";

/// What was found in a file.
struct Commits<'a> {
    commits: Vec<Found<'a>>,
    /// The numbers of those that are whole and not left over from a former turn.
    of_this_turn: BTreeSet<u64>,
}

/// The commits of a file; `None` if it is no journal, but not empty either: the making of one ends
/// with its first block.
fn commits_of(bytes: &[u8]) -> Option<Commits<'_>> {
    let mut found = Commits {
        commits: Vec::new(),
        of_this_turn: BTreeSet::new(),
    };
    let Some(secret) = format::decode_head(bytes) else {
        return bytes.iter().all(|byte| *byte == 0).then_some(found);
    };
    let (mut at, mut last, mut passed_over) = (BLOCK_BYTES as usize, 0, 0);
    while at < bytes.len() {
        let commit = format::decode(&secret, &bytes[at..]);
        // What a former turn left behind the last one of this turn has lower numbers.
        let commit = commit.filter(|commit| commit.number > last);
        let commit = match commit {
            Some(commit) if commit.is_whole => commit,
            // It may not have the length that it says, if a part of it is a former turn's.
            torn => {
                found.commits.extend(torn);
                at += BLOCK_BYTES as usize;
                passed_over += 1;
                continue;
            }
        };
        // More are missing than have room here: what came before is of a former turn, in the place
        // of one that was in flight.
        if commit.number - last - 1 > passed_over {
            found.of_this_turn.clear();
        }
        (last, passed_over) = (commit.number, 0);
        found.of_this_turn.insert(last);
        at += commit.blocks * BLOCK_BYTES as usize;
        found.commits.push(commit);
    }
    Some(found)
}

/// Whether more commits are missing among these than were in flight with the last one: those nobody
/// was told of.
fn lacks_some(numbers: &BTreeSet<u64>) -> bool {
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
        return false;
    };
    let missing = last - first + 1 - numbers.len() as u64;
    missing >= IN_FLIGHT_MAX.into()
}

/// Writes into the segments what belongs there. Whether it is known of all whether it does.
fn write(
    directory: &LogDirectory,
    commits: &[Found<'_>],
    replayed: &mut Replayed,
) -> Result<bool, FileError> {
    let mut logs = HashMap::new();
    let mut written = BTreeSet::new();
    let mut is_all_placed = true;
    for entry in commits.iter().flat_map(|commit| &commit.entries) {
        let log = match logs.entry((entry.name, entry.identity)) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(unknown) => unknown.insert(log_of(directory, entry)?),
        };
        let partition = match log {
            LogOf::There(partition) => partition,
            LogOf::Gone => continue,
            LogOf::Unknown => {
                is_all_placed = false;
                continue;
            }
        };
        let path = layout::segment_file(partition, entry.at.segment, layout::LOG);
        if !path.exists() {
            continue;
        }
        directory.write_into(&path, entry.at.position, entry.bytes)?;
        replayed.bytes += entry.bytes.len() as u64;
        written.insert(path);
    }
    for path in &written {
        directory.sync_file(path)?;
    }
    replayed.segments = written.len();
    Ok(is_all_placed)
}

/// What became of the log that an entry belongs to.
enum LogOf {
    /// It has this directory.
    There(PathBuf),
    /// It was deleted, or made anew.
    Gone,
    /// What is there under its name does not say whose it is.
    Unknown,
}

fn log_of(directory: &LogDirectory, entry: &Entry<'_>) -> Result<LogOf, FileError> {
    let name = std::str::from_utf8(entry.name).ok();
    let name = name.filter(|name| layout::parse_partition_directory(name).is_some());
    let path = name.map(|name| directory.path().join(name));
    let Some(path) = path.filter(|path| path.is_dir()) else {
        return Ok(LogOf::Gone);
    };
    let metadata = path.join(layout::PARTITION_METADATA);
    let metadata = directory.read_file(&metadata, layout::PARTITION_METADATA_BYTES_MAX)?;
    let found = metadata.as_deref();
    let found = found.and_then(layout::parse_partition_metadata);
    // Of an older version it has no sum.
    let written = layout::parse_partition_metadata(entry.identity);
    Ok(match (found, written) {
        (Some(found), Some(written)) if found.id == written.id => LogOf::There(path),
        (Some(found), Some(_)) if found.is_summed => LogOf::Gone,
        _ => LogOf::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::builder::{BatchBuilder, RecordToWrite};
    use crate::record::compression::Codec;
    use crate::storage::journal::At;

    const SECRET: format::Secret = [9; 16];

    /// A file of commits of a block each; 0 is one that is torn.
    fn file(numbers: &[u64]) -> Vec<u8> {
        let mut bytes = format::encode_head(&SECRET).as_bytes().to_vec();
        for number in numbers {
            let size = format::CommitSize::new();
            let commit = format::encode(&SECRET, *number, [].into_iter(), size);
            bytes.extend_from_slice(commit.as_bytes());
            let last = bytes.len() - BLOCK_BYTES as usize;
            bytes[last + 9] ^= u8::from(*number == 0);
        }
        bytes
    }

    #[test]
    fn what_is_whole_of_a_damaged_commit_is_found_though_the_commit_counts_as_missing() {
        let mut builder = BatchBuilder::new(Codec::None);
        let record = RecordToWrite {
            value: Some(&[7; 20_000]),
            ..RecordToWrite::default()
        };
        builder.append(&record).expect("a record that fits");
        let batch = builder.build().expect("a batch");
        let mut size = format::CommitSize::new();
        let entries = [&b"t-0"[..], b"u-0"].map(|name| Entry {
            name,
            identity: b"id",
            at: At {
                segment: Offset(0),
                position: 0,
            },
            bytes: &batch,
        });
        for entry in &entries {
            size.add(entry.name, entry.identity, 0, batch.len());
        }
        let mut bytes = format::encode_head(&SECRET).as_bytes().to_vec();
        let with_carry = entries.iter().map(|entry| (*entry, 0));
        bytes.extend_from_slice(format::encode(&SECRET, 1, with_carry, size).as_bytes());
        let first = bytes.len();
        for _ in &entries {
            bytes.extend_from_slice(&batch);
            bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        }
        bytes[first + 15_000] ^= 1;
        let found = commits_of(&bytes).expect("a journal");
        assert!(found.of_this_turn.is_empty());
        let names = found.commits.iter().flat_map(|commit| &commit.entries);
        let names: Vec<_> = names.map(|entry| entry.name).collect();
        assert_eq!(names, [b"u-0"]);
    }

    #[test]
    fn what_is_missing_is_damage_where_it_was_not_in_flight() {
        for (files, lacks) in [
            ([vec![1, 2, 3], vec![]], false),
            ([vec![1, 0, 3], vec![]], false),
            ([vec![1, 0, 0, 4], vec![]], true),
            // The files take turns; behind the last commit stands what a former turn left.
            ([vec![7, 8, 3, 4], vec![5, 6]], false),
            ([vec![0, 8, 3, 4], vec![5, 6]], false),
            ([vec![0, 2, 3, 4], vec![5, 6]], false),
            // In the place of the torn one stands a former turn's.
            ([vec![41, 83, 43, 44], vec![80, 81]], false),
            ([vec![82, 0, 0, 85], vec![80, 81]], true),
            ([vec![82, 83], vec![78, 0, 0, 81]], true),
        ] {
            let mut numbers = BTreeSet::new();
            for file in files.iter().map(|numbers| file(numbers)) {
                numbers.extend(commits_of(&file).expect("a journal").of_this_turn);
            }
            assert_eq!(lacks_some(&numbers), lacks, "{files:?}");
        }
    }
}
