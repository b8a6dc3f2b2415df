//! One connection: a reader that dispatches requests and a writer that sends their replies, two
//! tasks of the shard that accepted it.
//!
//! The reader takes one request at a time through its ordered phase. Only a request that pipelines
//! leaves its completion behind, to run beside the next ones; the replies wait for their turn in
//! [`Replies`]. The writer puts what is ready into as few calls as it can. Neither knows what a
//! request means.

use std::io;
use std::rc::Rc;

use crate::runtime::TaskQueue;

use super::connections::Entry;
use super::intake::{Intake, IntakeError};
use super::replies::{Next, Replies, WriterEnded};
use super::service::{Dispatched, Service};
use super::socket::Socket;

/// Why a connection ended before its peer said so.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// What came was no request, or no more came.
    #[error("{0}")]
    Intake(#[from] IntakeError),
    /// The service refused a request.
    #[error("{0}")]
    Refused(String),
    /// A reply could not be sent.
    #[error("{0}")]
    Send(io::Error),
}

impl ConnectionError {
    /// Whether the peer just went away, which it may do at any time: nobody needs a line about it.
    pub(super) fn is_departure(&self) -> bool {
        let error = match self {
            Self::Intake(IntakeError::Io(error)) | Self::Send(error) => error,
            Self::Intake(IntakeError::Truncated) => return true,
            _ => return false,
        };
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::TimedOut
                | io::ErrorKind::NotConnected
        )
    }
}

/// Serves a connection until either side ends it and its replies are written.
pub(super) async fn serve<S: Service>(
    service: Rc<S>,
    entry: Rc<Entry>,
    mut intake: Intake,
    queue: TaskQueue,
) -> Result<(), ConnectionError> {
    let connection = service.connected(entry.socket.peer(), entry.socket.local());
    let connection = Rc::new(connection);
    let writer = queue.spawn(write(entry.clone()));
    let read = read(&*service, &connection, &entry, &mut intake, queue).await;
    // The memory of what was read ahead, and of nothing else, is held while the last replies leave.
    drop(intake);
    entry.replies.reader_ended();
    let is_broken = matches!(read, Err(ConnectionError::Intake(IntakeError::Io(_))));
    if is_broken {
        entry.socket.close();
    }
    let written = writer.await;
    entry.socket.close();
    read.and(written)
}

async fn read<S: Service>(
    service: &S,
    connection: &Rc<S::Connection>,
    entry: &Entry,
    intake: &mut Intake,
    queue: TaskQueue,
) -> Result<(), ConnectionError> {
    while !entry.is_draining() {
        let start = intake.announced(|start| service.pipelines(start), |count| entry.moved(count));
        let Some(announced) = start.await? else {
            return Ok(());
        };
        // Before its memory is taken, which a client that does not read would hold for long.
        if let Err(WriterEnded) = entry.replies.room(announced.pipelines).await {
            return Ok(());
        }
        let request = intake.whole(announced, |count| entry.moved(count)).await?;
        entry.has_ended_one();
        let place = entry.replies.reserve();
        match service.dispatch(connection, request).await {
            Dispatched::Now(outcome) => place.fill(outcome),
            Dispatched::Later(completion) if announced.pipelines => {
                queue.detach(async move { place.fill(completion.await) });
            }
            Dispatched::Later(completion) => place.fill(completion.await),
        }
    }
    Ok(())
}

async fn write(entry: Rc<Entry>) -> Result<(), ConnectionError> {
    let written = write_all(&entry.socket, &entry.replies, &entry).await;
    // Also wakes a reader that waits for room, or for bytes.
    entry.replies.writer_ended();
    if written.is_err() {
        entry.socket.close();
    }
    written
}

async fn write_all(
    socket: &Socket,
    replies: &Replies,
    entry: &Entry,
) -> Result<(), ConnectionError> {
    loop {
        match replies.next().await {
            Next::Write {
                mut chunks,
                requests,
            } => {
                let sent = socket.send(&mut chunks, |count| entry.sent(count)).await;
                sent.map_err(ConnectionError::Send)?;
                entry.has_ended_one();
                replies.written(requests);
            }
            Next::Close(reason) => return Err(ConnectionError::Refused(reason)),
            Next::Finish => return Ok(()),
        }
    }
}
