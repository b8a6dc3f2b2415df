//! Runs the machine of one partition of `__consumer_offsets` on the shard that owns the partition:
//! loads it from the log, keeps its time, appends its records and sends its replies.
//!
//! A machine whose timers are not due holds no task but a sleeping one, and an empty one none.

mod appends;
mod load;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use bytestring::ByteString;

use self::appends::Appends;
use super::command::{Command, Effects, Now, Reply, ReplyId};
use super::config::GroupConfig;
use super::event::{GroupEvent, What};
use super::machine::Machine;
use crate::base::clock::Clock;
use crate::base::ids::{TopicId, TopicIdPartition};
use crate::base::log_limit::LogLimit;
use crate::config::BrokerConfig;
use crate::partition::table::PartitionTable;
use crate::record::compression::Codec;
use crate::runtime::{Semaphore, Task, TaskQueue, Timer};
use crate::shard::reply::Sender;

/// What the coordinators of a shard share.
#[derive(Debug)]
pub struct Shared {
    /// The time that goes into records.
    pub clock: Clock,
    /// The moment from which timers count.
    pub began: Instant,
    /// Where its tasks run.
    pub queue: TaskQueue,
    /// The shard's partitions.
    pub table: Rc<PartitionTable>,
    /// The settings of groups.
    pub config: GroupConfig,
    /// `offsets.commit.timeout.ms`: how long a request waits for the log.
    pub commit_timeout: Duration,
    /// `offsets.load.buffer.size`: bytes of the log that are read in one go while it is loaded.
    pub load_bytes: usize,
    /// `offsets.topic.compression.codec`.
    pub codec: Codec,
    /// What all groups of the shard may take of memory, in bytes.
    bytes_max: usize,
    /// What they take.
    bytes: Cell<usize>,
    /// Held by the one partition that is loaded: each needs memory of its own for it.
    loading: Semaphore,
    /// A disk that fails refuses many writes.
    log_limit: LogLimit,
    /// Who wants to join goes on wanting.
    memory_log_limit: LogLimit,
}

impl Shared {
    /// What the coordinators of the shard that owns `table` go by; their groups may take
    /// `bytes_max` of memory.
    pub fn new(
        config: &BrokerConfig,
        bytes_max: usize,
        clock: Clock,
        queue: TaskQueue,
        table: Rc<PartitionTable>,
    ) -> Self {
        let codec = config.groups.offsets_topic_compression_codec;
        Self {
            clock,
            began: Instant::now(),
            queue,
            table,
            config: config.into(),
            commit_timeout: Duration::from_millis(config.groups.offsets_commit_timeout_ms.into()),
            load_bytes: config.groups.offsets_load_buffer_size as usize,
            codec: Codec::from_id(codec).expect("the settings allow no other codec"),
            bytes_max,
            bytes: Cell::new(0),
            loading: Semaphore::new(1),
            log_limit: LogLimit::default(),
            memory_log_limit: LogLimit::default(),
        }
    }

    /// Counts what a machine takes that took `before`.
    fn count(&self, before: usize, bytes: usize) {
        self.bytes.set(self.bytes.get() - before + bytes);
    }

    fn tell_of_lacking_memory(&self) {
        if let Some(left_out) = self.memory_log_limit.permit(Instant::now()) {
            tracing::warn!(
                bytes = self.bytes.get(),
                bytes_max = self.bytes_max,
                left_out,
                "new members and offsets refused: groups take all the memory that they may; \
                 delete groups that nobody needs, or raise millrace.memory.bytes"
            );
        }
    }
}

/// The coordinator of the groups of one partition.
#[derive(Debug)]
pub struct Coordinator {
    shared: Rc<Shared>,
    id: TopicIdPartition,
    machine: RefCell<Machine>,
    waiting: RefCell<AHashMap<ReplyId, Sender<Reply>>>,
    next_reply: Cell<u64>,
    appends: Appends,
    alarm: RefCell<Option<Alarm>>,
    /// Topics that were deleted while the log is still being read.
    deleted_topics: RefCell<Option<Vec<(ByteString, TopicId)>>>,
}

/// The task that wakes a machine. Dropping it cancels the task.
#[derive(Debug)]
struct Alarm {
    at: Duration,
    sleeping: Task<()>,
}

impl Coordinator {
    /// A coordinator that loads what is in the log of `id`, which this shard owns, and refuses
    /// requests until that is done.
    pub fn start(shared: &Rc<Shared>, id: TopicIdPartition) -> Rc<Self> {
        let coordinator = Rc::new(Self {
            shared: Rc::clone(shared),
            id,
            machine: RefCell::new(Machine::new(shared.config.clone(), id.partition)),
            waiting: RefCell::default(),
            next_reply: Cell::new(0),
            appends: Appends::default(),
            alarm: RefCell::default(),
            deleted_topics: RefCell::new(Some(Vec::new())),
        });
        let loading = Rc::clone(&coordinator);
        shared
            .queue
            .spawn(async move { loading.load().await })
            .detach();
        coordinator
    }

    /// Carries out a request. It is answered now or later; a coordinator that ends drops `reply`.
    pub fn handle(self: &Rc<Self>, command: Command, reply: Sender<Reply>) {
        let id = ReplyId(self.next_reply.replace(self.next_reply.get() + 1));
        self.waiting.borrow_mut().insert(id, reply);
        self.with_machine(|machine, now, out| machine.handle(command, id, now, out));
    }

    /// Looks at the machine, which does not change.
    pub fn look<T>(&self, at: impl FnOnce(&Machine) -> T) -> T {
        at(&self.machine.borrow())
    }

    /// Removes the offsets that were committed for a topic that is deleted; as soon as the log is
    /// loaded, if it is not.
    pub fn topic_deleted(self: &Rc<Self>, topic: &ByteString, id: TopicId) {
        if let Some(waiting) = &mut *self.deleted_topics.borrow_mut() {
            waiting.push((topic.clone(), id));
            return;
        }
        self.with_machine(|machine, now, out| machine.topic_deleted(topic, id, now, out));
    }

    /// Gives the partition up: whoever waits is sent to another coordinator.
    pub fn stop(self: &Rc<Self>) {
        self.with_machine(|machine, _, out| machine.unload(out));
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.shared.began.elapsed(),
            wall_ms: self.shared.clock.now_ms(),
        }
    }

    /// Changes the machine and counts the memory that it takes then.
    fn change<T>(&self, work: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.machine.borrow_mut();
        let before = machine.bytes();
        let result = work(&mut machine);
        self.shared.count(before, machine.bytes());
        result
    }

    fn with_machine(self: &Rc<Self>, work: impl FnOnce(&mut Machine, Now, &mut Effects)) {
        let mut out = Effects::default();
        self.change(|machine| {
            let others = self.shared.bytes.get() - machine.bytes();
            machine.limit(self.shared.bytes_max, others);
            work(machine, self.now(), &mut out);
        });
        if out.lacks_memory {
            self.shared.tell_of_lacking_memory();
        }
        for (id, answer) in out.replies {
            if let Some(reply) = self.waiting.borrow_mut().remove(&id) {
                // The client may have gone meanwhile.
                let _gone = reply.send(answer);
            }
        }
        for event in out.events {
            tell(event);
        }
        self.start_appending(out.appends);
        self.sleep();
    }

    /// Sees to it that the machine is woken when its next timer is due, by one sleeping task.
    fn sleep(self: &Rc<Self>) {
        let Some(deadline) = self.machine.borrow().deadline() else {
            self.alarm.take();
            return;
        };
        let set = self.alarm.borrow().as_ref().map(|alarm| alarm.at);
        if set.is_some_and(|at| at <= deadline) {
            return;
        }
        let coordinator = Rc::downgrade(self);
        let left = deadline.saturating_sub(self.shared.began.elapsed());
        let sleeping = self.shared.queue.spawn(async move {
            Timer::new(left).await;
            let Some(coordinator) = coordinator.upgrade() else {
                return;
            };
            // This task is its own alarm, and is not to be cancelled by the next one.
            if let Some(alarm) = coordinator.alarm.take() {
                alarm.sleeping.detach();
            }
            coordinator.with_machine(|machine, now, out| machine.tick(now, out));
        });
        let alarm = Alarm {
            at: deadline,
            sleeping,
        };
        // Cancels the one that would have rung later.
        drop(self.alarm.replace(Some(alarm)));
    }
}

/// Writes one line, as Kafka does, for who wonders why a group rebalances.
fn tell(event: GroupEvent) {
    let GroupEvent {
        group,
        generation,
        what,
    } = event;
    match what {
        What::Rebalances { why, client } => {
            let client = client.as_deref();
            tracing::info!(%group, generation, reason = %why, client, "group rebalances");
        }
        What::Joined { members } => {
            tracing::debug!(%group, generation, members, "all members have joined");
        }
        What::Stable { members } => {
            tracing::info!(%group, generation, members, "group is stable");
        }
        What::Empty => tracing::info!(%group, generation, "group is empty"),
        What::Left { member, client } => {
            let client = client.as_deref();
            tracing::info!(%group, generation, %member, client, "member left");
        }
        What::Expired(member) => {
            tracing::info!(%group, generation, %member, "member was silent and is taken out");
        }
        What::NotRejoined(member) => {
            tracing::info!(%group, generation, %member, "member did not join again");
        }
        What::NotSynced(member) => {
            tracing::info!(%group, generation, %member, "member did not sync");
        }
        What::Replaced { old, new } => {
            tracing::info!(%group, generation, %old, %new, "static member is back");
        }
    }
}
