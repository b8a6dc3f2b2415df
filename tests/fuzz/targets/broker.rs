//! A whole broker in this process: two shards, a directory of its own in memory, a free port.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Instant;

use millrace::config::sources::Given;
use millrace::process::{StopRequest, boot, run};
use tempfile::TempDir;

use super::scratch;

/// A running broker.
pub struct Broker {
    address: SocketAddr,
    stop: StopRequest,
    running: Option<JoinHandle<Result<(), String>>>,
    /// Removed after the broker has ended, unless another one takes it.
    home: Option<TempDir>,
}

/// The data directory, in its home.
const DATA: &str = "data";

impl Broker {
    /// With a new data directory.
    pub fn start() -> Self {
        Self::start_in(scratch::directory())
    }

    /// With what another one has left.
    pub fn start_in(home: TempDir) -> Self {
        let data = home.path().join(DATA);
        let overrides = [
            ("listeners", "PLAINTEXT://127.0.0.1:0"),
            ("log.dirs", &*data.to_string_lossy()),
            ("millrace.shards", "2"),
            ("millrace.memory.bytes", "67108864"),
            ("num.partitions", "2"),
            ("offsets.topic.num.partitions", "2"),
            ("group.initial.rebalance.delay.ms", "0"),
            ("group.min.session.timeout.ms", "100"),
        ];
        let overrides = overrides.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let given = Given::gather(None, [], overrides).expect("no file to read");
        let mut prepared = boot::prepare(&given, Instant::now()).expect("a machine that does");
        // Other threads of the tests run beside it.
        prepared.executor.cpus.clear();
        let address = prepared.listeners[0].address;
        let stop = StopRequest::default();
        let asked = stop.clone();
        let running =
            std::thread::spawn(move || run(prepared, &asked).map_err(|error| error.to_string()));
        Self {
            address,
            stop,
            running: Some(running),
            home: Some(home),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.running.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops it, which must end well. Returns what it leaves.
    pub fn stop(mut self) -> TempDir {
        let ended = self.end();
        assert_eq!(ended, Some(Ok(())), "how the broker ended");
        self.home.take().expect("it is taken once")
    }

    /// What it would leave if it were killed now.
    pub fn copied(&self) -> TempDir {
        let (home, copied) = (self.home.as_ref(), scratch::directory());
        let data = home.expect("it is taken at the end").path().join(DATA);
        copy(&data, &copied.path().join(DATA)).expect("a place for a copy");
        copied
    }

    fn end(&mut self) -> Option<Result<(), String>> {
        self.stop.request();
        let running = self.running.take()?;
        Some(
            running
                .join()
                .unwrap_or_else(|_| Err("the main thread panicked".to_owned())),
        )
    }
}

/// Copies a directory; what goes away meanwhile is left out.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let copied = match from.is_dir() {
        true => fs::create_dir(to).and_then(|()| {
            for entry in fs::read_dir(from)? {
                let name = entry?.file_name();
                copy(&from.join(&name), &to.join(&name))?;
            }
            Ok(())
        }),
        false => fs::copy(from, to).map(drop),
    };
    match copied {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        copied => copied,
    }
}

/// After a failed check it is stopped all the same, and says how it ended.
impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.end() {
            eprintln!("the broker: {error}");
        }
    }
}
