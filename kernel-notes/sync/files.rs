//! The segments and the write-ahead log of a cell: made, preallocated and opened before
//! anything is measured.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use glommio::io::{DmaBuffer, DmaFile, OpenOptions};

use crate::{Blocks, Cell, Design, Result};

/// The unit of direct I/O that every length and position here is a multiple of.
pub const BLOCK: usize = 4096;
/// The largest single write.
pub const WRITE_MAX: usize = 1 << 20;

/// Files of one cell.
pub struct Files {
    pub segments: Rc<Vec<Rc<DmaFile>>>,
    pub wal: Option<Rc<DmaFile>>,
    pub wal_bytes: u64,
    /// Any descriptor on the file system, for `syncfs`.
    pub root: Arc<File>,
}

pub fn align_up(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK)
}

impl Files {
    /// Makes and opens the cell's files with room for `segment_bytes` each.
    pub async fn open(cell: &Cell, segment_bytes: u64) -> Result<Self> {
        let dir = cell.dir.join(format!(
            "{:?}-{}-{segment_bytes}",
            cell.blocks, cell.partitions
        ));
        fs::create_dir_all(&dir)?;
        let flags = match cell.design {
            Design::Dsync | Design::Wal => libc::O_DSYNC,
            _ => 0,
        };
        let mut segments = Vec::new();
        for partition in 0..cell.partitions {
            let path = dir.join(format!("{partition:05}.log"));
            prepare(&path, segment_bytes, cell.blocks).await?;
            segments.push(Rc::new(open(&path, flags).await?));
        }
        let wal_bytes = (cell.wal_mib as u64) << 20;
        let wal = match cell.design {
            Design::Wal => {
                let path = cell.dir.join("wal");
                prepare(&path, wal_bytes, Blocks::Written).await?;
                Some(Rc::new(open(&path, 0).await?))
            }
            _ => None,
        };
        let root = Arc::new(File::open(&cell.dir)?);
        nix::unistd::syncfs(&*root)?;
        Ok(Self {
            segments: Rc::new(segments),
            wal,
            wal_bytes,
            root,
        })
    }

    /// Waits until everything on the file system is durable, on a thread of the blocking pool.
    pub async fn syncfs(&self) -> Result<()> {
        let root = self.root.clone();
        Ok(glommio::executor()
            .spawn_blocking(move || nix::unistd::syncfs(&*root))
            .await?)
    }

    /// Closes every file.
    pub async fn close(self) -> Result<()> {
        for segment in self.segments.iter().chain(&self.wal) {
            segment.clone().close_rc().await?;
        }
        Ok(())
    }
}

/// Brings a file to its state before the measurement. Written files are kept between cells.
async fn prepare(path: &PathBuf, bytes: u64, blocks: Blocks) -> Result<()> {
    let there = fs::metadata(path).map(|found| found.len()).unwrap_or(0);
    if blocks == Blocks::Written && there == bytes {
        return Ok(());
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .dma_open(path)
        .await?;
    match blocks {
        Blocks::Extending => {}
        Blocks::Keep => file.pre_allocate(bytes, true).await?,
        Blocks::Fresh | Blocks::Written => file.pre_allocate(bytes, false).await?,
    }
    if blocks == Blocks::Written {
        let zeros = filled(&file, WRITE_MAX.min(bytes as usize), 0);
        let mut at = 0;
        while at < bytes {
            at += file.write_rc_at(zeros.clone(), at).await? as u64;
        }
    }
    file.close().await?;
    Ok(())
}

async fn open(path: &Path, flags: i32) -> Result<DmaFile> {
    Ok(OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .dma_open(path)
        .await?)
}

/// A buffer of `bytes` bytes, all `byte`.
pub fn filled(file: &DmaFile, bytes: usize, byte: u8) -> Rc<DmaBuffer> {
    let mut buffer = file.alloc_dma_buffer(bytes);
    buffer.as_bytes_mut().fill(byte);
    Rc::new(buffer)
}

/// Buffers that a write-ahead log copies into, used again and again as a broker would.
#[derive(Default)]
pub struct Copies {
    free: RefCell<HashMap<usize, Vec<DmaBuffer>>>,
}

impl Copies {
    /// Fills a buffer of `bytes` bytes with `source` over and over, and writes it.
    pub async fn write(&self, file: &DmaFile, source: &[u8], bytes: usize, at: u64) -> Result<()> {
        let free = self.free.borrow_mut().get_mut(&bytes).and_then(Vec::pop);
        let mut buffer = free.unwrap_or_else(|| file.alloc_dma_buffer(bytes));
        for part in buffer.as_bytes_mut().chunks_mut(source.len()) {
            part.copy_from_slice(&source[..part.len()]);
        }
        let buffer = Rc::new(buffer);
        write(file, buffer.clone(), at).await?;
        if let Ok(buffer) = Rc::try_unwrap(buffer) {
            self.free
                .borrow_mut()
                .entry(bytes)
                .or_default()
                .push(buffer);
        }
        Ok(())
    }
}

/// Writes the whole buffer or fails.
pub async fn write(file: &DmaFile, buffer: Rc<DmaBuffer>, at: u64) -> Result<()> {
    let expected = buffer.len();
    let written = file.write_rc_at(buffer, at).await?;
    if written != expected {
        return Err(format!("wrote {written} of {expected} bytes").into());
    }
    Ok(())
}

/// Runs `work` on 0..count, at most `in_flight` at a time.
pub async fn bounded<F, W>(count: usize, in_flight: usize, work: F) -> Result<()>
where
    F: Fn(usize) -> W + 'static,
    W: Future<Output = Result<()>> + 'static,
{
    let next = Rc::new(std::cell::Cell::new(0));
    let work = Rc::new(work);
    let tasks: Vec<_> = (0..in_flight.min(count))
        .map(|_| {
            let (next, work) = (next.clone(), work.clone());
            glommio::spawn_local(async move {
                while next.get() < count {
                    let index = next.get();
                    next.set(index + 1);
                    work(index).await?;
                }
                Ok(())
            })
        })
        .collect();
    let mut result = Ok(());
    for task in tasks {
        result = result.and(task.await);
    }
    result
}

/// An fdatasync of every segment, at most `in_flight` at a time.
pub async fn sync_each(segments: &Rc<Vec<Rc<DmaFile>>>, in_flight: usize) -> Result<()> {
    let files = segments.clone();
    bounded(segments.len(), in_flight, move |index| {
        let file = files[index].clone();
        async move { Ok(file.fdatasync().await?) }
    })
    .await
}
