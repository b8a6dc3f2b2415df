//! Another user of the file system: buffered writes at a given pace, on a thread of its own.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::{Cell, Result};

/// After so much the writer's file is cut and begun again, so that it allocates all the time.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// Stops when dropped.
pub struct Noise {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Noise {
    pub fn start(cell: &Cell) -> Result<Option<Self>> {
        if cell.noise_mib == 0 {
            return Ok(None);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (path, pace, stopped) = (cell.dir.join("noise"), cell.noise_mib, stop.clone());
        let thread = thread::spawn(move || make(path, pace, &stopped));
        thread::sleep(Duration::from_millis(500));
        Ok(Some(Self {
            stop,
            thread: Some(thread),
        }))
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && !matches!(thread.join(), Ok(Ok(())))
        {
            eprintln!("the buffered writer failed");
        }
    }
}

fn make(path: PathBuf, mib_a_second: usize, stop: &AtomicBool) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let piece = vec![7; 1 << 20];
    while !stop.load(Ordering::Relaxed) {
        file.write_all(&piece)?;
        if file.stream_position()? >= FILE_BYTES_MAX {
            file.set_len(0)?;
            file.rewind()?;
        }
        thread::sleep(Duration::from_secs(1) / mib_a_second as u32);
    }
    Ok(())
}
