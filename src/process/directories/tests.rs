//! Several directories: which are taken, which are left out, and which keep the node from starting.

use std::thread;
use std::time::{Duration, Instant};

use super::*;

const NODE: NodeId = NodeId(1);

fn dirs(home: &Path, names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| home.join(name)).collect()
}

/// Opens directories that nobody holds any more. A child that another test is starting has a copy
/// of their locks until its own program runs.
fn open(log_dirs: &[PathBuf], metadata: Option<&Path>) -> Result<DataDirectories, DirectoryError> {
    let began = Instant::now();
    loop {
        match DataDirectories::open(log_dirs, metadata, NODE) {
            Err(DirectoryError::Locked { .. }) if began.elapsed() < Duration::from_secs(10) => {
                thread::sleep(Duration::from_millis(1));
            }
            opened => return opened,
        }
    }
}

/// What was found: the metadata's path, those of the others, and whether these are all.
fn opened(log_dirs: &[PathBuf], metadata: Option<&Path>) -> (PathBuf, Vec<PathBuf>, bool) {
    let found = open(log_dirs, metadata).expect("directories of one node");
    let others = found.others.iter().map(|other| other.path.clone());
    (
        found.metadata.path.clone(),
        others.collect(),
        found.is_complete,
    )
}

fn refused(log_dirs: &[PathBuf], metadata: Option<&Path>) -> String {
    let error = open(log_dirs, metadata).expect_err("a refusal");
    error.to_string()
}

fn meta(path: &Path) -> MetaProperties {
    let meta = read_meta(path).expect("a file");
    meta.expect("a formatted directory")
}

#[test]
fn their_order_counts_only_when_they_are_new() {
    let home = tempfile::tempdir().expect("a directory");
    let [a, b, c] = ["a", "b", "c"].map(|name| home.path().join(name));
    let first = opened(&[a.clone(), b.clone()], None);
    assert_eq!(first, (a.clone(), vec![b.clone()], true));
    let (of_a, of_b) = (meta(&a), meta(&b));
    assert_eq!(of_a.cluster_id, of_b.cluster_id);
    assert_eq!(of_b.metadata_directory_id, of_a.directory_id);
    assert_eq!(of_a.other_directory_ids, [of_b.directory_id]);
    assert_ne!(of_a.directory_id, of_b.directory_id);
    let again = opened(&[b.clone(), a.clone()], None);
    assert_eq!(again, first);
    assert_eq!((meta(&a), meta(&b)), (of_a, of_b), "nothing is written");

    // One more comes, before the others.
    let grown = opened(&[c.clone(), b.clone(), a.clone()], None);
    assert_eq!(grown, (a.clone(), vec![c.clone(), b], true));
    assert_eq!(meta(&a).other_directory_ids.len(), 2);
    assert!(
        meta(&a)
            .other_directory_ids
            .contains(&meta(&c).directory_id)
    );
}

#[test]
fn the_metadata_may_have_a_directory_of_its_own_and_keeps_it() {
    let home = tempfile::tempdir().expect("a directory");
    let logs = dirs(home.path(), &["a", "b"]);
    let metadata = home.path().join("m");
    let found = open(&logs, Some(&metadata)).expect("new directories");
    assert!(!found.metadata_has_partitions);
    assert_eq!(
        (found.metadata.path.clone(), found.others.len()),
        (metadata.clone(), 2)
    );
    drop(found);
    let told = refused(&logs, None);
    assert!(told.contains("which is none of log.dirs"), "{told}");
    let told = refused(&logs, Some(&logs[0]));
    assert!(told.contains("which is none of log.dirs"), "{told}");
    // Where partitions may be in it, too, it is the metadata's all the same.
    let all = [logs, vec![metadata.clone()]].concat();
    let found = open(&all, None).expect("all of them");
    assert!(found.metadata_has_partitions);
    assert_eq!(found.metadata.path, metadata);
    drop(found);
    let told = refused(&all, Some(&all[0]));
    assert!(told.contains("and metadata.log.dir is"), "{told}");
}

#[test]
fn a_directory_that_is_gone_or_emptied_is_missing_and_never_new() {
    let home = tempfile::tempdir().expect("a directory");
    let [a, b, away] = ["a", "b", "away"].map(|name| home.path().join(name));
    let both = [a.clone(), b.clone()];
    opened(&both, None);
    fs::rename(&b, &away).expect("a name");
    for is_made in [false, true] {
        if is_made {
            fs::create_dir(&b).expect("a mount point");
        }
        assert_eq!(opened(&both, None), (a.clone(), vec![], false));
        let left = fs::read_dir(&b).map(Iterator::count).unwrap_or(0);
        assert_eq!(left, 0, "nothing is written where a disk may be mounted");
    }
    assert_eq!(
        opened(std::slice::from_ref(&a), None),
        (a.clone(), vec![], false)
    );
    // A new one has to wait, too.
    let c = home.path().join("c");
    let found = opened(&[a.clone(), b.clone(), c.clone()], None);
    assert_eq!(found, (a.clone(), vec![], false));
    assert!(!c.exists());
    fs::remove_dir(&b).expect("an empty directory");
    fs::rename(&away, &b).expect("a name");
    assert_eq!(opened(&both, None), (a.clone(), vec![b.clone()], true));

    // Once an operator has said so it is lost for good.
    fs::remove_dir_all(&b).expect("a removal");
    let file = a.join(META_FILE);
    let text = fs::read_to_string(&file).expect("a file");
    let id = meta(&a).other_directory_ids[0].to_string();
    fs::write(&file, text.replace(&id, "")).expect("a file");
    assert_eq!(opened(&both, None), (a, vec![b], true));
}

#[test]
fn without_its_metadata_a_node_does_not_start() {
    let home = tempfile::tempdir().expect("a directory");
    let [a, b, away] = ["a", "b", "away"].map(|name| home.path().join(name));
    let both = [a.clone(), b.clone()];
    opened(&both, None);
    let id = meta(&a).directory_id.to_string();
    fs::rename(&a, &away).expect("a name");
    fs::create_dir(&a).expect("a mount point");
    for log_dirs in [&both[..], &both[1..]] {
        let told = refused(log_dirs, None);
        assert!(told.contains(&id), "{told}");
        assert_eq!(fs::read_dir(&a).expect("a directory").count(), 0);
    }
    fs::remove_dir(&a).expect("an empty directory");
    fs::rename(&away, &a).expect("a name");
    assert_eq!(opened(&both, None), (a, vec![b], true));
}

#[test]
fn a_crash_while_they_are_made_leaves_nothing_in_the_way() {
    let home = tempfile::tempdir().expect("a directory");
    let [a, b] = ["a", "b"].map(|name| home.path().join(name));
    let both = [a.clone(), b.clone()];
    opened(&both[..1], None);
    assert_eq!(opened(&both, None), (a.clone(), vec![b.clone()], true));
    // The second was formatted, and the first does not know it yet.
    let of_a = MetaProperties {
        other_directory_ids: Vec::new(),
        ..meta(&a)
    };
    write_meta(&a, &of_a).expect("a file");
    assert_eq!(opened(&both, None), (a.clone(), vec![b.clone()], true));
    assert_eq!(meta(&a).other_directory_ids, [meta(&b).directory_id]);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let [a, b, link] = ["a", "b", "link"].map(|name| home.path().join(name));
    opened(std::slice::from_ref(&a), None);
    std::os::unix::fs::symlink(&a, &link).expect("a link");
    let told = refused(&[a.clone(), link], None);
    assert!(told.contains("are the same one"), "{told}");

    opened(std::slice::from_ref(&b), None);
    let told = refused(&[a.clone(), b.clone()], None);
    assert!(told.contains("their cluster.id is"), "{told}");

    let told = {
        fs::copy(a.join(META_FILE), b.join(META_FILE)).expect("a copy");
        refused(&[a.clone(), b.clone()], None)
    };
    assert!(told.contains("one is a copy of the other"), "{told}");

    fs::remove_dir_all(&b).expect("a removal");
    opened(&[a.clone(), b.clone()], None);
    fs::create_dir(b.join("__cluster_metadata-0")).expect("a directory");
    let told = refused(&[a.clone(), b.clone()], None);
    assert!(told.contains("holds __cluster_metadata-0"), "{told}");

    let foreign = home.path().join("foreign");
    fs::create_dir(&foreign).expect("a directory");
    fs::write(foreign.join("notes"), "").expect("a file");
    fs::remove_dir(b.join("__cluster_metadata-0")).expect("an empty directory");
    let told = refused(&[a, b, foreign], None);
    assert!(told.contains("is not empty"), "{told}");
}
