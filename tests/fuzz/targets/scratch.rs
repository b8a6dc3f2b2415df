//! Directories for the files of one input. They lie in memory where the system has a place for
//! that: nothing here asks what the disk does, and a sync costs nothing.

use std::path::Path;

use tempfile::TempDir;

/// A new empty directory, gone when it is dropped.
pub fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let parent = match memory.is_dir() {
        true => memory.to_owned(),
        false => std::env::temp_dir(),
    };
    tempfile::Builder::new()
        .prefix("millrace-fuzz-")
        .tempdir_in(parent)
        .expect("a place for temporary files")
}
