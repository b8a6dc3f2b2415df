//! What becomes of each kind of directory that no partition claims.

use super::*;
use crate::storage::layout;
use crate::storage::sweep::{Claims, sweep};

const METADATA: &str = "partition.metadata";
const LOG: &str = "00000000000000000000.log";

fn metadata_of(id: TopicId) -> String {
    format!("version: 0\ntopic_id: {id}\n")
}

/// Makes `name` with `files`.
fn make(home: &Home, name: &str, files: &[(&str, &str)]) {
    let path = home.directory.path().join(name);
    std::fs::create_dir(&path).expect("a directory");
    for (file, text) in files {
        std::fs::write(path.join(file), text).expect("a file");
    }
}

fn names(home: &Home) -> Vec<String> {
    let listed = home.directory.list(home.directory.path());
    let listed = listed.expect("a listing");
    listed.into_iter().map(|(name, _)| name).collect()
}

/// Asserts that `found` are as many as `starts`, each beginning and ending as it should.
fn assert_named(found: &[String], starts: &[&str], end: &str) {
    assert_eq!(found.len(), starts.len(), "{found:?}");
    for (name, start) in found.iter().zip(starts) {
        assert!(name.starts_with(start) && name.ends_with(end), "{name}");
    }
}

#[test]
fn no_flipped_bit_makes_a_directory_anothers() {
    let id = TopicId::random();
    let whole = layout::partition_metadata(id);
    let found = layout::parse_partition_metadata(whole.as_bytes());
    assert!(found.is_some_and(|found| found.id == id && found.is_summed));
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(layout::parse_partition_metadata(&bytes), None, "bit {bit}");
    }
    let older = metadata_of(id);
    assert!(whole.starts_with(&older), "Kafka reads the first two lines");
    let found = layout::parse_partition_metadata(older.as_bytes());
    assert!(found.is_some_and(|found| found.id == id && !found.is_summed));
}

#[test]
fn a_directory_goes_only_if_something_says_so() {
    let home = home(Faults::default());
    let (alive, deleted, unknown) = (TopicId::random(), TopicId::random(), TopicId::random());
    let doomed = format!("gone-1.{}-delete", "0123456789abcdef".repeat(2));
    make(
        &home,
        "alive-0",
        &[(METADATA, &metadata_of(alive)), (LOG, "")],
    );
    make(
        &home,
        "gone-0",
        &[(METADATA, &metadata_of(deleted)), (LOG, "")],
    );
    make(&home, &doomed, &[(LOG, "")]);
    make(
        &home,
        "lost-7",
        &[(METADATA, &metadata_of(unknown)), (LOG, "")],
    );
    make(&home, "nameless-0", &[(LOG, "records")]);
    make(&home, "torn-1", &[(METADATA, "vers"), (LOG, "")]);
    make(&home, "unmade-0", &[]);
    make(&home, "torn-0", &[(METADATA, "vers")]);
    // Of somebody else.
    make(&home, "backup-2024", &[("notes", "")]);
    make(&home, "mine-delete", &[("notes", "")]);
    std::fs::write(home.directory.path().join("file-0"), "").expect("a file");
    let claims = Claims {
        directories: ["alive-0".to_owned()].into(),
        deleted_topics: [deleted].into(),
    };
    let sweep = || {
        let swept = sweep(&home.directory, &claims).expect("a sweep");
        let names = swept.iter().filter_map(|path| path.file_name()?.to_str());
        let mut names: Vec<_> = names.map(str::to_owned).collect();
        names.sort_unstable();
        names
    };
    let gone = ["gone-0.", "gone-1.", "torn-0.", "unmade-0."];
    assert_named(&sweep(), &gone, "-delete");
    let left = names(&home);
    for kept in ["alive-0", "backup-2024", "file-0", "mine-delete"] {
        assert!(left.iter().any(|name| name == kept), "{kept}: {left:?}");
    }
    let is_stray = |name: &&String| name.ends_with("-stray");
    let mut stray: Vec<_> = left.iter().filter(is_stray).cloned().collect();
    stray.sort_unstable();
    assert_named(&stray, &["lost-7.", "nameless-0.", "torn-1."], "-stray");
    for stray in stray {
        let kept = home.directory.path().join(&stray).join(LOG);
        assert!(kept.exists(), "{stray} keeps its files");
    }

    // The next start finds the same, and sets nothing aside twice.
    assert_named(&sweep(), &gone, "-delete");
    assert_eq!(names(&home), left);
}
