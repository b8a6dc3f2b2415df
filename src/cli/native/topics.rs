//! Creating, growing and deleting topics. A command's thread; the answer says for each topic what
//! became of it, with the broker's reason.

use std::ffi::{CString, c_int};

use rdkafka::bindings as native;
use rdkafka::error::RDKafkaErrorCode;

use super::codes::rd_kafka_topic_result_error;
use super::{
    Admin, Answer, Outcome, REASON_BYTES, Refusal, c_string, items, refusal, text, written,
};

/// A topic that is to be.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct TopicToCreate<'a> {
    /// Its name.
    pub(in crate::cli) name: &'a str,
    /// How many partitions, or -1 for the broker's `num.partitions`.
    pub(in crate::cli) partitions: i32,
    /// How many replicas of each, or -1 for the broker's `default.replication.factor`.
    pub(in crate::cli) replication_factor: i32,
    /// Its settings.
    pub(in crate::cli) configs: &'a [(String, String)],
}

impl Admin<'_> {
    /// CreateTopics.
    pub(in crate::cli) fn create_topics(
        &self,
        topics: &[TopicToCreate<'_>],
    ) -> Result<Vec<Outcome>, Refusal> {
        let topics: Vec<_> = topics.iter().map(NewTopic::new).collect::<Result<_, _>>()?;
        let mut pointers: Vec<_> = topics.iter().map(|topic| topic.0).collect();
        let answer = self.ask(|client, options, queue| {
            // SAFETY: the array and the topics live until the call has copied them, and all other
            // pointers are those of living owners.
            unsafe {
                let (topics, count) = (pointers.as_mut_ptr(), pointers.len());
                native::rd_kafka_CreateTopics(client, topics, count, options, queue);
            }
        })?;
        let mut count = 0;
        // SAFETY: the event is the answer to CreateTopics; what it gives lives as long as it.
        Ok(unsafe {
            let result = native::rd_kafka_event_CreateTopics_result(answer.0);
            let topics = native::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
            outcomes(topics, count, &answer)
        })
    }

    /// DeleteTopics.
    pub(in crate::cli) fn delete_topics(&self, names: &[&str]) -> Result<Vec<Outcome>, Refusal> {
        let names: Vec<CString> = names
            .iter()
            .map(|name| c_string(name))
            .collect::<Result<_, _>>()?;
        // SAFETY: the names are C strings, which the library copies.
        let topics = names
            .iter()
            .map(|name| OldTopic(unsafe { native::rd_kafka_DeleteTopic_new(name.as_ptr()) }));
        let topics: Vec<_> = topics.collect();
        let mut pointers: Vec<_> = topics.iter().map(|topic| topic.0).collect();
        let answer = self.ask(|client, options, queue| {
            // SAFETY: as in `create_topics`.
            unsafe {
                let (topics, count) = (pointers.as_mut_ptr(), pointers.len());
                native::rd_kafka_DeleteTopics(client, topics, count, options, queue);
            }
        })?;
        let mut count = 0;
        // SAFETY: the event is the answer to DeleteTopics; what it gives lives as long as it.
        Ok(unsafe {
            let result = native::rd_kafka_event_DeleteTopics_result(answer.0);
            let topics = native::rd_kafka_DeleteTopics_result_topics(result, &raw mut count);
            outcomes(topics, count, &answer)
        })
    }

    /// CreatePartitions: gives `name` as many partitions as `total`.
    pub(in crate::cli) fn create_partitions(
        &self,
        name: &str,
        total: usize,
    ) -> Result<Vec<Outcome>, Refusal> {
        let topic = GrownTopic::new(name, total)?;
        let mut pointer = topic.0;
        let answer = self.ask(|client, options, queue| {
            // SAFETY: as in `create_topics`, with an array of one.
            unsafe {
                native::rd_kafka_CreatePartitions(client, &raw mut pointer, 1, options, queue);
            }
        })?;
        let mut count = 0;
        // SAFETY: the event is the answer to CreatePartitions; what it gives lives as long as it.
        Ok(unsafe {
            let result = native::rd_kafka_event_CreatePartitions_result(answer.0);
            let topics = native::rd_kafka_CreatePartitions_result_topics(result, &raw mut count);
            outcomes(topics, count, &answer)
        })
    }
}

/// Copies what became of each topic.
///
/// # Safety
/// `topics` are the `count` results that `answer` holds.
unsafe fn outcomes(
    topics: *mut *const native::rd_kafka_topic_result_t,
    count: usize,
    answer: &Answer,
) -> Vec<Outcome> {
    // SAFETY: by the caller's promise.
    let topics = unsafe { items(topics, count, answer) };
    let outcome = |topic: &*const native::rd_kafka_topic_result_t| {
        // SAFETY: the result lives as long as the answer, and each call only reads it.
        let (name, code, reason) = unsafe {
            (
                text(native::rd_kafka_topic_result_name(*topic)),
                rd_kafka_topic_result_error(*topic),
                text(native::rd_kafka_topic_result_error_string(*topic)),
            )
        };
        (name, refusal(code, reason).map_or(Ok(()), Err))
    };
    topics.iter().map(outcome).collect()
}

struct NewTopic(*mut native::rd_kafka_NewTopic_t);

impl NewTopic {
    fn new(topic: &TopicToCreate<'_>) -> Result<Self, Refusal> {
        let name = c_string(topic.name)?;
        let mut reason = [0; REASON_BYTES];
        // SAFETY: the name is a C string, which the library copies; the buffer is as long as said.
        let made = unsafe {
            native::rd_kafka_NewTopic_new(
                name.as_ptr(),
                topic.partitions,
                topic.replication_factor,
                reason.as_mut_ptr(),
                reason.len(),
            )
        };
        if made.is_null() {
            let code = RDKafkaErrorCode::InvalidArgument;
            return Err(Refusal::local(code, written(&reason)));
        }
        let made = Self(made);
        for (key, value) in topic.configs {
            let (key, value) = (c_string(key)?, c_string(value)?);
            // SAFETY: the topic is alive, and both strings are copied.
            let code = unsafe {
                native::rd_kafka_NewTopic_set_config(made.0, key.as_ptr(), value.as_ptr())
            };
            // A code of the library's own.
            if let Some(refusal) = refusal(code as c_int, String::new()) {
                return Err(refusal);
            }
        }
        Ok(made)
    }
}

impl Drop for NewTopic {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_NewTopic_new`, destroyed once.
        unsafe { native::rd_kafka_NewTopic_destroy(self.0) }
    }
}

struct OldTopic(*mut native::rd_kafka_DeleteTopic_t);

impl Drop for OldTopic {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_DeleteTopic_new`, destroyed once.
        unsafe { native::rd_kafka_DeleteTopic_destroy(self.0) }
    }
}

struct GrownTopic(*mut native::rd_kafka_NewPartitions_t);

impl GrownTopic {
    fn new(name: &str, total: usize) -> Result<Self, Refusal> {
        let name = c_string(name)?;
        let mut reason = [0; REASON_BYTES];
        // SAFETY: the name is a C string, which the library copies; the buffer is as long as said.
        let made = unsafe {
            let (buffer, bytes) = (reason.as_mut_ptr(), reason.len());
            native::rd_kafka_NewPartitions_new(name.as_ptr(), total, buffer, bytes)
        };
        if made.is_null() {
            let code = RDKafkaErrorCode::InvalidArgument;
            return Err(Refusal::local(code, written(&reason)));
        }
        Ok(Self(made))
    }
}

impl Drop for GrownTopic {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_NewPartitions_new`, destroyed once.
        unsafe { native::rd_kafka_NewPartitions_destroy(self.0) }
    }
}
