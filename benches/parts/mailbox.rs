//! A message through a mailbox and its answer back: what both sides do of it, on one shard.
//!
//! Without the wake across cores: `hot_path.rs` measures the round trip between two shards.

use std::cell::RefCell;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};

use millrace::base::ids::ShardId;
use millrace::shard::mailbox::mesh;
use millrace::shard::reply::{self, Sender};

use super::{Part, at_once};

const CALLS: u64 = 64;

pub fn parts() -> Vec<Part> {
    let end = mesh::<(u64, Sender<u64>)>(1, 2 * CALLS as usize).remove(0);
    let (mailboxes, receiver) = end.open();
    let receiving = receiver.run(|_, (question, answer): (u64, Sender<u64>)| {
        answer.send(question + 1).expect("who asked waits");
    });
    let receiving = RefCell::new(Box::pin(receiving));
    vec![Part::new(
        "mailbox/message-and-answer",
        CALLS,
        0,
        move || {
            let mut answers = Vec::with_capacity(CALLS as usize);
            for question in 0..CALLS {
                let (answer, answered) = reply::channel();
                mailboxes
                    .try_send(ShardId(0), (question, answer))
                    .expect("room in the lane");
                answers.push(answered);
            }
            let mut receiving = receiving.borrow_mut();
            let context = &mut Context::from_waker(Waker::noop());
            assert!(receiving.as_mut().poll(context).is_pending());
            for answered in answers {
                black_box(at_once(pin!(answered)).expect("an answer"));
            }
        },
    )]
}
