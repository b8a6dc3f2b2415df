//! The parts of the hot path that are measured, each made ready on a shard of its own: their times
//! by `hot_path.rs`, their instructions by `instructions.rs`.
//!
//! A part does its work in passes. A pass is a fixed number of calls of the crate's own functions,
//! the same every time, and a [`Meter`] runs around the calls and around nothing else: what a part
//! does in between, such as waiting for a write, is not measured. Nothing here judges a figure.

mod broker;
mod group;
mod mailbox;
mod net;
mod protocol;
mod record;
mod storage;

use std::cell::Cell;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;

use bytes::Bytes;
use millrace::record::{BatchBuilder, Codec, RecordToWrite};
use millrace::runtime::{TaskQueue, yield_now};
use millrace::shard::executor::{ExecutorConfig, ShardContext, allowed_cpus, start};
use millrace::storage::directory::LogDirectory;

/// The time of every record, and of the clock that the parts go by.
const NOW: i64 = 1_700_000_000_000;

/// What runs while a part's own calls do, and only then.
pub trait Meter {
    /// The calls begin.
    fn start(&self);
    /// The calls have ended.
    fn stop(&self);
}

/// A future of the shard.
pub type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

type Run = Box<dyn FnMut(u64, Rc<dyn Meter>) -> LocalFuture>;

/// One part of the hot path.
pub struct Part {
    /// Its name: what is done, and to what.
    pub name: &'static str,
    /// How many calls, requests or messages a pass makes. Figures are given for one.
    pub calls: u64,
    /// Bytes of records that one of them goes through; 0 where it is not bytes that cost.
    pub bytes: u64,
    run: Run,
}

impl Part {
    /// A part whose pass has nothing to do before the next one.
    fn new(name: &'static str, calls: u64, bytes: u64, mut pass: impl FnMut() + 'static) -> Self {
        let run = move |passes: u64, meter: Rc<dyn Meter>| -> LocalFuture {
            meter.start();
            (0..passes).for_each(|_| pass());
            meter.stop();
            Box::pin(async {})
        };
        let run = Box::new(run);
        Self {
            name,
            calls,
            bytes,
            run,
        }
    }

    /// A part that awaits between its passes, and meters itself.
    fn metered<F: Future<Output = ()> + 'static>(
        name: &'static str,
        calls: u64,
        bytes: u64,
        pass: impl Fn(Rc<dyn Meter>) -> F + 'static,
    ) -> Self {
        let pass = Rc::new(pass);
        let run = move |passes: u64, meter: Rc<dyn Meter>| -> LocalFuture {
            let pass = Rc::clone(&pass);
            Box::pin(async move {
                for _ in 0..passes {
                    pass(Rc::clone(&meter)).await;
                }
            })
        };
        let run = Box::new(run);
        Self {
            name,
            calls,
            bytes,
            run,
        }
    }

    /// Makes so many passes.
    pub async fn run(&mut self, passes: u64, meter: Rc<dyn Meter>) {
        (self.run)(passes, meter).await;
    }
}

/// Lets other threads run while the shard waits for them: valgrind runs one at a time, and takes a
/// thread that waits for its ring for one that runs.
async fn take_turns() {
    loop {
        thread::yield_now();
        yield_now().await;
    }
}

/// All parts, on the shard that runs the caller. Their logs lie in `directory`.
async fn all(context: &ShardContext, directory: &LogDirectory) -> Vec<Part> {
    let mut parts = Vec::new();
    parts.extend(net::parts(context).await);
    parts.extend(protocol::parts());
    parts.extend(record::parts());
    parts.extend(storage::parts(directory).await);
    parts.extend(mailbox::parts());
    parts.extend(group::parts());
    parts.extend(broker::parts(directory).await);
    parts
}

/// Has `body` work with all parts on a shard of their own. Where `by_turns`, only one thread of the
/// process runs at a time.
pub fn on_shard<F: Future<Output = ()> + 'static>(
    by_turns: bool,
    body: impl FnOnce(Vec<Part>) -> F + Send + 'static,
) {
    // On the disk that holds the build: a temporary file system may not take direct I/O.
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&target).expect("a target directory");
    let home = tempfile::tempdir_in(target).expect("a directory");
    let directory = LogDirectory::new(home.path().to_owned(), true);
    let config = ExecutorConfig {
        cpus: allowed_cpus().expect("the kernel tells"),
        ..ExecutorConfig::default()
    };
    let shard = move |context: ShardContext| async move {
        if by_turns {
            TaskQueue::Background.detach(take_turns());
        }
        let parts = all(&context, &directory).await;
        body(parts).await;
        Ok::<_, String>(())
    };
    let shards = start(&config, vec![shard]).expect("an executor");
    shards.join().remove(0).expect("a good end");
}

/// What a future that does not have to wait comes to.
fn at_once<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> T {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it was to be ready at once"),
    }
}

/// A batch of so many records of so many bytes each, as a producer sends it. The bytes of the
/// values look like text: they compress, but not to nothing.
fn batch(codec: Codec, records: usize, value_bytes: usize) -> Bytes {
    let random = Cell::new(0x9e37_79b9_7f4a_7c15_u64);
    let next = || {
        // Xorshift: the same bytes on every machine.
        let mut state = random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        random.set(state);
        state
    };
    let mut builder = BatchBuilder::new(codec);
    for record in 0..records {
        let words = (0..value_bytes.div_ceil(8)).map(|_| next() & 0x0f0f_0f0f_0f0f_0f0f);
        let words = words.map(|word| word + 0x6161_6161_6161_6161);
        let mut value: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        value.truncate(value_bytes);
        let record = RecordToWrite {
            timestamp: NOW + record as i64,
            key: None,
            value: Some(&value),
            headers: &[],
        };
        builder.append(&record).expect("a record that fits");
    }
    builder.build().expect("a batch").into()
}
