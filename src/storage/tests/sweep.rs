//! What becomes of each kind of directory that no partition claims.

use super::*;
use crate::base::ids::Uuid;
use crate::storage::layout;
use crate::storage::sweep::{Claim, Claims, sweep};

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

fn claim(topic_id: TopicId, directory: Option<Uuid>) -> Claim {
    Claim {
        topic_id,
        directory,
    }
}

fn names(home: &Home) -> Vec<String> {
    let listed = home.directory.list(home.directory.path());
    let listed = listed.expect("a listing");
    listed.into_iter().map(|entry| entry.name).collect()
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
        directories: [("alive-0".to_owned(), claim(alive, None))].into(),
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

#[test]
fn a_name_that_a_partition_has_elsewhere_may_be_that_of_a_topic_that_is_gone() {
    let root = tempfile::tempdir().expect("a directory");
    let path = root.path().to_owned();
    let own = LogDirectory::with_id(Some(Uuid(7)), path, false, Faults::default());
    let (alive, deleted, unknown) = (TopicId::random(), TopicId::random(), TopicId::random());
    let table = [
        ("moved-0", alive, Some(Uuid(8)), None),
        ("placed-0", unknown, Some(Uuid(7)), None),
        ("unplaced-0", unknown, None, None),
        ("gone-0", deleted, Some(Uuid(8)), Some("-delete")),
        ("lost-0", unknown, Some(Uuid(8)), Some("-stray")),
    ];
    for (name, topic_id, ..) in table {
        let partition = root.path().join(name);
        std::fs::create_dir(&partition).expect("a directory");
        std::fs::write(partition.join(METADATA), metadata_of(topic_id)).expect("a file");
        std::fs::write(partition.join(LOG), "").expect("a file");
    }
    let directories = table.map(|(name, _, placed, _)| (name.to_owned(), claim(alive, placed)));
    let claims = Claims {
        directories: directories.into(),
        deleted_topics: [deleted].into(),
    };
    sweep(&own, &claims).expect("a sweep");
    let listed = own.list(root.path()).expect("a listing");
    for (name, _, _, end) in table {
        let found = listed.iter().find(|found| found.name.starts_with(name));
        let found = found.unwrap_or_else(|| panic!("{name} is in {listed:?}"));
        let found = &*found.name;
        match end {
            None => assert_eq!(found, name),
            Some(end) => assert!(found.ends_with(end), "{found}"),
        }
    }
}
