//! Brings what journals hold into the segments, at a start. On the main thread, before any log is
//! recovered: recovery then finds what it would have found without a journal.
//!
//! Replaying twice does what replaying once does, so a crash meanwhile does no harm. What is no
//! longer there is passed over: a partition that was deleted, or made anew, which its
//! `partition.metadata` tells; a segment that is no longer the last, which was complete when the
//! next was made.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    /// Journals in which something before the last commit is damaged: what it held may be lost.
    /// They are kept, see [`aside`].
    pub damaged: Vec<PathBuf>,
}

/// Replays the journals of the last run and removes them. After a clean stop they are only removed:
/// all that they hold is in its segments.
pub fn replay(directory: &LogDirectory, was_clean: bool) -> Result<Replayed, FileError> {
    let names = directory.list(directory.path())?.into_iter();
    let names = names.filter(|(name, size)| size.is_some() && layout::is_journal_file(name));
    let paths: Vec<_> = names.map(|(name, _)| directory.path().join(name)).collect();
    let mut replayed = Replayed::default();
    if paths.is_empty() {
        return Ok(replayed);
    }
    if !was_clean {
        let mut files = Vec::new();
        for path in &paths {
            let bytes = directory.read_file(path, FILE_BYTES_MAX)?;
            files.push(bytes.unwrap_or_default());
        }
        let mut commits = Vec::new();
        let mut numbers: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (path, bytes) in paths.iter().zip(&files) {
            match commits_of(bytes) {
                Some(found) => {
                    // The two files of a shard differ in what follows the point.
                    let numbers = numbers.entry(path.with_extension("")).or_default();
                    numbers.extend(found.of_this_turn);
                    commits.extend(found.commits);
                }
                None => replayed.damaged.push(path.clone()),
            }
        }
        let lacking = numbers.iter().filter(|(_, numbers)| lacks_some(numbers));
        let lacking: Vec<_> = lacking.map(|(journal, _)| journal).collect();
        let is_lacking = |path: &&PathBuf| lacking.contains(&&path.with_extension(""));
        let damaged = paths.iter().filter(is_lacking).cloned();
        replayed.damaged.extend(damaged.collect::<Vec<_>>());
        // A log is one shard's, so the order among shards means nothing.
        commits.sort_by_key(|commit| commit.number);
        write(directory, &commits, &mut replayed)?;
    }
    for path in &paths {
        match replayed.damaged.contains(path) {
            true => directory.rename_unsynced(path, &aside(path))?,
            false => directory.remove_file(path)?,
        }
    }
    directory.sync_directory(directory.path())?;
    Ok(replayed)
}

/// Where a journal that is damaged is kept.
pub fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    name.into()
}

/// What was found in a file.
struct Commits<'a> {
    commits: Vec<Found<'a>>,
    /// The numbers of those that are not left over from a former turn.
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
        let Some(commit) = commit.filter(|commit| commit.number > last) else {
            at += BLOCK_BYTES as usize;
            passed_over += 1;
            continue;
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

fn write(
    directory: &LogDirectory,
    commits: &[Found<'_>],
    replayed: &mut Replayed,
) -> Result<(), FileError> {
    let mut last_segments = HashMap::new();
    let mut written = BTreeSet::new();
    for entry in commits.iter().flat_map(|commit| &commit.entries) {
        let key = (entry.name, entry.identity);
        let last = match last_segments.get(&key) {
            Some(last) => *last,
            None => {
                let last = last_segment(directory, entry)?;
                last_segments.insert(key, last);
                last
            }
        };
        if last != Some(entry.at.segment) {
            continue;
        }
        let Some(partition) = partition(directory, entry) else {
            continue;
        };
        let path = layout::segment_file(&partition, entry.at.segment, layout::LOG);
        directory.write_into(&path, entry.at.position, entry.bytes)?;
        replayed.bytes += entry.bytes.len() as u64;
        written.insert(path);
    }
    for path in &written {
        directory.sync_file(path)?;
    }
    replayed.segments = written.len();
    Ok(())
}

/// The partition's directory, if what is there under its name is the same incarnation.
fn partition(directory: &LogDirectory, entry: &Entry<'_>) -> Option<PathBuf> {
    let name = std::str::from_utf8(entry.name).ok()?;
    layout::parse_partition_directory(name)?;
    Some(directory.path().join(name))
}

/// The base offset of the last segment of what an entry belongs to, if that is still there.
fn last_segment(directory: &LogDirectory, entry: &Entry<'_>) -> Result<Option<Offset>, FileError> {
    let Some(path) = partition(directory, entry).filter(|path| path.is_dir()) else {
        return Ok(None);
    };
    let metadata = path.join(layout::PARTITION_METADATA);
    let metadata = directory.read_file(&metadata, layout::PARTITION_METADATA_BYTES_MAX)?;
    if metadata.unwrap_or_default() != entry.identity {
        return Ok(None);
    }
    let names = directory.list(&path)?;
    let segments = names.iter().filter_map(|(name, _)| {
        let (base, extension) = layout::parse_segment_file(name)?;
        (extension == layout::LOG).then_some(base)
    });
    Ok(segments.max())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: format::Secret = [9; 16];

    /// A file of commits of a block each; 0 is one that is torn.
    fn file(numbers: &[u64]) -> Vec<u8> {
        let mut bytes = format::encode_head(&SECRET).as_bytes().to_vec();
        for number in numbers {
            let commit = format::encode(&SECRET, *number, [].into_iter(), format::HEAD_BYTES);
            bytes.extend_from_slice(commit.as_bytes());
            let last = bytes.len() - BLOCK_BYTES as usize;
            bytes[last + 9] ^= u8::from(*number == 0);
        }
        bytes
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
