//! Runs the shards from ready to stopped. The main thread starts them and waits; it does no work
//! of theirs.

use std::convert::Infallible;

use crate::shard::executor::{self, ShardContext, ShardError, StartError};

use super::{Exit, Prepared, StopRequest};

/// Why the broker ended without being asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The executors could not be brought up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A shard ended, and the others with it.
    #[error(transparent)]
    Shard(#[from] ShardError<Infallible>),
}

impl RunError {
    /// The code with which the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Start(_) => Exit::Configuration,
            Self::Shard(_) => Exit::Failure,
        }
    }
}

/// Runs the broker until somebody asks it to stop, or a shard fails.
pub fn run(prepared: Prepared, stop: &StopRequest) -> Result<(), RunError> {
    let shards = prepared.executor.shards;
    let bodies: Vec<_> = (0..shards).map(|_| serve).collect();
    let running = executor::start(&prepared.executor, bodies)?;
    let stopper = running.stopper();
    stop.on_stop(move || stopper.stop());
    tracing::info!(
        shards,
        data = %prepared.directory.path.display(),
        milliseconds = prepared.started.elapsed().as_millis() as u64,
        "shards are up; no listener is open yet"
    );
    for ended in running.join() {
        ended?;
    }
    Ok(())
}

/// What one shard does.
async fn serve(context: ShardContext) -> Result<(), Infallible> {
    context.stop.requested().await;
    Ok(())
}
