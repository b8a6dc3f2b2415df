//! Files through the ring: positioned reads and writes of whole buffers.

use std::ffi::CString;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use io_uring::{opcode, types};

use super::buffer::DmaBuffer;
use super::driver::{Held, Submission, close};
use super::executor::{current, spawn_blocking};
use super::inbox::local;

/// Some bytes of a buffer, to be written.
#[derive(Clone, Debug)]
pub struct Part {
    buffer: Rc<DmaBuffer>,
    from: usize,
    bytes: usize,
}

impl Part {
    /// The first `bytes` of `buffer`.
    ///
    /// # Panics
    /// If it has fewer.
    pub fn new(buffer: Rc<DmaBuffer>, bytes: usize) -> Self {
        Self::of(buffer, 0..bytes)
    }

    /// These bytes of `buffer`.
    ///
    /// # Panics
    /// If it has fewer.
    pub fn of(buffer: Rc<DmaBuffer>, range: Range<usize>) -> Self {
        let (length, bytes) = (buffer.len(), range.len());
        assert!(range.end <= length, "{range:?} of {length}");
        Self {
            buffer,
            from: range.start,
            bytes,
        }
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same without the last ones: `bytes` are left.
    pub fn cut(&mut self, bytes: usize) {
        self.bytes = self.bytes.min(bytes);
    }
}

/// An open file. Calls may overlap; what they do to the same bytes is the caller's business.
#[derive(Debug)]
pub struct File {
    /// None once it is closed. Shared with what is in flight.
    fd: Option<Arc<OwnedFd>>,
}

impl File {
    /// Opens a file with these flags of open(2); one that is made is everybody's to read and its
    /// owner's to write, as far as the umask allows.
    ///
    /// # Errors
    /// As open(2).
    pub async fn open(path: &Path, flags: i32) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let entry = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr())
            .flags(flags | libc::O_CLOEXEC)
            .mode(0o666);
        let opens = Submission::new(&current().driver, entry.build(), Held::Path(path));
        let (result, held) = opens.await;
        result?;
        let Held::File(opened) = held else {
            unreachable!("what was opened is held")
        };
        Ok(Self { fd: Some(opened) })
    }

    fn fd(&self) -> (types::Fd, Arc<OwnedFd>) {
        let fd = self.fd.as_ref().expect("it is closed only when it goes");
        (types::Fd(fd.as_raw_fd()), Arc::clone(fd))
    }

    /// Reads what lies at `position` into buffers of these lengths, one after the other; fewer
    /// bytes at the file's end.
    ///
    /// # Errors
    /// As preadv(2).
    pub async fn read(&self, position: u64, lengths: &[usize]) -> io::Result<Vec<DmaBuffer>> {
        let (fd, held) = self.fd();
        let buffers = lengths.iter().map(|length| DmaBuffer::new(*length));
        let mut buffers: Vec<_> = buffers.collect();
        let iovec = |buffer: &mut DmaBuffer| libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let vectors: Box<[_]> = buffers.iter_mut().map(iovec).collect();
        let count = u32::try_from(vectors.len()).expect("a read has few parts");
        let entry = opcode::Readv::new(fd, vectors.as_ptr(), count).offset(position);
        let held = Held::Read(vectors, buffers, held);
        let reads = Submission::new(&current().driver, entry.build(), held);
        let (result, held) = reads.await;
        let Held::Read(_, mut buffers, _) = held else {
            unreachable!("a read comes back with its buffers")
        };
        let mut left = result? as usize;
        for buffer in &mut buffers {
            let length = left.min(buffer.len());
            buffer.trim_to_size(length);
            left -= length;
        }
        Ok(buffers)
    }

    /// Writes parts of buffers, one after the other, at `position`; how many bytes were
    /// taken.
    ///
    /// # Errors
    /// As pwritev(2).
    pub async fn write(&self, parts: Vec<Part>, position: u64) -> io::Result<usize> {
        let (fd, held) = self.fd();
        let iovec = |part: &Part| libc::iovec {
            iov_base: part.buffer.as_bytes()[part.from..]
                .as_ptr()
                .cast_mut()
                .cast(),
            iov_len: part.bytes,
        };
        let vectors: Box<[_]> = parts.iter().map(iovec).collect();
        let count = u32::try_from(vectors.len()).expect("a write has few parts");
        let entry = opcode::Writev::new(fd, vectors.as_ptr(), count).offset(position);
        let held = Held::Write(vectors, parts, held);
        let writes = Submission::new(&current().driver, entry.build(), held);
        let (result, _) = writes.await;
        Ok(result? as usize)
    }

    /// Makes what was written durable, with the length it needs.
    ///
    /// # Errors
    /// As fdatasync(2).
    pub async fn sync_data(&self) -> io::Result<()> {
        let (fd, held) = self.fd();
        let entry = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC);
        let syncs = Submission::new(&current().driver, entry.build(), Held::File(held));
        syncs.await.0.map(drop)
    }

    /// Gives the file blocks from `from` up to `length`, and that length if it is shorter.
    ///
    /// # Errors
    /// As fallocate(2).
    pub async fn allocate(&self, from: u64, length: u64) -> io::Result<()> {
        let (fd, held) = self.fd();
        let entry = opcode::Fallocate::new(fd, length - from).offset(from);
        let entry = entry.build();
        let allocates = Submission::new(&current().driver, entry, Held::File(held));
        allocates.await.0.map(drop)
    }

    /// Cuts the file to `length`, on the pool.
    ///
    /// # Errors
    /// As ftruncate(2).
    pub async fn truncate(&self, length: u64) -> io::Result<()> {
        // Given up, the file may be dropped here before the pool comes to it, which closes it then.
        let (_, held) = self.fd();
        let length = i64::try_from(length).map_err(io::Error::other)?;
        spawn_blocking(move || Ok(nix::unistd::ftruncate(&*held, length)?)).await
    }

    /// Closes the file, and waits for that.
    ///
    /// # Errors
    /// As close(2). The descriptor is gone all the same.
    pub async fn close(mut self) -> io::Result<()> {
        let Some(fd) = self.fd.take().and_then(Arc::into_inner) else {
            // A call that was given up is still in flight: its end closes the file.
            return Ok(());
        };
        let closes = Submission::new(&current().driver, close(fd), Held::Number);
        closes.await.0.map(drop)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take().and_then(Arc::into_inner) {
            match local() {
                Some(local) => local.driver.close_unattended(fd),
                None => drop(fd),
            }
        }
    }
}
