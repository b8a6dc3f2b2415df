//! How a command finds a broker, and what every command asks of it. A command's thread.

mod given;
mod reach;

#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::{Offset, TopicPartitionList};

use super::CliError;
use super::native::{Admin, Refusal};
use given::Given;

/// The cluster of a command that names none.
const LOCAL: &str = "localhost:9092";

/// How long a cluster may take to hear of a partition everywhere, and how often it is asked.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
const ASKED_AGAIN: Duration = Duration::from_millis(50);

/// The property that names the cluster.
const SERVERS: &str = "bootstrap.servers";

/// Which broker, and how to talk to it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// Brokers to find the cluster by; without it localhost:9092
    #[arg(
        short = 'b',
        long,
        value_name = "HOST:PORT,...",
        env = "MILLRACE_BOOTSTRAP_SERVER"
    )]
    bootstrap_server: Option<String>,
    /// A file of properties for the client, as -X has them
    #[arg(long, value_name = "FILE")]
    command_config: Option<PathBuf>,
    /// A property of librdkafka; may be given again
    #[arg(short = 'X', long = "property", value_name = "KEY=VALUE", value_parser = key_value)]
    properties: Vec<(String, String)>,
    /// How long the broker may take to answer
    #[arg(
        long, value_name = "SPAN", default_value = "30s", value_parser = super::time::parse_span,
        allow_hyphen_values = true
    )]
    pub(super) timeout: Duration,
    /// Found out once, by the first client that the command makes.
    #[arg(skip)]
    found: OnceCell<Found>,
}

/// What all clients of a command share.
#[derive(Clone, Debug)]
struct Found {
    given: Given,
    /// The brokers, one that accepts connections first.
    servers: String,
}

/// Reads `key=value`.
pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err("it is written key=value".to_owned()),
    }
}

impl Connection {
    /// The client's configuration, once a broker accepts connections. A broker that is not there
    /// is told at once, with the system's reason, where the library would try until its deadline.
    pub(super) fn config(&self) -> Result<ClientConfig, CliError> {
        let found = self.found()?;
        let mut config = ClientConfig::new();
        config
            .set("client.id", "millrace-cli")
            .set("isolation.level", "read_uncommitted")
            .set("allow.auto.create.topics", "false")
            // The library's second is long where its queue empties in a tenth of one.
            .set("fetch.queue.backoff.ms", "20")
            .set_log_level(RDKafkaLogLevel::Warning);
        for (key, value) in found.given.iter() {
            config.set(key, value);
        }
        if config.get("debug").is_some() {
            config.set_log_level(RDKafkaLogLevel::Debug);
        }
        config.set(SERVERS, &found.servers);
        Ok(config)
    }

    /// What the command line gives for this property, by -X or in the file, which counts more than
    /// a command's own. Aliases go by the name that is not the alias.
    pub(super) fn given(&self, property: &str) -> Result<Option<&str>, CliError> {
        Ok(self.found()?.given.get(property))
    }

    /// Sets what a command cannot do without: property, value, and what to know about it. Where
    /// something else was given, that is refused rather than passed over.
    pub(super) fn require(
        &self,
        config: &mut ClientConfig,
        required: &[(&str, &str, &str)],
    ) -> Result<(), CliError> {
        for (key, value, advice) in required {
            match self.given(key)? {
                Some(given) if given != *value => {
                    return Err(CliError::Configuration(format!(
                        "the property {key}={given} cannot be set here: {advice}"
                    )));
                }
                _ => config.set(*key, *value),
            };
        }
        Ok(())
    }

    fn found(&self) -> Result<&Found, CliError> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let given = Given::read(self.command_config.as_deref(), &self.properties)?;
        let servers = reach::reachable(self.servers(&given)?, self.timeout)?;
        Ok(self.found.get_or_init(|| Found { given, servers }))
    }

    /// The brokers that are named, once: of two clusters none is the right one to guess.
    fn servers<'a>(&'a self, given: &'a Given) -> Result<&'a str, CliError> {
        match (self.bootstrap_server.as_deref(), given.get(SERVERS)) {
            (Some(named), Some(given)) if named != given => Err(CliError::Usage(format!(
                "--bootstrap-server or MILLRACE_BOOTSTRAP_SERVER says {named}, and the property \
                 {SERVERS} of -X or --command-config says {given}: name the cluster once"
            ))),
            (named, given) => Ok(named.or(given).unwrap_or(LOCAL)),
        }
    }

    /// Connects for requests.
    pub(super) fn connect(&self) -> Result<Client, CliError> {
        let mut config = self.config()?;
        // A file of properties may have it; no request here is that of a member.
        config.remove("group.id");
        let consumer: BaseConsumer<Complaints> = create(&config, Complaints::default())?;
        let timeout = self.timeout;
        Ok(Client { consumer, timeout })
    }
}

/// Makes a client; a property that the library does not take is a wrong configuration.
pub(super) fn create<C: ClientContext, T: FromClientConfigAndContext<C>>(
    config: &ClientConfig,
    context: C,
) -> Result<T, CliError> {
    T::from_config_and_context(config, context).map_err(|error| match error {
        KafkaError::ClientConfig(_, why, key, value) => {
            let advice = "the properties are those of librdkafka, which its CONFIGURATION.md lists";
            CliError::Configuration(format!("the property {key}={value}: {why}; {advice}"))
        }
        KafkaError::ClientCreation(why) => CliError::Configuration(why),
        error => CliError::client("the client", &error),
    })
}

/// Keeps what the client library complains of, so that a failure can say it.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    last: Mutex<Option<String>>,
    /// Whether no broker can be reached any more.
    all_down: Mutex<bool>,
    /// Whether a group has assigned partitions.
    assigned: AtomicBool,
}

impl Complaints {
    /// The last complaint.
    pub(super) fn last(&self) -> Option<String> {
        lock(&self.last).clone()
    }

    /// Whether the group has assigned partitions since this was last asked, none of them perhaps.
    pub(super) fn take_assigned(&self) -> bool {
        self.assigned.swap(false, Ordering::Relaxed)
    }

    /// Whether all connections were lost since this was last asked.
    pub(super) fn take_all_down(&self) -> bool {
        std::mem::take(&mut *lock(&self.all_down))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientContext for Complaints {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Only `-X debug=...` asks for the library's log; what matters without comes as an error.
        if level as i32 > RDKafkaLogLevel::Notice as i32 {
            super::output::tell(format_args!("{facility}: {message}"));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PartitionEOF) => {}
            Some(RDKafkaErrorCode::AllBrokersDown) => *lock(&self.all_down) = true,
            _ => *lock(&self.last) = Some(reason.to_owned()),
        }
    }
}

impl ConsumerContext for Complaints {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // While a rebalance is under way nothing is assigned, and that is not the end.
        let is_assigned = matches!(rebalance, Rebalance::Assign(_));
        self.assigned.store(is_assigned, Ordering::Relaxed);
    }
}

/// A topic and one of its partitions.
pub(super) type Partition = (String, i32);

/// A connected client for requests.
pub(super) struct Client {
    pub(super) consumer: BaseConsumer<Complaints>,
    timeout: Duration,
}

impl Client {
    /// Admin requests through this client.
    pub(super) fn admin(&self) -> Admin<'_> {
        Admin::new(self.consumer.client(), self.timeout)
    }

    /// The metadata of all topics.
    pub(super) fn metadata(&self) -> Result<Metadata, CliError> {
        self.fetch_metadata(None)
    }

    /// The metadata of one topic; unknown is an error.
    pub(super) fn topic(&self, name: &str) -> Result<Metadata, CliError> {
        let metadata = self.fetch_metadata(Some(name))?;
        match metadata.topics().first().map(MetadataTopic::error) {
            Some(None) => Ok(metadata),
            Some(Some(code)) => Err(topic_error(name, code.into())),
            None => Err(CliError::unknown_topic(name)),
        }
    }

    /// The partitions of one topic.
    pub(super) fn partitions(&self, name: &str) -> Result<Vec<i32>, CliError> {
        let metadata = self.topic(name)?;
        let topics = metadata.topics().iter();
        let partitions = topics.flat_map(|topic| topic.partitions().iter().map(|p| p.id()));
        let mut partitions: Vec<_> = partitions.collect();
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// Those of `partitions` that are there and have a leader, which can be asked about them, and
    /// the others.
    pub(super) fn by_leaders(
        &self,
        partitions: Vec<Partition>,
    ) -> Result<(Vec<Partition>, Vec<Partition>), CliError> {
        let metadata = self.metadata()?;
        let led = metadata.topics().iter().flat_map(|topic| {
            let led = topic
                .partitions()
                .iter()
                .filter(|partition| partition.leader() >= 0);
            led.map(|partition| (topic.name(), partition.id()))
        });
        let led: BTreeSet<(&str, i32)> = led.collect();
        let is_led = |partition: &Partition| led.contains(&(partition.0.as_str(), partition.1));
        Ok(partitions.into_iter().partition(is_led))
    }

    /// The offsets of `partitions` at `at`: [`Offset::Beginning`], [`Offset::End`], or the first
    /// record at or after a time, given as [`Offset::Offset`] of milliseconds, which is the end
    /// where there is none.
    ///
    /// A partition that the metadata names may be unknown to others for a moment, its leader among
    /// them: it was made just now. They are asked again.
    pub(super) fn offsets(
        &self,
        partitions: &[Partition],
        at: Offset,
    ) -> Result<Vec<Result<i64, RDKafkaErrorCode>>, CliError> {
        let deadline = Instant::now() + self.timeout.min(SETTLED_WITHIN);
        loop {
            let found = self.offsets_now(partitions, at);
            if !says(&found, is_unsettled) || Instant::now() > deadline {
                return found
                    .map_err(|error| CliError::client("the offsets of partitions", &error));
            }
            std::thread::sleep(ASKED_AGAIN);
        }
    }

    /// The ends of those of `partitions` that are there and have a leader. One may be deleted while
    /// it is asked, and then the others are asked again without it; the metadata tells it from one
    /// that was made just now, which is waited for as in [`Client::offsets`].
    pub(super) fn ends(
        &self,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, i64>, CliError> {
        let deadline = Instant::now() + self.timeout.min(SETTLED_WITHIN);
        loop {
            let (there, _) = self.by_leaders(partitions.to_vec())?;
            let found = self.offsets_now(&there, Offset::End);
            if !says(&found, is_unknown) || Instant::now() > deadline {
                return ends_of(there, found);
            }
            std::thread::sleep(ASKED_AGAIN);
        }
    }

    fn offsets_now(&self, partitions: &[Partition], at: Offset) -> Offsets {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            // The library takes what stands in place of an offset as the time to look for, and
            // the protocol has the same two numbers for the beginning and the end.
            list.add_partition_offset(topic, *partition, at)?;
        }
        let found = self.consumer.offsets_for_times(list, self.timeout)?;
        let mut offsets = Vec::with_capacity(partitions.len());
        let mut past_the_end = Vec::new();
        for (topic, partition) in partitions {
            let element = found.find_partition(topic, *partition);
            let offset = element
                .as_ref()
                .map(|element| (element.error(), element.offset()));
            offsets.push(match offset {
                Some((Ok(()), Offset::Offset(offset))) => Ok(offset),
                Some((Ok(()), _)) => {
                    past_the_end.push(offsets.len());
                    Ok(-1)
                }
                Some((Err(error), _)) => Err(error
                    .rdkafka_error_code()
                    .unwrap_or(RDKafkaErrorCode::Unknown)),
                None => Err(RDKafkaErrorCode::UnknownPartition),
            });
        }
        if at != Offset::End && !past_the_end.is_empty() {
            let wanted = past_the_end.iter().map(|index| partitions[*index].clone());
            let wanted: Vec<_> = wanted.collect();
            for (index, end) in past_the_end
                .into_iter()
                .zip(self.offsets_now(&wanted, Offset::End)?)
            {
                offsets[index] = end;
            }
        }
        Ok(offsets)
    }

    fn fetch_metadata(&self, topic: Option<&str>) -> Result<Metadata, CliError> {
        let fetched = self.consumer.fetch_metadata(topic, self.timeout);
        fetched.map_err(|error| self.explained("the metadata", &error))
    }

    /// A failure with what the library complained of meanwhile.
    fn explained(&self, what: &str, error: &KafkaError) -> CliError {
        // Complaints wait in the client's queue; a consumer without a group gets nothing else.
        let _ = self.consumer.poll(Duration::ZERO);
        match self.consumer.context().last() {
            Some(complaint) => CliError::failed(what, format_args!("{error} ({complaint})")),
            None => CliError::client(what, error),
        }
    }
}

/// The answer to a question for offsets: of each partition, or why there is none of any.
type Offsets = Result<Vec<Result<i64, RDKafkaErrorCode>>, KafkaError>;

/// Whether the answer, or a part of it, is an error such as `is`.
fn says(found: &Offsets, is: fn(&RDKafkaErrorCode) -> bool) -> bool {
    match found {
        Ok(offsets) => offsets.iter().flat_map(|it| it.as_ref().err()).any(is),
        Err(error) => error.rdkafka_error_code().as_ref().is_some_and(is),
    }
}

/// The ends that were found, without the partitions that are gone. Any other error is one, and
/// names the partition, or the topics of which one is meant.
fn ends_of(there: Vec<Partition>, found: Offsets) -> Result<BTreeMap<Partition, i64>, CliError> {
    let found = found.map_err(|error| {
        let topics: BTreeSet<_> = there.iter().map(|(topic, _)| topic.as_str()).collect();
        let topics: Vec<_> = topics.into_iter().collect();
        CliError::client(format_args!("the ends of {}", topics.join(", ")), &error)
    })?;
    let mut ends = BTreeMap::new();
    for (partition, end) in there.into_iter().zip(found) {
        match end {
            Ok(end) => {
                ends.insert(partition, end);
            }
            Err(code) if is_unknown(&code) => {}
            Err(code) => {
                let what = format!("the end of {}-{}", partition.0, partition.1);
                return Err(CliError::refused(what, &Refusal::of(code)));
            }
        }
    }
    Ok(ends)
}

/// Whether this is what a leader says of a partition that is gone or not there yet, or the library
/// itself, which keeps metadata.
fn is_unknown(code: &RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    is_unsettled(code) || matches!(code, Code::UnknownPartition | Code::UnknownTopic)
}

/// Whether this is what a leader says that has not heard of its partition yet.
fn is_unsettled(code: &RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::UnknownTopicOrPartition | Code::LeaderNotAvailable | Code::NotLeaderForPartition
    )
}

/// Why a topic has no metadata.
pub(super) fn topic_error(name: &str, code: RDKafkaErrorCode) -> CliError {
    match code {
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            CliError::unknown_topic(name)
        }
        RDKafkaErrorCode::InvalidTopic => CliError::Failed(format!(
            "'{name}' is no name for a topic: it has 1 to 249 letters, digits, dots, underscores \
             and dashes, and is not '.' or '..'"
        )),
        code => CliError::failed(format_args!("the topic '{name}'"), code),
    }
}
