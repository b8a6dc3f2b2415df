//! The executor as a whole: tasks, wakes from elsewhere, the ring, files, and the end.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use futures_lite::future::{or, poll_once, zip};

use super::*;

/// On the disk that holds the build: a temporary file system may not take direct I/O.
fn directory() -> tempfile::TempDir {
    let target = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&target).expect("a target directory");
    tempfile::tempdir_in(target).expect("a directory")
}

const CREATE: i32 = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn tasks_of_a_queue_run_in_the_order_in_which_they_became_ready() {
    let ran = block_on(async {
        let ran = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..10)
            .map(|number| {
                let ran = Rc::clone(&ran);
                spawn_local(async move { ran.borrow_mut().push(number) })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        ran.take()
    });
    assert_eq!(ran, (0..10).collect::<Vec<_>>());
}

#[test]
fn a_wake_from_another_thread_ends_the_sleep() {
    block_on(async {
        for pause_us in [0, 0, 0, 10, 100, 1000, 20_000] {
            let (sender, receiver) = oneshot::channel();
            let waker = thread::spawn(move || {
                thread::sleep(Duration::from_micros(pause_us));
                sender.send(pause_us).expect("somebody waits");
            });
            assert_eq!(receiver.await, Ok(pause_us));
            waker.join().expect("no panic");
        }
    });
}

#[test]
fn many_wakes_from_many_threads_are_all_seen() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 2000;
    let turns = block_on(async {
        let seen = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..THREADS)
            .map(|_| {
                let seen = Rc::clone(&seen);
                spawn_local(async move {
                    for _ in 0..ROUNDS {
                        spawn_blocking(|| ()).await;
                        seen.set(seen.get() + 1);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        seen.get()
    });
    assert_eq!(turns, THREADS * ROUNDS);
}

#[test]
fn who_always_has_work_lets_timers_and_descriptors_come() {
    block_on(async {
        let (mut far, near) = UnixStream::pair().expect("a pair");
        let near = Pollable::new(near);
        let is_done = Rc::new(Cell::new(false));
        let done = Rc::clone(&is_done);
        let busy = spawn_local(async move {
            while !done.get() {
                yield_now().await;
            }
        });
        Timer::new(Duration::from_millis(2)).await;
        far.write_all(b"x").expect("an open pair");
        near.readable().await.expect("a socket");
        is_done.set(true);
        busy.await;
    });
}

#[test]
fn background_tasks_do_not_starve_and_do_not_starve_others() {
    block_on(async {
        let counts = [const { Cell::new(0_u64) }; 2];
        let counts = Rc::new(counts);
        let end = Instant::now() + Duration::from_millis(200);
        let spin = |index: usize, queue| {
            let counts = Rc::clone(&counts);
            TaskQueue::spawn(queue, async move {
                while Instant::now() < end {
                    let until = Instant::now() + Duration::from_micros(20);
                    while Instant::now() < until {}
                    counts[index].set(counts[index].get() + 1);
                    yield_now().await;
                }
            })
        };
        zip(spin(0, TaskQueue::Requests), spin(1, TaskQueue::Background)).await;
        let (front, back) = (counts[0].get(), counts[1].get());
        assert!(back > 0 && back * 4 < front, "{front} and {back}");
    });
}

#[test]
fn timers_fire_in_order_and_those_that_are_dropped_do_not() {
    block_on(async {
        let began = Instant::now();
        assert!(poll_once(pin!(Timer::new(LONG))).await.is_none());
        let ran = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = [30, 10, 20]
            .into_iter()
            .map(|ms| {
                let ran = Rc::clone(&ran);
                spawn_local(async move {
                    Timer::new(Duration::from_millis(ms)).await;
                    ran.borrow_mut().push(ms);
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        assert_eq!(ran.take(), [10, 20, 30]);
        assert!(began.elapsed() >= Duration::from_millis(30));
        Timer::new(Duration::MAX.min(Duration::ZERO)).await;
    });
}

#[test]
fn a_wait_that_is_given_up_is_cancelled() {
    block_on(async {
        let (mut far, near) = UnixStream::pair().expect("a pair");
        let near = Pollable::new(near);
        for _ in 0..1000 {
            let gave_up = async {
                yield_now().await;
                Ok(())
            };
            or(near.readable(), gave_up).await.expect("no failure");
        }
        far.write_all(b"x").expect("an open pair");
        near.readable().await.expect("a socket");
        near.writable().await.expect("a socket");
        drop(near);
        // The last descriptor of this end is gone, whatever waited for it.
        assert_eq!(far.read(&mut [0; 8]).unwrap_or(0), 0);
    });
}

#[test]
fn files_are_written_read_cut_and_closed() {
    let directory = directory();
    let path = directory.path().join("file");
    block_on(async move {
        let file = File::open(&path, CREATE | libc::O_DIRECT)
            .await
            .expect("made");
        let again = File::open(&path, CREATE).await.expect_err("it is there");
        assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
        file.allocate(0, 1 << 20).await.expect("room");
        let mut buffer = DmaBuffer::new(8192);
        buffer.as_bytes_mut().fill(7);
        let buffer = Rc::new(buffer);
        let parts = vec![Part::new(Rc::clone(&buffer), 4096), Part::new(buffer, 4096)];
        assert_eq!(file.write(parts, 4096).await.expect("written"), 8192);
        file.sync_data().await.expect("synced");
        let read = file.read(0, &[16_384]).await.expect("read").remove(0);
        assert_eq!(read.len(), 16_384);
        let sevens = read.as_bytes().iter().filter(|byte| **byte == 7).count();
        assert_eq!(sevens, 8192);
        file.truncate(8192).await.expect("cut");
        let read = file.read(4096, &[16_384]).await.expect("read").remove(0);
        assert_eq!(read.as_bytes(), [7; 4096]);
        file.close().await.expect("closed");
    });
}

#[test]
fn what_the_kernel_uses_outlives_who_gives_up() {
    let directory = directory();
    let path = directory.path().join("file");
    let written = path.clone();
    block_on(async move {
        let file = File::open(&path, CREATE | libc::O_DIRECT)
            .await
            .expect("made");
        for number in 0..64_u8 {
            let mut buffer = DmaBuffer::new(65_536);
            buffer.as_bytes_mut().fill(number);
            let parts = vec![Part::new(Rc::new(buffer), 65_536)];
            let write = file.write(parts, u64::from(number) * 65_536);
            assert!(poll_once(pin!(write)).await.is_none());
            // Its memory would be the next buffer's, if it were free.
            DmaBuffer::new(65_536).as_bytes_mut().fill(255);
        }
    });
    // The executor's end waited for the writes.
    let bytes = std::fs::read(written).expect("a file");
    assert_eq!(bytes.len(), 64 * 65_536);
    for (number, part) in bytes.chunks(65_536).enumerate() {
        assert!(
            part.iter().all(|byte| usize::from(*byte) == number),
            "{number}"
        );
    }
}

#[test]
fn files_whose_opening_or_use_was_given_up_are_closed() {
    let directory = directory();
    let path = directory.path().join("file");
    let opened = path.clone();
    block_on(async move {
        let file = File::open(&path, CREATE).await.expect("made");
        for _ in 0..32 {
            let opens = File::open(&path, libc::O_RDWR);
            assert!(poll_once(pin!(opens)).await.is_none());
        }
        let syncs = file.sync_data();
        assert!(poll_once(pin!(syncs)).await.is_none());
    });
    let links = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    let targets = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
    assert_eq!(targets.filter(|target| *target == opened).count(), 0);
}

#[test]
fn more_requests_than_the_ring_holds_all_complete() {
    let config = ExecutorConfig {
        ring_depth: 2,
        ..ExecutorConfig::default()
    };
    let executor = Executor::new(config).expect("an executor");
    executor.run(async {
        let pairs: Vec<_> = (0..100)
            .map(|_| UnixStream::pair().expect("a pair"))
            .collect();
        let (mut far, near): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let tasks: Vec<_> = near
            .into_iter()
            .map(|near| spawn_local(async move { Pollable::new(near).readable().await }))
            .collect();
        yield_now().await;
        for far in &mut far {
            far.write_all(b"x").expect("an open pair");
        }
        for task in tasks {
            task.await.expect("a socket");
        }
    });
}

#[test]
fn the_end_drops_the_tasks_that_are_left() {
    #[derive(Clone)]
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let counted = Counted(Arc::clone(&dropped));
    let (sender, receiver) = oneshot::channel::<()>();
    block_on(async move {
        let (_far, near) = UnixStream::pair().expect("a pair");
        let near = Rc::new(Pollable::new(near));
        let keeps = |counted: &Counted| counted.clone();
        let kept = keeps(&counted);
        spawn_local(async move {
            Timer::new(LONG).await;
            drop(kept);
        })
        .detach();
        let kept = keeps(&counted);
        spawn_local(async move {
            let readable = near.readable().await;
            drop((readable, kept));
        })
        .detach();
        let kept = keeps(&counted);
        let inner = spawn_local(async move {
            let sent = receiver.await;
            drop((sent, kept));
        });
        let kept = keeps(&counted);
        spawn_local(async move {
            inner.await;
            drop(kept);
        })
        .detach();
        yield_now().await;
    });
    // Three tasks and the original; who waits for another thread's message is woken by nobody.
    assert!(dropped.load(Ordering::Relaxed) >= 3);
    drop(sender);
}

#[test]
fn a_panic_of_blocking_work_goes_on_in_who_waits() {
    let outcome = thread::spawn(|| {
        block_on(async {
            spawn_blocking(|| panic!("the work failed")).await;
        });
    })
    .join();
    let panic = outcome.expect_err("a panic");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the work failed"));
}
