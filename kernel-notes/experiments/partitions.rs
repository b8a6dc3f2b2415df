//! The page `partitions.md`: what a partition's open files cost in time and in memory, by the
//! thousand, in the broker's own executor.

use std::fs;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use millrace::runtime::{self, DmaBuffer, File, Part};

use crate::measure::{self, Table};
use crate::{KIB, Options, Result};

const PREALLOCATED_BYTES: u64 = 64 << 10;
const DIRECT: i32 = libc::O_RDWR | libc::O_DIRECT;
const FILES: [usize; 2] = [1000, 10_000];

pub fn measure(options: &Options) -> Result<()> {
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard)?;
    println!("\nopen files allowed: {hard}");
    let columns = [
        "create",
        "CPU",
        "preallocate 64 KiB",
        "CPU",
        "first 4 KiB, 64 in flight",
        "CPU",
        "close",
        "CPU",
        "open again",
        "CPU",
        "bytes of the process",
        "bytes of the kernel",
    ];
    let mut table = Table::new("for each file, µs", &columns);
    for files in FILES {
        let dir = options
            .dir
            .join(format!("kernel-notes-partitions-{}", std::process::id()));
        table.row(format!("{files} files"), move || {
            let measured = in_executor(&dir, files);
            // Also where it failed.
            fs::remove_dir_all(&dir)?;
            let measured = measured?;
            let steps = measured
                .steps
                .iter()
                .flat_map(|step| [step.us, step.cpu_us]);
            let memory = [measured.process_bytes, measured.kernel_bytes];
            Ok(steps.chain(memory).collect())
        });
    }
    table.print(options);
    Ok(())
}

#[derive(Clone, Copy)]
struct Step {
    us: f64,
    cpu_us: f64,
}

struct Measured {
    steps: Vec<Step>,
    process_bytes: f64,
    kernel_bytes: f64,
}

fn in_executor(dir: &Path, files: usize) -> Result<Measured> {
    fs::create_dir_all(dir)?;
    let dir = dir.to_owned();
    runtime::block_on(async move { run(&dir, files).await })
}

/// Measures steps, each over all files.
struct Clock {
    files: usize,
    steps: Vec<Step>,
    at: Instant,
    cpu: f64,
}

impl Clock {
    fn lap(&mut self) -> Result<()> {
        let a_file = 1e6 / self.files as f64;
        let cpu = measure::thread_seconds()?;
        self.steps.push(Step {
            us: self.at.elapsed().as_secs_f64() * a_file,
            cpu_us: (cpu - self.cpu) * a_file,
        });
        (self.at, self.cpu) = (Instant::now(), measure::thread_seconds()?);
        Ok(())
    }
}

async fn run(dir: &Path, files: usize) -> Result<Measured> {
    let path = |index: usize| dir.join(format!("{index:020}.log"));
    let mut open = Vec::with_capacity(files);
    let before = (resident_bytes()?, kernel_bytes()?);
    let mut clock = Clock {
        files,
        steps: Vec::new(),
        at: Instant::now(),
        cpu: measure::thread_seconds()?,
    };
    for index in 0..files {
        let flags = DIRECT | libc::O_CREAT | libc::O_DSYNC;
        open.push(Rc::new(File::open(&path(index), flags).await?));
    }
    clock.lap()?;
    for file in &open {
        file.allocate(0, PREALLOCATED_BYTES).await?;
    }
    clock.lap()?;
    write_all(&open).await?;
    clock.lap()?;
    let after = (resident_bytes()?, kernel_bytes()?);
    clock.at = Instant::now();
    for file in open {
        Rc::into_inner(file)
            .ok_or("a file that is still written")?
            .close()
            .await?;
    }
    clock.lap()?;
    let mut again = Vec::with_capacity(files);
    for index in 0..files {
        again.push(File::open(&path(index), DIRECT).await?);
    }
    clock.lap()?;
    for file in again {
        file.close().await?;
    }
    Ok(Measured {
        steps: clock.steps,
        process_bytes: (after.0 - before.0) / files as f64,
        kernel_bytes: (after.1 - before.1) / files as f64,
    })
}

async fn write_all(files: &[Rc<File>]) -> Result<()> {
    let mut tasks = Vec::new();
    for lane in 0..64.min(files.len()) {
        let own: Vec<_> = files.iter().skip(lane).step_by(64).cloned().collect();
        tasks.push(runtime::spawn_local(async move {
            for file in own {
                let mut buffer = DmaBuffer::new(4 * KIB);
                buffer.as_bytes_mut().fill(7);
                let part = Part::new(Rc::new(buffer), 4 * KIB);
                if file.write(vec![part], 0).await? != 4 * KIB {
                    return Err(io::Error::other("a short write"));
                }
            }
            Ok(())
        }));
    }
    for task in tasks {
        task.await?;
    }
    Ok(())
}

fn resident_bytes() -> Result<f64> {
    field("/proc/self/status", "VmRSS:")
}

/// The kernel's small objects, of the whole machine.
fn kernel_bytes() -> Result<f64> {
    field("/proc/meminfo", "Slab:")
}

fn field(path: &str, name: &str) -> Result<f64> {
    let text = fs::read_to_string(path)?;
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .ok_or("no such field")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
    Ok(kib * 1024.0)
}
