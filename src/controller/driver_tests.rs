//! The quorum of one on real executors: what is durable and published before an answer, what a
//! failing log does, and that a log on disk brings the same image back.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future;

use super::brokers::BrokerRegistration;
use super::driver::{Controller, ControllerError};
use super::fixtures::{config, creatable, creation, registration, with_broker};
use super::handle::{Call, ControllerHandle, Unavailable};
use super::load;
use super::log::{MemoryLog, MetadataLog, MetadataLogError};
use super::publisher::{ImageChange, Publisher};
use crate::base::clock::Clock;
use crate::base::ids::{LeaderEpoch, NodeId, Offset, ProducerId, ShardId, Uuid};
use crate::metadata::{MetadataDelta, MetadataImage, batch};
use crate::protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use crate::shard::mailbox::{Closer, Mailboxes, Receiver, mesh};
use crate::storage::directories::LogDirectories;
use crate::storage::directory::LogDirectory;
use crate::storage::error::FileError;
use crate::storage::faults::Faults;
use crate::storage::shard::{ShardStorage, StorageLimits};

const NOW: i64 = 1_700_000_000_000;

fn on_executor<T, F>(test: F) -> T
where
    T: Send + 'static,
    F: AsyncFnOnce() -> T + Send + 'static,
{
    crate::runtime::block_on(async move { test().await })
}

/// A controller and two "shards" on one executor, each of which keeps the images that it applied.
struct House {
    handle: ControllerHandle,
    controller: crate::runtime::Task<Result<(), ControllerError>>,
    images: Vec<Rc<RefCell<Vec<Arc<MetadataImage>>>>>,
    closers: Vec<Closer<Call>>,
    change_closers: Vec<Closer<ImageChange>>,
}

/// The directory that the broker registers.
fn directory_of(broker: &BrokerRegistration) -> LogDirectories {
    let id = broker.log_directories.first().copied();
    LogDirectory::with_id(id, "a".into(), false, Faults::default()).into()
}

fn house(log: MetadataLog, image: Arc<MetadataImage>, epoch: LeaderEpoch) -> House {
    house_on(log, image, epoch, directory_of(&registration(true)))
}

fn house_on(
    log: MetadataLog,
    image: Arc<MetadataImage>,
    epoch: LeaderEpoch,
    directories: LogDirectories,
) -> House {
    let mut calls = mesh::<Call>(1, 16).into_iter();
    let (calls, receiver): (Mailboxes<Call>, Receiver<Call>) = calls.next().expect("one").open();
    let changes: Vec<_> = mesh::<ImageChange>(2, 16)
        .into_iter()
        .map(|end| end.open())
        .collect();
    let publisher = Publisher::new(changes[0].0.clone());
    let mut images = Vec::new();
    let mut change_closers = Vec::new();
    for (_, receiver) in changes {
        let held: Rc<RefCell<Vec<Arc<MetadataImage>>>> = Rc::default();
        images.push(held.clone());
        change_closers.push(receiver.closer());
        let follow = receiver.run(move |_: ShardId, change: ImageChange| {
            held.borrow_mut().push(change.image);
            // The publisher may have given up after another shard was gone.
            let _given_up = change.applied.send(());
        });
        crate::runtime::spawn_local(follow).detach();
    }
    let clock = Clock::manual(NOW);
    let closers = vec![receiver.closer()];
    let settings = config(&[]);
    let controller = Controller::new(log, image, epoch, publisher, settings, clock, directories);
    let controller = crate::runtime::spawn_local(controller.run(receiver));
    House {
        handle: ControllerHandle::new(calls),
        controller,
        images,
        closers,
        change_closers,
    }
}

impl House {
    async fn create(&self, name: &str) -> Result<bool, Unavailable> {
        let request = creation(vec![creatable(name, 2, 1)]);
        let results = self.handle.create_topics(request).await?;
        Ok(results[0].1.is_ok())
    }

    async fn stop(self) -> Result<(), ControllerError> {
        self.closers.iter().for_each(Closer::close);
        self.controller.await
    }
}

#[test]
fn an_answer_comes_when_the_records_are_in_the_log_and_every_shard_has_the_image() {
    on_executor(async || {
        let memory = Rc::new(RefCell::new(MemoryLog::default()));
        let log = MetadataLog::Memory(memory.clone());
        let house = house(log, Arc::default(), LeaderEpoch(3));
        let epoch = house.handle.register_broker(registration(true)).await;
        assert_eq!(epoch, Ok(1));
        assert_eq!(house.create("t").await, Ok(true));
        for held in &house.images {
            let held = held.borrow();
            assert_eq!(held.len(), 2, "one image a change");
            assert!(held[1].topic_named("t").is_some());
        }
        // What is in the log makes the image, also after a restart.
        let mut delta = MetadataDelta::new(&MetadataImage::default());
        for bytes in memory.borrow().appends.iter().flatten() {
            batch::replay(bytes, &mut delta).expect("it was replayed before");
        }
        let held = house.images[1].borrow().last().cloned().expect("an image");
        assert_eq!(delta.finish().0, *held);

        assert_eq!(house.create("t").await, Ok(false), "it exists");
        let appends = memory.borrow().appends.len();
        assert_eq!(appends, 2, "a refusal leaves no trace");
        house.stop().await.expect("a clean stop");
    });
}

#[test]
fn calls_that_wait_become_durable_together_each_on_what_the_ones_before_it_made() {
    on_executor(async || {
        let memory = Rc::new(RefCell::new(MemoryLog::default()));
        let log = MetadataLog::Memory(memory.clone());
        let house = house(log, Arc::new(with_broker()), LeaderEpoch(1));
        let (first, (second, (again, (block, other)))) = future::zip(
            house.create("a"),
            future::zip(
                house.create("b"),
                future::zip(
                    house.create("a"),
                    future::zip(
                        house.handle.allocate_producer_ids(NodeId(1)),
                        house.handle.allocate_producer_ids(NodeId(1)),
                    ),
                ),
            ),
        )
        .await;
        assert_eq!((first, second, again), (Ok(true), Ok(true), Ok(false)));
        let starts = [block, other].map(|block| block.expect("a block").expect("ids").first);
        assert_eq!(starts, [ProducerId(0), ProducerId(1000)]);
        let appends: Vec<usize> = memory.borrow().appends.iter().map(Vec::len).collect();
        assert_eq!(appends, [4], "one append of four batches, one a command");
        house.stop().await.expect("a clean stop");
    });
}

#[test]
fn no_room_refuses_what_waits_and_changes_nothing() {
    on_executor(async || {
        let memory = Rc::new(RefCell::new(MemoryLog::default()));
        let log = MetadataLog::Memory(memory.clone());
        let house = house(log, Arc::new(with_broker()), LeaderEpoch(1));
        memory.borrow_mut().next_error = Some(MetadataLogError::NoRoom);
        assert_eq!(house.create("t").await, Err(Unavailable::NoRoom));
        assert!(house.images[0].borrow().is_empty(), "nothing is published");
        assert_eq!(house.create("t").await, Ok(true), "the name was not taken");
        house.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_failed_log_ends_the_controller_and_nobody_waits_for_ever() {
    on_executor(async || {
        let memory = Rc::new(RefCell::new(MemoryLog::default()));
        let log = MetadataLog::Memory(memory.clone());
        let house = house(log, Arc::new(with_broker()), LeaderEpoch(1));
        memory.borrow_mut().next_error = Some(MetadataLogError::Failed("EIO".to_owned()));
        let (first, second) = future::zip(house.create("a"), house.create("b")).await;
        assert_eq!(first, Err(Unavailable::Stopped));
        assert_eq!(second, Err(Unavailable::Stopped));
        assert_eq!(house.create("c").await, Err(Unavailable::Stopped));
        assert!(house.images[0].borrow().is_empty(), "nothing is published");
        let ended = house.controller.await.expect_err("it cannot go on");
        assert!(ended.to_string().contains("EIO"), "{ended}");
    });
}

#[test]
fn a_shard_that_is_gone_ends_the_controller() {
    on_executor(async || {
        let log = MetadataLog::Memory(Rc::default());
        let house = house(log, Arc::new(with_broker()), LeaderEpoch(1));
        house.change_closers[1].close();
        assert_eq!(house.create("a").await, Err(Unavailable::Stopped));
        let ended = house.controller.await.expect_err("it cannot go on");
        assert!(matches!(ended, ControllerError::Shard(_)), "{ended}");
    });
}

#[test]
fn no_partition_is_placed_in_a_directory_that_has_failed_however_lately() {
    on_executor(async || {
        let directory = |id| {
            let path = format!("{id}").into();
            LogDirectory::with_id(Some(Uuid(id)), path, false, Faults::default())
        };
        let failing = directory(6);
        let others = vec![failing.clone(), directory(7)];
        let directories = LogDirectories::new(directory(5), others, true, true);
        let broker = BrokerRegistration {
            log_directories: directories.ids_in_service(),
            ..registration(true)
        };
        let log = MetadataLog::Memory(Rc::default());
        let house = house_on(log, Arc::default(), LeaderEpoch(1), directories);
        let registered = house.handle.register_broker(broker).await;
        registered.expect("registered");
        let reason = std::io::Error::from_raw_os_error(libc::EIO);
        failing.fail(&FileError::new("write", failing.path(), reason));
        assert_eq!(house.create("a").await, Ok(true));
        assert_eq!(house.create("b").await, Ok(true));
        let image = house.images[0].borrow().last().cloned();
        let image = image.expect("an image");
        let left = image.broker(NodeId(1)).expect("the broker");
        assert_eq!(left.log_directories, [Uuid(5), Uuid(7)]);
        let partitions = image.topics().flat_map(|topic| topic.iter());
        let places: Vec<_> = partitions.map(|(_, it)| it.directories.clone()).collect();
        assert_eq!(places, [[Uuid(5)], [Uuid(7)], [Uuid(5)], [Uuid(7)]]);
        house.stop().await.expect("a stop");
    });
}

fn storage(path: &std::path::Path) -> Rc<ShardStorage> {
    let limits = StorageLimits {
        tail_bytes_max: 1 << 20,
        read_cache_bytes_max: 2 << 20,
        writes_max: 4,
        open_logs_max: 4,
        open_reads_max: 4,
        journal: None,
    };
    let queue = crate::runtime::current_queue();
    let directory = LogDirectory::new(path.to_owned(), false);
    ShardStorage::new(directory, limits, queue)
}

#[test]
fn a_log_on_disk_brings_the_image_back_after_a_crash() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_owned();
    on_executor(async move || {
        let mut held = Arc::new(MetadataImage::default());
        for round in 0..3 {
            let loaded = load::open(&storage(&path), None, false, NOW).await;
            let loaded = loaded.expect("a log");
            assert_eq!(loaded.image, held, "round {round}");
            assert_eq!(loaded.leader_epoch, LeaderEpoch(round + 1));
            let partitions: usize = held.topics().map(|topic| topic.partitions.len()).sum();
            assert_eq!(loaded.changes.created.len(), partitions);
            let clock = Clock::manual(NOW);
            let log = MetadataLog::Stored {
                log: loaded.log.clone(),
                clock,
            };
            let house = house(log, loaded.image, loaded.leader_epoch);
            let registered = house.handle.register_broker(registration(true));
            registered.await.expect("registered");
            for number in 0..3 {
                let name = format!("t-{round}-{number}");
                assert_eq!(house.create(&name).await, Ok(true));
            }
            let delete = DeleteTopicsRequest {
                topics: vec![DeleteTopicState {
                    name: Some(format!("t-{round}-1").into()),
                    ..DeleteTopicState::default()
                }],
                ..DeleteTopicsRequest::default()
            };
            house.handle.delete_topics(delete).await.expect("deleted");
            held = house.images[0].borrow().last().cloned().expect("an image");
            assert_eq!(loaded.log.durable(), held.next_offset());
            house.stop().await.expect("a stop; the log is not closed");
        }
        assert_eq!(held.topics().count(), 6);
    });
}

#[test]
fn a_log_with_records_missing_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_owned();
    on_executor(async move || {
        let loaded = load::open(&storage(&path), None, false, NOW)
            .await
            .expect("a log");
        let clock = Clock::manual(NOW);
        let log = MetadataLog::Stored {
            log: loaded.log.clone(),
            clock,
        };
        let house = house(log, loaded.image, loaded.leader_epoch);
        let registered = house.handle.register_broker(registration(true));
        registered.await.expect("registered");
        house.create("t").await.expect("created");
        house.stop().await.expect("a stop");
        let point = loaded.log.mark();
        assert!(point.offset > Offset(2));
        // The checkpoint knows of more than the file still has.
        let file = path.join("__cluster_metadata-0/00000000000000000000.log");
        let file = std::fs::File::options()
            .write(true)
            .open(file)
            .expect("the segment");
        file.set_len(point.position - 1).expect("cut");
        let refused = load::open(&storage(&path), Some(point), false, NOW).await;
        let error = refused.expect_err("records are missing").to_string();
        assert!(error.contains("is damaged at offset"), "{error}");
    });
}

#[test]
fn a_directory_of_something_else_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_owned();
    let log = path.join("__cluster_metadata-0");
    std::fs::create_dir(&log).expect("made");
    std::fs::write(log.join("00000000000000000000.log"), b"").expect("written");
    std::fs::write(log.join("partition.metadata"), b"version: 0\ntopic_id: x\n").expect("written");
    on_executor(async move || {
        let refused = load::open(&storage(&path), None, false, NOW).await;
        let error = refused.expect_err("not ours").to_string();
        assert!(error.contains("does not hold"), "{error}");
        // What a crash left before the first segment was there is made anew.
        std::fs::remove_file(log.join("00000000000000000000.log")).expect("removed");
        load::open(&storage(&path), None, false, NOW)
            .await
            .expect("a new log");
    });
}
