//! Reading partitions without a group. A command's thread.
//!
//! The crate can only assign partitions to a member of a group, for which the library looks for the
//! group's coordinator: the broker then makes `__consumer_offsets`, or refuses who may not use the
//! group. Here the library's older calls start a partition each, and no group is asked for.

use std::ffi::CString;
use std::marker::PhantomData;
use std::ptr;

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

use super::{Queue, Refusal, c_string};

/// Partitions that are being read. What comes of them, records, ends and errors, comes to the poll
/// of the consumer, which was made without `group.id`.
#[derive(Debug)]
pub(in crate::cli) struct Reading<'a> {
    client: *mut native::rd_kafka_t,
    queue: Queue,
    topics: Vec<Topic>,
    /// By the index of the topic.
    started: Vec<(usize, i32)>,
    /// The client outlives what is read through it.
    _client: PhantomData<&'a ()>,
}

impl<'a> Reading<'a> {
    /// Reads nothing yet.
    pub(in crate::cli) fn new<C: ClientContext>(client: &'a Client<C>) -> Self {
        let client = client.native_ptr();
        Self {
            client,
            // SAFETY: the client lives as long as `'a`. The queue is the main one, which the crate
            // polls where there is no group; its owner gives back this reference to it.
            queue: Queue(unsafe { native::rd_kafka_queue_get_main(client) }),
            topics: Vec::new(),
            started: Vec::new(),
            _client: PhantomData,
        }
    }

    /// Reads a partition from an offset on.
    pub(in crate::cli) fn start(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), Refusal> {
        let name = c_string(topic)?;
        let known = self.topics.iter().position(|topic| topic.name == name);
        let index = match known {
            Some(index) => index,
            None => {
                self.topics.push(Topic::new(self.client, name)?);
                self.topics.len() - 1
            }
        };
        let (topic, queue) = (self.topics[index].native, self.queue.0);
        // SAFETY: the client, the topic and the queue are alive; the library keeps a reference of
        // its own to the queue.
        let started =
            unsafe { native::rd_kafka_consume_start_queue(topic, partition, offset, queue) };
        if started != 0 {
            return Err(last_refusal());
        }
        self.started.push((index, partition));
        Ok(())
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        for (index, partition) in &self.started {
            // SAFETY: the topic is alive until the field is dropped. A partition that is gone
            // meanwhile is an error that changes nothing.
            unsafe { native::rd_kafka_consume_stop(self.topics[*index].native, *partition) };
        }
    }
}

#[derive(Debug)]
struct Topic {
    name: CString,
    native: *mut native::rd_kafka_topic_t,
}

impl Topic {
    fn new(client: *mut native::rd_kafka_t, name: CString) -> Result<Self, Refusal> {
        // SAFETY: the client is alive, the name a C string that the library copies; without a
        // configuration of its own the topic has the client's.
        let native = unsafe { native::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) };
        match native.is_null() {
            false => Ok(Self { name, native }),
            true => Err(last_refusal()),
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_topic_new`, given back once.
        unsafe { native::rd_kafka_topic_destroy(self.native) }
    }
}

/// Why the call before failed.
fn last_refusal() -> Refusal {
    // SAFETY: it reads a variable of this thread. The codes are the library's own.
    let code = RDKafkaErrorCode::from(unsafe { native::rd_kafka_last_error() });
    Refusal::local(code, code.to_string())
}
