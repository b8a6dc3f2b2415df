//! What a client's driver needs, installed once into `target` for all test programs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// `tests/drivers`.
pub fn drivers_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers")
}

/// A directory under `target/drivers` that is made from some files, and made anew when they change.
pub struct Installation {
    dir: PathBuf,
    made_from: Vec<u8>,
}

impl Installation {
    pub fn new(name: &str, files: &[&Path]) -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("the target directory");
        let read = |file: &&Path| {
            fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        };
        Self {
            dir: target.join("drivers").join(name),
            made_from: files.iter().flat_map(read).collect(),
        }
    }

    /// Lets `install` fill the directory unless that was done with the same files; gives its path.
    pub fn make(&self, install: impl FnOnce(&Path)) -> PathBuf {
        fs::create_dir_all(&self.dir).expect("a writable target directory");
        // Several test programs may come here at once: the first one works, the others wait.
        let lock = File::create(self.dir.join("lock")).expect("a lock file");
        lock.lock().expect("the lock");
        let installed = self.dir.join("installed");
        let done = self.dir.join("made-from");
        if !fs::read(&done).is_ok_and(|from| from == self.made_from) {
            // What an interrupted or an older installation left must not stay beside the new one.
            let _ = fs::remove_file(&done);
            let _ = fs::remove_dir_all(&installed);
            install(&installed);
            fs::write(&done, &self.made_from).expect("a writable target directory");
        }
        installed
    }
}
