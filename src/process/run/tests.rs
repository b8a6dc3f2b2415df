//! Which of several ends is the one that is told.

use super::*;
use crate::base::ids::ShardId;
use crate::controller::publisher::ShardGone;
use crate::controller::{ControllerError, LoadError, Unavailable};
use crate::storage::error::FileError;

type End = Result<(), ShardError<ServeError>>;

fn failed(shard: u16, error: ServeError) -> End {
    let shard = ShardId(shard);
    Err(ShardError::Failed { shard, error })
}

fn stopped(shard: u16) -> End {
    failed(shard, ServeError::Stopped)
}

fn file_error() -> FileError {
    let path = std::path::Path::new("/file");
    FileError::new("open", path, std::io::ErrorKind::PermissionDenied.into())
}

fn load_failed(shard: u16) -> End {
    failed(shard, LoadError::File(file_error()).into())
}

/// The shard whose end is told.
fn told(ended: &Ended) -> Option<u16> {
    match ended {
        Ended::Failed(
            ShardError::Failed { shard, .. }
            | ShardError::NotStarted { shard }
            | ShardError::Panicked { shard, .. },
        ) => Some(shard.0),
        Ended::Cleanly | Ended::WhileStarting => None,
    }
}

#[test]
fn the_shard_that_failed_of_itself_is_told_wherever_it_stands() {
    let gone = |shard| failed(shard, ControllerError::from(ShardGone(ShardId(1))).into());
    let panicked = |shard| -> End {
        let message = "out of sorts".to_owned();
        let shard = ShardId(shard);
        Err(ShardError::Panicked { shard, message })
    };
    let unregistered = |shard| failed(shard, ServeError::Register(Unavailable::Stopped));
    let table: [(Vec<End>, u16); 7] = [
        (vec![stopped(0), load_failed(1)], 1),
        (vec![load_failed(0), stopped(1)], 0),
        (vec![stopped(0), stopped(1), load_failed(2), stopped(3)], 2),
        (vec![gone(0), load_failed(1)], 1),
        (vec![unregistered(0), panicked(1), stopped(2)], 1),
        (vec![gone(0), stopped(1)], 0),
        (vec![Ok(()), load_failed(1), stopped(2)], 1),
    ];
    for (ends, expected) in table {
        let shown = format!("{ends:?}");
        assert_eq!(told(&judge(ends, true)), Some(expected), "{shown}");
    }
}

#[test]
fn a_stop_while_starting_is_well_only_if_somebody_asked_for_it() {
    assert!(matches!(judge(vec![Ok(()), Ok(())], true), Ended::Cleanly));
    let asked = judge(vec![stopped(0), stopped(1)], true);
    assert!(matches!(asked, Ended::WhileStarting));
    assert_eq!(told(&judge(vec![stopped(0), stopped(1)], false)), Some(0));
}

#[test]
fn each_reason_ends_the_process_with_its_code() {
    let table: [(ServeError, Exit); 7] = [
        (LoadError::File(file_error()).into(), Exit::Io),
        (
            LoadError::Foreign { path: "/m".into() }.into(),
            Exit::Configuration,
        ),
        (ServeError::Sweep(file_error()), Exit::Io),
        (
            ControllerError::from(ShardGone(ShardId(1))).into(),
            Exit::Failure,
        ),
        (ServeError::Register(Unavailable::NoRoom), Exit::Io),
        (ServeError::Register(Unavailable::Busy), Exit::Failure),
        (
            ServeError::Listener(std::io::ErrorKind::AddrInUse.into()),
            Exit::Failure,
        ),
    ];
    for (error, expected) in table {
        let shown = format!("{error:?}");
        let shard = ShardId(0);
        let error = RunError::Shard(Box::new(ShardError::Failed { shard, error }));
        assert_eq!(error.exit(), expected, "{shown}");
    }
}
