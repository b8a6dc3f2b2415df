//! Power loss at random moments, in two ways, on two file systems: everything that was acknowledged
//! with acks=all is still there, and nothing that a consumer has seen is taken back.

use std::path::Path;

use crate::beside;
use crate::disk::{Disk, FileSystem, Loss, missing};
use crate::ledger::{Promise, Violations};
use crate::rounds::{Game, pause};
use crate::support::broker::{Broker, Peer};
use crate::support::skip_without_privilege;

/// Starts a broker on a directory.
type Start = fn(&Path) -> Broker;

fn play(file_system: FileSystem, loss: Loss, game: &Game, start: Start) -> Violations {
    println!("seed {}, {file_system:?}, {loss:?}", game.seed);
    let mut disk = Disk::new(file_system, loss, game.seed);
    let mut broker = start(&disk.path().join("data"));
    if broker.peer() == Peer::Kafka {
        // Kafka does not synchronize what it formats.
        nix::unistd::sync();
    }
    let violations = game.play(&mut broker, |broker, random| {
        disk.cut();
        // What the broker does with a dead disk is its own affair, but it may acknowledge nothing.
        pause(random, 0, 100);
        broker.end();
        disk.restart();
        broker.start_again();
    });
    broker.end();
    violations
}

fn keeps_its_promises(file_system: FileSystem, loss: Loss) {
    if let Some(why) = missing(file_system) {
        return skip_without_privilege(why);
    }
    let game = Game::new(2, Promise::Nothing);
    let start: Start = match Peer::chosen() {
        Peer::Millrace => |data| Broker::start_at(data, beside::SETTINGS),
        Peer::Kafka => |data| {
            let flush = ("log.flush.interval.messages", "1");
            Broker::start_at(data, &[&[flush], beside::SETTINGS].concat())
        },
    };
    let violations = play(file_system, loss, &game, start);
    game.assert_healthy(&violations);
}

/// The judge proves itself: a broker that does not synchronize has to be found out.
fn is_found_out(file_system: FileSystem, loss: Loss) {
    if let Some(why) = missing(file_system) {
        return skip_without_privilege(why);
    }
    let game = Game {
        rounds: 20,
        ..Game::new(20, Promise::Nothing)
    };
    // Kafka, left to itself, does not wait for the disk.
    let start: Start = match Peer::chosen() {
        Peer::Millrace => |data| Broker::start_without_sync_at(data, beside::SETTINGS),
        Peer::Kafka => |data| Broker::start_at(data, beside::SETTINGS),
    };
    let violations = play(file_system, loss, &game, start);
    let losses = [
        "lost",
        "taken back",
        "commit lost",
        "topic lost",
        "deleted topic is back",
    ];
    let told = losses.iter().any(|kind| violations.has(kind));
    assert!(
        told,
        "seed {}: nobody noticed that nothing was synchronized:\n{violations}",
        game.seed
    );
}

mod ext4 {
    use super::{FileSystem::Ext4, Loss, is_found_out, keeps_its_promises};

    #[test]
    fn unsent_writes_may_vanish() {
        keeps_its_promises(Ext4, Loss::Unsent);
    }

    #[test]
    fn unflushed_sectors_may_vanish() {
        keeps_its_promises(Ext4, Loss::Unflushed);
    }

    #[test]
    fn a_left_out_synchronization_is_found_on_fresh_blocks() {
        is_found_out(Ext4, Loss::Unsent);
    }

    #[test]
    fn a_left_out_synchronization_is_found_on_rewritten_blocks() {
        is_found_out(Ext4, Loss::Unflushed);
    }
}

/// All of them take as long again as ext4's: `cargo test` plays the quickest, and `long-run`
/// every one.
mod xfs {
    use super::{FileSystem::Xfs, Loss, is_found_out, keeps_its_promises};

    #[test]
    fn unsent_writes_may_vanish() {
        keeps_its_promises(Xfs, Loss::Unsent);
    }

    #[test]
    #[ignore = "tests/crash/long-run plays it"]
    fn unflushed_sectors_may_vanish() {
        keeps_its_promises(Xfs, Loss::Unflushed);
    }

    #[test]
    #[ignore = "tests/crash/long-run plays it"]
    fn a_left_out_synchronization_is_found_on_fresh_blocks() {
        is_found_out(Xfs, Loss::Unsent);
    }

    #[test]
    #[ignore = "tests/crash/long-run plays it"]
    fn a_left_out_synchronization_is_found_on_rewritten_blocks() {
        is_found_out(Xfs, Loss::Unflushed);
    }
}
