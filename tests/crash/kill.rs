//! SIGKILL at random moments: everything that was acknowledged is still there.

use crate::beside;
use crate::ledger::Promise;
use crate::rounds::{Game, pause};
use crate::support::broker::Broker;

#[test]
fn a_killed_broker_loses_nothing_acknowledged() {
    let game = Game::new(4, Promise::AtLeastOnce);
    println!("seed {}", game.seed);
    let mut broker = Broker::start_with(beside::SETTINGS);
    let violations = game.play(&mut broker, |broker, random| {
        broker.kill();
        // Some broker dies again while it recovers.
        while random.range(0, 4) == 0 {
            broker.launch();
            pause(random, 0, 300);
            broker.kill();
        }
        pause(random, 0, 200);
        broker.start_again();
    });
    game.assert_healthy(&violations);
}
