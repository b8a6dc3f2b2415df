//! The verb `consume`: a member of a group, or a reader of partitions that it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::{
    Failure, commands, config, number, offsets, offsets_of, partitions, print, rows, set, text,
};

const WITHIN: Duration = Duration::from_secs(30);

/// Tells what the group gives and takes. It keeps count itself: asked from within a call about a
/// change, a library that is closing may never answer.
#[derive(Default)]
struct Told {
    owned: Mutex<BTreeSet<(String, i32)>>,
}

impl Told {
    fn print(&self, change: impl FnOnce(&mut BTreeSet<(String, i32)>)) {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut owned);
        print(&json!({"event": "assigned", "partitions": *owned}));
    }
}

impl ClientContext for Told {}

impl ConsumerContext for Told {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            let event = match consumer.assignment_lost() {
                true => "lost",
                false => "revoked",
            };
            print(&json!({"event": event, "partitions": partitions(list)}));
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let names = |list: &TopicPartitionList| {
            let rows = rows(list).into_iter();
            rows.map(|(topic, partition, _)| (topic, partition))
                .collect::<BTreeSet<_>>()
        };
        match rebalance {
            // Without cooperation all has been revoked before.
            Rebalance::Assign(list) => self.print(|owned| owned.extend(names(list))),
            Rebalance::Revoke(list) => {
                let taken = names(list);
                self.print(|owned| owned.retain(|partition| !taken.contains(partition)));
            }
            Rebalance::Error(error) => eprintln!("{error}"),
        }
    }
}

type Consumer = BaseConsumer<Told>;

/// Consumes until it is told to close.
pub fn run(options: &Value) -> Result<(), Failure> {
    let mut member = Member {
        consumer: Consumer::from_config_and_context(&settings(options), Told::default())?,
        printed: BTreeMap::new(),
    };
    member.subscribe(options)?;
    let commands = read_commands();
    loop {
        match member.consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                let behind = print_record(&message);
                drop(message);
                member.printed.insert(behind.0, behind.1);
            }
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error.into()),
            // What the library mends by itself it only reports.
            Some(Err(error)) => eprintln!("{error}"),
            None => (),
        }
        if member.obey_all(&commands)?.is_break() {
            break;
        }
    }
    drop(member);
    print(&json!({"event": "closed"}));
    Ok(())
}

fn settings(options: &Value) -> ClientConfig {
    let mut config = config(options);
    // The library wants a group's name even where partitions are assigned by hand.
    config.set("group.id", "none");
    config.set("enable.auto.commit", "false");
    for (key, option) in [
        ("group.id", "group"),
        ("group.instance.id", "instance"),
        ("auto.offset.reset", "reset"),
        ("enable.auto.commit", "auto_commit"),
        ("auto.commit.interval.ms", "auto_commit_ms"),
        ("session.timeout.ms", "session_ms"),
        ("heartbeat.interval.ms", "heartbeat_ms"),
        ("isolation.level", "isolation"),
        ("metadata.max.age.ms", "metadata_max_age_ms"),
        ("topic.metadata.refresh.interval.ms", "metadata_max_age_ms"),
        ("partition.assignment.strategy", "strategy"),
    ] {
        set(&mut config, key, options, option);
    }
    if options["strategy"] == "cooperative" {
        config.set("partition.assignment.strategy", "cooperative-sticky");
    }
    config
}

/// Commands come from a thread of their own; it hangs up at the end of the input.
fn read_commands() -> Receiver<Result<Value, Failure>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for command in commands() {
            if sender.send(command).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Prints a record; gives its partition and the position behind it.
fn print_record(message: &BorrowedMessage<'_>) -> ((String, i32), i64) {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<_> = message
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter())
        .map(|header| json!([header.key, header.value.map(lossy)]))
        .collect();
    print(&json!({
        "event": "record",
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "key": message.key().map(lossy),
        "value": message.payload().map(lossy),
        "headers": headers,
        "timestamp": message.timestamp().to_millis(),
    }));
    let partition = (message.topic().to_owned(), message.partition());
    (partition, message.offset() + 1)
}

struct Member {
    consumer: Consumer,
    /// The position behind the last record that was printed, by partition.
    printed: BTreeMap<(String, i32), i64>,
}

impl Member {
    fn subscribe(&self, options: &Value) -> Result<(), Failure> {
        if !options["assign"].is_null() {
            let offsets = offsets_of(&options["assign"])?;
            self.consumer.assign(&offsets)?;
            print(&json!({"event": "assigned", "partitions": partitions(&offsets)}));
            return Ok(());
        }
        if let Some(pattern) = options["pattern"].as_str() {
            // The library takes a name for a pattern by its first character.
            let pattern = format!("^{}", pattern.trim_start_matches('^'));
            return Ok(self.consumer.subscribe(&[&pattern])?);
        }
        let topics: Vec<_> = options["topics"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        Ok(self.consumer.subscribe(&topics)?)
    }

    /// Obeys what has come; breaks where the member has to close.
    fn obey_all(
        &mut self,
        commands: &Receiver<Result<Value, Failure>>,
    ) -> Result<ControlFlow<()>, Failure> {
        loop {
            match commands.try_recv() {
                Ok(command) => match command? {
                    command if command["do"] == "close" => return Ok(ControlFlow::Break(())),
                    command => self.obey(&command)?,
                },
                Err(TryRecvError::Empty) => return Ok(ControlFlow::Continue(())),
                Err(TryRecvError::Disconnected) => return Ok(ControlFlow::Break(())),
            }
        }
    }

    fn obey(&mut self, command: &Value) -> Result<(), Failure> {
        match text(command, "do")? {
            "commit" => self.commit(),
            "seek" => {
                let offset = number(command, "offset")?;
                self.seek(command, Offset::Offset(offset))
            }
            "seek_time" => {
                let mut asked = TopicPartitionList::new();
                let time = Offset::Offset(number(command, "timestamp")?);
                let (topic, partition) = partition_of(command)?;
                asked.add_partition_offset(&topic, partition, time)?;
                let found = self.consumer.offsets_for_times(asked, WITHIN)?;
                let element = found.find_partition(&topic, partition);
                self.seek(
                    command,
                    element.map_or(Offset::End, |element| element.offset()),
                )
            }
            "pause" => {
                self.consumer.pause(&self.consumer.assignment()?)?;
                print(&json!({"event": "paused"}));
                Ok(())
            }
            "resume" => {
                self.consumer.resume(&self.consumer.assignment()?)?;
                print(&json!({"event": "resumed"}));
                Ok(())
            }
            other => Err(format!("no command {other}").into()),
        }
    }

    fn seek(&mut self, command: &Value, offset: Offset) -> Result<(), Failure> {
        let (topic, partition) = partition_of(command)?;
        self.consumer.seek(&topic, partition, offset, WITHIN)?;
        self.printed.remove(&(topic, partition));
        Ok(())
    }

    /// Commits the positions of what the member still owns.
    fn commit(&mut self) -> Result<(), Failure> {
        let assignment = self.consumer.assignment()?;
        let mut list = TopicPartitionList::new();
        for ((topic, partition), offset) in &self.printed {
            if assignment.find_partition(topic, *partition).is_some() {
                list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, CommitMode::Sync)
        {
            return refused(error);
        }
        print(&json!({"event": "committed", "offsets": offsets(&list)}));
        Ok(())
    }
}

/// The group moves on without this member; so does the member.
fn refused(error: KafkaError) -> Result<(), Failure> {
    let event = json!({"event": "failed", "do": "commit"});
    print(&Failure::from(error).put_into(event));
    Ok(())
}

fn partition_of(command: &Value) -> Result<(String, i32), Failure> {
    let partition = i32::try_from(number(command, "partition")?);
    Ok((
        text(command, "topic")?.to_owned(),
        partition.map_err(|error| error.to_string())?,
    ))
}
