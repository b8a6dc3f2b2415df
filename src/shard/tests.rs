//! The runtime of a shard, on real executors: several threads, real wakes, real parking.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::future::{Future, pending};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::{or, poll_once};

use super::advertised::AdvertisedShards;
use super::budget::{Budget, LargerThanBudget};
use super::executor::{ExecutorConfig, ShardContext, ShardError, StartError, allowed_cpus, start};
use super::frames::{Frames, Whole};
use super::mailbox::{self, Closed, TrySendError};
use super::placement;
use super::reply;
use super::shutdown::Stopper;
use super::unfilled::SetAside;
use crate::base::ids::{NodeId, PartitionIndex, ShardId, TopicId, TopicIdPartition};
use crate::runtime::{TaskQueue, Timer, yield_now};

const PAUSE: Duration = Duration::from_millis(20);

fn config(shards: u16) -> ExecutorConfig {
    ExecutorConfig {
        shards,
        ..ExecutorConfig::default()
    }
}

/// Runs one body a shard and returns what they returned; a failure fails the test.
fn run<B, F, T>(bodies: Vec<B>) -> Vec<T>
where
    B: FnOnce(ShardContext) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let config = config(bodies.len() as u16);
    let bodies = bodies.into_iter().map(|body| {
        |context: ShardContext| {
            let future = body(context);
            async move { Ok::<_, String>(future.await) }
        }
    });
    let shards = start(&config, bodies.collect()).expect("executors");
    let ended = shards.join().into_iter();
    ended.map(|ended| ended.expect("a good end")).collect()
}

fn run_one<F, T>(body: impl FnOnce(ShardContext) -> F + Send + 'static) -> T
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    run(vec![body]).remove(0)
}

#[test]
fn shards_run_on_named_threads_and_their_own_cpus() {
    let cpus = allowed_cpus().expect("an affinity");
    let shards = cpus.len().min(2) as u16;
    let pinned = ExecutorConfig {
        cpus: cpus.clone(),
        ..config(shards)
    };
    let body = |context: ShardContext| async move {
        let name = thread::current().name().map(str::to_owned);
        Ok::<_, String>((context.shard, name, allowed_cpus().expect("an affinity")))
    };
    let ended = start(&pinned, vec![body; shards.into()]).expect("executors");
    for (index, ended) in ended.join().into_iter().enumerate() {
        let (shard, name, own) = ended.expect("a good end");
        assert_eq!(shard, ShardId(index as u16));
        assert_eq!(name, Some(format!("shard-{index}")));
        assert_eq!(own, [cpus[index]]);
    }
    // More shards than CPUs: nobody is pinned.
    let crowded = ExecutorConfig {
        cpus: cpus[..1].to_vec(),
        ..config(2)
    };
    let ended = start(&crowded, vec![body; 2]).expect("executors");
    for ended in ended.join() {
        assert_eq!(ended.expect("a good end").2, cpus);
    }
}

#[test]
fn a_shard_that_fails_or_panics_stops_the_others() {
    for is_panic in [false, true] {
        let body = move |context: ShardContext| async move {
            if context.shard != ShardId(1) {
                context.stop.requested().await;
                context.barrier.wait().await;
                return Ok(());
            }
            Timer::new(PAUSE).await;
            if is_panic {
                // In a task of its own, as a request handler would be.
                let task = TaskQueue::Requests.spawn(async { panic!("a broken handler") });
                task.await
            }
            Err("the disk is gone")
        };
        let mut ended = start(&config(3), vec![body; 3]).expect("executors").join();
        assert!(matches!(ended.remove(2), Ok(())));
        match (ended.remove(1), is_panic) {
            (Err(ShardError::Failed { shard, error }), false) => {
                assert_eq!((shard, error), (ShardId(1), "the disk is gone"));
            }
            (Err(ShardError::Panicked { shard, message }), true) => {
                assert_eq!((shard, message.as_str()), (ShardId(1), "a broken handler"));
            }
            (other, _) => panic!("{other:?}"),
        }
        assert!(matches!(ended.remove(0), Ok(())));
    }
}

#[test]
fn no_body_runs_when_an_executor_cannot_be_set_up() {
    let broken = ExecutorConfig {
        // More entries than io_uring has.
        ring_depth: 1 << 20,
        ..config(2)
    };
    let ran = Arc::new(AtomicBool::new(false));
    let bodies = (0..2).map(|_| {
        let ran = ran.clone();
        move |_: ShardContext| async move {
            ran.store(true, Ordering::SeqCst);
            Ok::<(), String>(())
        }
    });
    let error = start(&broken, bodies.collect()).expect_err("no ring of that size");
    assert!(matches!(error, StartError::Executor { .. }), "{error}");
    thread::sleep(PAUSE);
    assert!(!ran.load(Ordering::SeqCst));
}

#[test]
fn a_stop_from_another_thread_reaches_every_waiting_task() {
    let body = |context: ShardContext| async move {
        let woken = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..100)
            .map(|index| {
                let (stop, woken) = (context.stop.clone(), woken.clone());
                TaskQueue::Requests.spawn(async move {
                    if index % 2 == 0 {
                        // Waits that are given up leave nothing behind.
                        let give_up = async {
                            Timer::new(Duration::from_millis(1)).await;
                        };
                        futures_lite::future::or(stop.requested(), give_up).await;
                    }
                    stop.requested().await;
                    woken.set(woken.get() + 1);
                })
            })
            .collect();
        context.stop.requested().await;
        for task in tasks {
            task.await;
        }
        assert!(context.stop.is_requested());
        context.stop.requested().await;
        Ok::<_, String>(woken.get())
    };
    let shards = start(&config(2), vec![body; 2]).expect("executors");
    let stopper = shards.stopper();
    thread::sleep(PAUSE);
    stopper.stop();
    stopper.stop();
    let ended = shards.join().into_iter();
    let woken: Vec<_> = ended.map(|ended| ended.expect("a good end")).collect();
    assert_eq!(woken, [100, 100]);
}

#[test]
fn a_stop_is_seen_before_any_task_was_woken_by_it() {
    run_one(|_| async move {
        let stopper = Stopper::default();
        let stop = stopper.listen(TaskQueue::Background);
        Timer::new(PAUSE).await;
        assert!(!stop.is_requested());
        stopper.stop();
        assert!(stop.is_requested(), "only once a task has run");
        stop.requested().await;
    });
}

#[test]
fn whoever_passes_the_barrier_knows_who_failed_before_it() {
    let body = |context: ShardContext| async move {
        match context.shard {
            ShardId(0) => {
                context.barrier.wait().await;
                Ok(context.stop.is_requested())
            }
            _ => Err("the disk is gone"),
        }
    };
    for round in 0..20 {
        let mut ended = start(&config(2), vec![body; 2]).expect("executors").join();
        assert!(matches!(ended.remove(0), Ok(true)), "round {round}");
    }
}

#[test]
fn shards_meet_at_the_barrier_as_often_as_they_like() {
    let steps: Arc<Mutex<Vec<usize>>> = Arc::default();
    let bodies = (0..3).map(|_| {
        let steps = steps.clone();
        move |context: ShardContext| async move {
            for step in 0..50 {
                if context.shard == ShardId((step % 3) as u16) {
                    Timer::new(Duration::from_micros(200)).await;
                }
                steps.lock().expect("a lock").push(step);
                context.barrier.wait().await;
            }
        }
    });
    run(bodies.collect());
    let expected: Vec<_> = (0..50).flat_map(|step| [step; 3]).collect();
    assert_eq!(*steps.lock().expect("a lock"), expected);
}

/// A message with the answer to it.
struct Ask(u64, reply::Sender<u64>);

#[test]
fn messages_of_each_pair_keep_their_order_under_flood() {
    const SHARDS: u16 = 3;
    const MESSAGES: u64 = 20_000;
    const LANE: usize = 8;
    let bodies = mailbox::mesh::<u64>(SHARDS, LANE).into_iter().map(|end| {
        move |context: ShardContext| async move {
            let (mailboxes, receiver) = end.open();
            let closer = receiver.closer();
            let next = Rc::new(RefCell::new(vec![0; SHARDS.into()]));
            let received = next.clone();
            let handle = move |from: ShardId, number| {
                let next: &mut u64 = &mut received.borrow_mut()[usize::from(from.0)];
                assert_eq!(number, *next, "from shard {from}");
                *next += 1;
            };
            let receiving = receiver.run(handle);
            let receiving = TaskQueue::Requests.spawn(receiving);
            let sending: Vec<_> = (0..SHARDS)
                .map(|to| {
                    let mailboxes = mailboxes.clone();
                    TaskQueue::Requests.spawn(async move {
                        for number in 0..MESSAGES {
                            mailboxes.send(ShardId(to), number).await.expect("open");
                            assert!(mailboxes.in_flight(ShardId(to)) <= LANE);
                        }
                    })
                })
                .collect();
            for task in sending {
                task.await;
            }
            while next.borrow().iter().any(|count| *count < MESSAGES) {
                yield_now().await;
            }
            context.barrier.wait().await;
            closer.close();
            receiving.await;
        }
    });
    run(bodies.collect());
}

#[test]
fn tasks_that_wait_for_room_are_served_in_turn() {
    run_one(|_| async move {
        let (mailboxes, receiver) = mailbox::mesh::<u32>(1, 1).remove(0).open();
        let tasks: Vec<_> = (0..20)
            .map(|number| {
                let mailboxes = mailboxes.clone();
                TaskQueue::Requests.spawn(async move {
                    mailboxes.send(ShardId(0), number).await.expect("open");
                })
            })
            .collect();
        Timer::new(PAUSE).await;
        // The one that found room has sent; one that gives up leaves the rest in order.
        let mut tasks: Vec<_> = tasks.into_iter().map(Some).collect();
        drop(tasks[5].take());
        assert_eq!(
            mailboxes.try_send(ShardId(0), 99),
            Err(TrySendError::Full(99))
        );
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (closer, sink) = (receiver.closer(), seen.clone());
        let loop_ = receiver.run(move |_, number| {
            sink.borrow_mut().push(number);
        });
        let loop_ = TaskQueue::Requests.spawn(loop_);
        for task in tasks.into_iter().flatten() {
            task.await;
        }
        yield_now().await;
        closer.close();
        loop_.await;
        let expected: Vec<_> = (0..20).filter(|number| *number != 5).collect();
        assert_eq!(*seen.borrow(), expected);
    });
}

#[test]
fn a_closed_mailbox_gives_messages_back_and_drops_those_not_handled() {
    let mut ends = mailbox::mesh::<Ask>(2, 2);
    let (second, first) = (ends.remove(1), ends.remove(0));
    let asking = async move |context: ShardContext| {
        let (mailboxes, _receiver) = first.open();
        let to = ShardId(1);
        let (sender, lost) = reply::channel();
        mailboxes.send(to, Ask(1, sender)).await.expect("open");
        let (sender, also_lost) = reply::channel();
        mailboxes.send(to, Ask(2, sender)).await.expect("open");
        let waiting = {
            let mailboxes = mailboxes.clone();
            TaskQueue::Requests.spawn(async move {
                let (sender, _answer) = reply::channel();
                mailboxes.send(to, Ask(3, sender)).await
            })
        };
        Timer::new(PAUSE).await;
        context.barrier.wait().await;
        assert_eq!(lost.await, Err(reply::Gone));
        assert_eq!(also_lost.await, Err(reply::Gone));
        let Err(Closed(Ask(number, _))) = waiting.await else {
            panic!("sent into a closed mailbox");
        };
        assert_eq!(number, 3);
        let (sender, _answer) = reply::channel();
        assert!(matches!(
            mailboxes.try_send(to, Ask(4, sender)),
            Err(TrySendError::Closed(Ask(4, _)))
        ));
    };
    let closing = async move |context: ShardContext| {
        let (_mailboxes, receiver) = second.open();
        context.barrier.wait().await;
        drop(receiver);
    };
    type Body = Box<dyn FnOnce(ShardContext) -> std::pin::Pin<Box<dyn Future<Output = ()>>> + Send>;
    let bodies: Vec<Body> = vec![
        Box::new(|context| Box::pin(asking(context))),
        Box::new(|context| Box::pin(closing(context))),
    ];
    run(bodies);
}

#[test]
fn parked_shards_are_woken_by_messages_and_by_answers() {
    const ROUNDS: u64 = 50;
    let bodies = mailbox::mesh::<Ask>(2, 4).into_iter().map(|end| {
        move |context: ShardContext| async move {
            let (mailboxes, receiver) = end.open();
            let answer = |_, Ask(number, answer): Ask| {
                let _gone = answer.send(number + 1);
            };
            let closer = receiver.closer();
            let loop_ = receiver.run(answer);
            let loop_ = TaskQueue::Requests.spawn(loop_);
            let mut slowest = Duration::ZERO;
            if context.shard == ShardId(0) {
                for number in 0..ROUNDS {
                    // Long enough for both executors to sleep in the kernel.
                    Timer::new(Duration::from_millis(2)).await;
                    let asked = Instant::now();
                    let (sender, answer) = reply::channel();
                    mailboxes
                        .send(ShardId(1), Ask(number, sender))
                        .await
                        .expect("open");
                    assert_eq!(answer.await, Ok(number + 1));
                    slowest = slowest.max(asked.elapsed());
                }
            }
            context.barrier.wait().await;
            closer.close();
            loop_.await;
            slowest
        }
    });
    // A missed wake shows as a wait for ever, or for some timer; a busy machine as milliseconds.
    let slowest = run(bodies.collect())[0];
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[test]
fn a_budget_serves_in_order_and_never_more_than_it_has() {
    run_one(|_| async move {
        let budget = Budget::new(100);
        let refused = budget.acquire(101).await.err();
        let expected = LargerThanBudget {
            bytes: 101,
            capacity: 100,
        };
        assert_eq!(refused, Some(expected));
        let held = budget.acquire(60).await.expect("fits");
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = [(0, 90), (1, 10), (2, 10), (3, 95)]
            .into_iter()
            .map(|(name, bytes)| {
                let (budget, order) = (budget.clone(), order.clone());
                TaskQueue::Requests.spawn(async move {
                    let permit = budget.acquire(bytes).await.expect("fits");
                    assert!(budget.used() <= 100);
                    order.borrow_mut().push(name);
                    Timer::new(Duration::from_millis(1)).await;
                    drop(permit);
                })
            })
            .collect();
        Timer::new(PAUSE).await;
        // The large one waits, and small ones that would fit wait behind it.
        assert!(order.borrow().is_empty() && budget.is_awaited());
        assert!(budget.try_acquire(1).is_none());
        let mut tasks: Vec<_> = tasks.into_iter().map(Some).collect();
        drop(tasks[1].take());
        drop(held);
        for task in tasks.into_iter().flatten() {
            task.await;
        }
        assert_eq!(*order.borrow(), [0, 2, 3]);
        assert_eq!(budget.used(), 0);
    });
}

#[test]
fn memory_released_on_another_thread_wakes_the_waiting_shard() {
    run_one(|_| async move {
        let frames = Frames::new(Budget::new(300 << 10), Budget::new(1 << 10));
        for round in 0..200_usize {
            // Some return to the pool, some are allocated to measure, some of another class.
            let lengths = [200 << 10, 1 << 10, 100 << 10, 5 << 10];
            let mut frame = frames.frame(lengths[round % 4]).await.expect("fits");
            frame.begin_with(&vec![7; lengths[round % 4]]);
            let bytes = frame.freeze();
            let other = thread::spawn(move || {
                thread::sleep(Duration::from_micros(100));
                drop(bytes);
            });
            let large = frames.frame(250 << 10).await.expect("fits");
            assert!(frames.budget().used() <= 300 << 10);
            drop(large);
            other.join().expect("the other thread");
        }
    });
}

#[test]
fn frames_are_reused_wherever_they_were_dropped() {
    run_one(|_| async move {
        let frames = Frames::new(Budget::new(8 << 20), Budget::new(64 << 10));
        let mut addresses = HashSet::new();
        for round in 0..20_u8 {
            let mut frame = frames.frame(1 << 20).await.expect("fits");
            frame.begin_with(&vec![round; 1 << 20]);
            addresses.insert(frame.as_ref().as_ptr() as usize);
            let bytes = frame.freeze();
            assert_eq!(bytes.len(), 1 << 20);
            let part = bytes.slice(1000..2000);
            let other = thread::spawn(move || assert!(part.iter().all(|byte| *byte == round)));
            drop(bytes);
            other.join().expect("the other thread");
        }
        assert_eq!(addresses.len(), 1);
        // What is kept counts as used, and goes when another size needs the memory.
        let kept = frames.budget().used();
        assert!(kept >= 1 << 20);
        let large = frames.frame((8 << 20) - 1024).await.expect("fits");
        assert!(frames.budget().used() <= 8 << 20);
        drop(large);
        assert_eq!(frames.budget().used(), 0, "a frame to measure is not kept");
    });
}

#[test]
fn room_is_made_just_ahead_of_what_comes_and_all_of_it_in_used_memory() {
    run_one(|_| async move {
        let frames = Frames::new(Budget::new(8 << 20), Budget::new(64 << 10));
        let length = (1 << 20) + 100;
        for round in 0..2_u8 {
            let mut frame = frames.frame(length).await.expect("fits");
            frame.begin_with(b"begun");
            let (mut filled, mut rooms) = (5, 0);
            while filled < length {
                let room = frame.room(filled);
                let is_ahead = room.len() <= filled.max(64 << 10);
                assert!(!room.is_empty() && (is_ahead || round > 0));
                room.fill(round);
                filled += room.len();
                rooms += 1;
            }
            assert_eq!(rooms, [6, 1][usize::from(round)]);
            let bytes = frame.freeze();
            assert_eq!(&bytes[..5], b"begun");
            assert!(bytes.len() == length && bytes[5..].iter().all(|byte| *byte == round));
        }
    });
}

#[test]
fn what_waits_for_its_peer_gives_way_before_what_is_kept() {
    run_one(|_| async move {
        let frames = Frames::new(Budget::new(LENT_BYTES as u64), Budget::new(1 << 20));
        let waited_for = frames.frame(HALF_BYTES).await.expect("fits");
        // Of a class of its own, and kept for reuse since.
        drop(frames.frame(200 << 10).await.expect("fits"));
        let kept = 260 << 10;
        let (length, since) = (HALF_BYTES, Instant::now());
        let aside = frames.set_aside(waited_for, 0, Whole { length, since });
        drop(frames.frame(HALF_BYTES).await.expect("fits"));
        assert!(aside.take().expect("a small one").length() < HALF_BYTES);
        assert_eq!(frames.budget().used(), (516 << 10) + kept);
    });
}

#[test]
fn the_reserve_serves_while_the_budget_is_exhausted() {
    run_one(|_| async move {
        let frames = Frames::new(Budget::new(1 << 20), Budget::new(64 << 10));
        let all = frames.budget().acquire(1 << 20).await.expect("fits");
        let frame = frames.reserved_frame(200).await.expect("fits");
        assert_eq!((frame.length(), frame.come(0)), (200, &[][..]));
        let longest = frames.frame_bytes_max() as usize;
        assert!(frames.reserved_frame(65 << 10).await.is_err());
        drop((frame, all));
        assert_eq!(frames.reserve().used(), 0);
        assert!(frames.frame(longest).await.is_ok());
        assert!(frames.frame(longest + 1).await.is_err());
        assert_eq!(frames.frame(0).await.expect("fits").freeze(), Bytes::new());
    });
}

/// What two frames of about half a mebibyte take.
const LENT_BYTES: usize = 2 * (516 << 10);
const HALF_BYTES: usize = 508 << 10;

/// A budget that is lent to two frames; and so much of each has come.
async fn lent(filled: [usize; 2]) -> (Frames, [SetAside; 2]) {
    let frames = Frames::new(Budget::new(LENT_BYTES as u64), Budget::new(1 << 20));
    let since = Instant::now();
    let mut aside = Vec::new();
    for (filled, letter) in filled.into_iter().zip([b'a', b'b']) {
        let mut frame = frames.frame(HALF_BYTES).await.expect("fits");
        frame.begin_with(&vec![letter; filled]);
        let length = frame.length();
        aside.push(frames.set_aside(frame, filled, Whole { length, since }));
    }
    let aside = aside.try_into().expect("two frames");
    (frames, aside)
}

#[test]
fn what_waits_for_its_peer_gives_way_and_keeps_what_has_come() {
    run_one(|_| async move {
        let (frames, [one, other]) = lent([100, 16 << 10]).await;
        let large = poll_once(frames.frame(1 << 20)).await;
        let large = large.expect("without a wait").expect("fits");
        for (aside, filled, letter) in [(one, 100, b'a'), (other, 16 << 10, b'b')] {
            let frame = aside.take().expect("what has come");
            assert!((filled + 1..filled + 8192).contains(&frame.length()));
            assert!(frame.come(filled).iter().all(|byte| *byte == letter));
        }
        drop(large);
        let all = frames.frame_bytes_max() as usize;
        frames.frame(all).await.expect("all is free");
    });
}

#[test]
fn what_comes_too_slowly_is_given_up_and_what_is_fast_is_not() {
    run_one(|_| async move {
        // More than is copied; at its pace, the one is there within a second and the other is not.
        let (frames, [slow, fast]) = lent([40 << 10, 500 << 10]).await;
        let half = frames.frame(HALF_BYTES);
        let looks = async {
            for _ in 0..500 {
                Timer::new(PAUSE).await;
                frames.look_again();
            }
            pending().await
        };
        let began = Instant::now();
        let half = or(half, looks).await.expect("fits");
        assert!(began.elapsed() >= Duration::from_millis(400), "at once");
        slow.given_up().await;
        assert!(slow.take().is_none());
        assert!(poll_once(fast.given_up()).await.is_none());
        let fast = fast.take().expect("it stays");
        assert!(fast.come(500 << 10).iter().all(|byte| *byte == b'b'));
        drop((half, fast));
    });
}

#[test]
fn nobody_gives_way_as_long_as_there_is_memory() {
    run_one(|_| async move {
        let (frames, [one, other]) = lent([0, 1]).await;
        frames.look_again();
        for aside in [one, other] {
            let frame = aside.take().expect("untouched");
            assert_eq!(frame.length(), HALF_BYTES);
        }
        let (frames, aside) = lent([0, 1]).await;
        drop(aside);
        frames
            .frame(1 << 20)
            .await
            .expect("what was dropped is free");
    });
}

#[test]
fn a_busy_task_that_gives_way_lets_timers_fire() {
    run_one(|_| async move {
        let is_done = Rc::new(Cell::new(false));
        let done = is_done.clone();
        let busy = TaskQueue::Requests.spawn(async move {
            while !done.get() {
                yield_now().await;
            }
        });
        let began = Instant::now();
        Timer::new(Duration::from_millis(1)).await;
        is_done.set(true);
        busy.await;
        assert!(began.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn detached_tasks_run_on_their_queue() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    run_one(move |_| async move {
        for queue in [
            TaskQueue::Requests,
            TaskQueue::Storage,
            TaskQueue::Background,
        ] {
            let count = counted.clone();
            queue.detach(async move {
                count.fetch_add(1, Ordering::SeqCst);
            });
        }
        Timer::new(PAUSE).await;
    });
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[test]
fn advertised_ids_lead_back_to_their_broker() {
    let four = AdvertisedShards::each(4);
    for broker in [0, 1, 999] {
        for shard in four.iter() {
            let node = four.node(NodeId(broker), shard);
            assert_eq!(node, NodeId(broker + 1000 * i32::from(shard.0)));
            assert_eq!(four.broker(node), NodeId(broker));
        }
    }
    for unknown in [-1, 4001, i32::MAX] {
        assert_eq!(four.broker(NodeId(unknown)), NodeId(unknown));
    }
    assert_eq!(four.port(9092, ShardId(3)), Some(9095));
    assert_eq!(four.port(u16::MAX - 2, ShardId(3)), None);
}

#[test]
fn a_broker_that_is_advertised_as_one_keeps_its_ids() {
    let together = AdvertisedShards::TOGETHER;
    assert!(together.iter().eq([ShardId(0)]));
    for id in [0, 1, 1001, 70_000] {
        assert_eq!(together.broker(NodeId(id)), NodeId(id));
        assert_eq!(together.node(NodeId(id), ShardId(0)), NodeId(id));
    }
    assert_eq!(together.of_connection(ShardId(7)), ShardId(0));
}

#[test]
fn the_advertised_owner_is_the_owner() {
    let four = AdvertisedShards::each(4);
    for partition in (0..16).map(PartitionIndex) {
        let id = TopicIdPartition {
            topic_id: TopicId(0x1234_5678),
            partition,
        };
        assert_eq!(four.owner(&id), placement::owner(&id, 4));
        assert_eq!(AdvertisedShards::TOGETHER.owner(&id), ShardId(0));
    }
}
