//! Consumer groups: listing, describing, deleting them, and their committed offsets. A command's
//! thread; answers are copied into owned values.

use std::ffi::CString;
use std::ptr;
use std::time::Instant;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use serde::Serialize;

use super::codes::{error_of, rd_kafka_error_code};
use super::{Admin, Answer, Outcome, Refusal, ask_each, c_string, is_early, items, refusal, text};

/// The generation of the group in which a consumer is a member; none where it is none.
pub(in crate::cli) fn generation_of<C: ClientContext>(client: &Client<C>) -> Option<i32> {
    // SAFETY: the client is alive. What is given is a copy, null where there is no group, and is
    // destroyed below.
    let metadata = unsafe { native::rd_kafka_consumer_group_metadata(client.native_ptr()) };
    if metadata.is_null() {
        return None;
    }
    // SAFETY: not null; read once, and destroyed once.
    let generation = unsafe {
        let generation = native::rd_kafka_consumer_group_metadata_generation_id(metadata);
        native::rd_kafka_consumer_group_metadata_destroy(metadata);
        generation
    };
    (generation >= 0).then_some(generation)
}

/// The broker that coordinates a group.
#[derive(Clone, Debug, Serialize)]
pub(in crate::cli) struct GroupCoordinator {
    /// Its node id.
    pub(in crate::cli) id: i32,
    /// Where it listens.
    pub(in crate::cli) host: String,
    /// The port of it.
    pub(in crate::cli) port: u16,
}

/// A group in the list of all.
#[derive(Clone, Debug)]
pub(in crate::cli) struct GroupListing {
    /// Its id.
    pub(in crate::cli) id: String,
    /// Its state, as Kafka names it.
    pub(in crate::cli) state: String,
    /// `Classic` or `Consumer`, after its protocol.
    pub(in crate::cli) kind: String,
    /// Whether it only holds offsets, and never had members.
    pub(in crate::cli) is_simple: bool,
}

/// A group with its members.
#[derive(Clone, Debug)]
pub(in crate::cli) struct GroupDescription {
    /// Its id.
    pub(in crate::cli) id: String,
    /// Its state, as Kafka names it.
    pub(in crate::cli) state: String,
    /// `Classic` or `Consumer`, after its protocol.
    pub(in crate::cli) kind: String,
    /// How its partitions are assigned.
    pub(in crate::cli) assignor: String,
    /// The broker that coordinates it: `host:port (id n)`.
    pub(in crate::cli) coordinator: Option<GroupCoordinator>,
    /// Its members.
    pub(in crate::cli) members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug)]
pub(in crate::cli) struct GroupMember {
    /// The id that the coordinator gave it.
    pub(in crate::cli) id: String,
    /// `group.instance.id`, of a static member.
    pub(in crate::cli) instance: Option<String>,
    /// `client.id`.
    pub(in crate::cli) client: String,
    /// Where it connects from.
    pub(in crate::cli) host: String,
    /// Its topics and partitions.
    pub(in crate::cli) partitions: Vec<(String, i32)>,
}

/// A partition of a group, with what was committed for it.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Committed {
    /// The topic.
    pub(in crate::cli) topic: String,
    /// The partition.
    pub(in crate::cli) partition: i32,
    /// The next offset to read; none where nothing is committed.
    pub(in crate::cli) offset: Option<i64>,
    /// Why this partition was refused.
    pub(in crate::cli) refusal: Option<Refusal>,
}

impl Admin<'_> {
    /// ListGroups of every broker: the groups of consumers, and why some brokers did not answer.
    pub(in crate::cli) fn list_groups(&self) -> Result<(Vec<GroupListing>, Vec<Refusal>), Refusal> {
        let ask = || self.list_groups_once();
        self.when_ready(ask, |(_, refusals)| refusals.iter().any(Refusal::is_early))
    }

    fn list_groups_once(&self) -> Result<(Vec<GroupListing>, Vec<Refusal>), Refusal> {
        let answer = self.ask(|client, options, queue| {
            // SAFETY: all pointers are those of living owners.
            unsafe { native::rd_kafka_ListConsumerGroups(client, options, queue) }
        })?;
        let (mut valid_count, mut error_count) = (0, 0);
        // SAFETY: the event is the answer to ListConsumerGroups; what it gives lives as long as it.
        let (valid, errors) = unsafe {
            let result = native::rd_kafka_event_ListConsumerGroups_result(answer.0);
            let valid =
                native::rd_kafka_ListConsumerGroups_result_valid(result, &raw mut valid_count);
            let errors =
                native::rd_kafka_ListConsumerGroups_result_errors(result, &raw mut error_count);
            (
                items(valid, valid_count, &answer),
                items(errors, error_count, &answer),
            )
        };
        let groups = valid.iter().map(|group| {
            // SAFETY: the group belongs to the answer, and each call only reads it.
            unsafe {
                let state = native::rd_kafka_ConsumerGroupListing_state(*group);
                let kind = native::rd_kafka_ConsumerGroupListing_type(*group);
                GroupListing {
                    id: text(native::rd_kafka_ConsumerGroupListing_group_id(*group)),
                    state: text(native::rd_kafka_consumer_group_state_name(state)),
                    kind: text(native::rd_kafka_consumer_group_type_name(kind)),
                    is_simple: native::rd_kafka_ConsumerGroupListing_is_simple_consumer_group(
                        *group,
                    ) != 0,
                }
            }
        });
        // SAFETY: the errors belong to the answer.
        let errors = errors
            .iter()
            .filter_map(|error| unsafe { refusal_of(*error) });
        Ok((groups.collect(), errors.collect()))
    }

    /// DescribeGroups, or ConsumerGroupDescribe of the newer protocol: each group, or why not.
    pub(in crate::cli) fn describe_groups(
        &self,
        ids: &[&str],
    ) -> Result<Vec<Result<GroupDescription, Refusal>>, Refusal> {
        let ask = || self.describe_groups_once(ids);
        self.when_ready(ask, |groups| groups.iter().any(is_early))
    }

    fn describe_groups_once(
        &self,
        ids: &[&str],
    ) -> Result<Vec<Result<GroupDescription, Refusal>>, Refusal> {
        let ids: Vec<CString> = ids
            .iter()
            .map(|id| c_string(id))
            .collect::<Result<_, _>>()?;
        let mut pointers: Vec<_> = ids.iter().map(|id| id.as_ptr()).collect();
        let answer = self.ask(|client, options, queue| {
            // SAFETY: the ids are C strings that live until the call has copied them.
            unsafe {
                let (ids, count) = (pointers.as_mut_ptr(), pointers.len());
                native::rd_kafka_DescribeConsumerGroups(client, ids, count, options, queue);
            }
        })?;
        let mut count = 0;
        // SAFETY: the event is the answer to DescribeConsumerGroups, which owns what it gives.
        let groups = unsafe {
            let result = native::rd_kafka_event_DescribeConsumerGroups_result(answer.0);
            let groups =
                native::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
            items(groups, count, &answer)
        };
        // SAFETY: each group belongs to the answer.
        Ok(groups
            .iter()
            .map(|group| unsafe { describe(*group) })
            .collect())
    }

    /// DeleteGroups.
    pub(in crate::cli) fn delete_groups(&self, ids: &[&str]) -> Result<Vec<Outcome>, Refusal> {
        let end = Instant::now() + self.timeout;
        ask_each(ids, end, |ids| self.delete_groups_once(ids))
    }

    fn delete_groups_once(&self, ids: &[&str]) -> Result<Vec<Outcome>, Refusal> {
        let ids: Vec<CString> = ids
            .iter()
            .map(|id| c_string(id))
            .collect::<Result<_, _>>()?;
        // SAFETY: the ids are C strings, which the library copies.
        let groups = ids
            .iter()
            .map(|id| OldGroup(unsafe { native::rd_kafka_DeleteGroup_new(id.as_ptr()) }));
        let groups: Vec<_> = groups.collect();
        let mut pointers: Vec<_> = groups.iter().map(|group| group.0).collect();
        let answer = self.ask(|client, options, queue| {
            // SAFETY: the array and the groups live until the call has copied them.
            unsafe {
                let (groups, count) = (pointers.as_mut_ptr(), pointers.len());
                native::rd_kafka_DeleteGroups(client, groups, count, options, queue);
            }
        })?;
        let mut count = 0;
        // SAFETY: the event is the answer to DeleteGroups, which owns what it gives.
        let groups = unsafe {
            let result = native::rd_kafka_event_DeleteGroups_result(answer.0);
            let groups = native::rd_kafka_DeleteGroups_result_groups(result, &raw mut count);
            items(groups, count, &answer)
        };
        let outcome = |group: &*const native::rd_kafka_group_result_t| {
            // SAFETY: the result belongs to the answer.
            unsafe {
                let id = text(native::rd_kafka_group_result_name(*group));
                let refusal = refusal_of(native::rd_kafka_group_result_error(*group));
                (id, refusal.map_or(Ok(()), Err))
            }
        };
        Ok(groups.iter().map(outcome).collect())
    }

    /// OffsetFetch: everything that is committed for `group`.
    pub(in crate::cli) fn committed_offsets(&self, group: &str) -> Result<Vec<Committed>, Refusal> {
        self.when_ready(
            || self.committed_offsets_once(group),
            |all| is_any_early(all),
        )
    }

    fn committed_offsets_once(&self, group: &str) -> Result<Vec<Committed>, Refusal> {
        let group = c_string(group)?;
        // SAFETY: the id is a C string, which the library copies; no list stands for all.
        let wanted = WantedOffsets(unsafe {
            native::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), ptr::null())
        });
        let mut pointer = wanted.0;
        let answer = self.ask(|client, options, queue| {
            // SAFETY: an array of one, which lives until the call has copied it.
            unsafe {
                let wanted = &raw mut pointer;
                native::rd_kafka_ListConsumerGroupOffsets(client, wanted, 1, options, queue);
            }
        })?;
        let mut count = 0;
        // SAFETY: the event is the answer to ListConsumerGroupOffsets, which owns what it gives.
        unsafe {
            let result = native::rd_kafka_event_ListConsumerGroupOffsets_result(answer.0);
            let groups =
                native::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
            partitions_of(items(groups, count, &answer), &answer)
        }
    }

    /// OffsetCommit outside of the group: sets what is committed for it. The group must be empty.
    pub(in crate::cli) fn alter_offsets(
        &self,
        group: &str,
        offsets: &TopicPartitionList,
    ) -> Result<Vec<Committed>, Refusal> {
        self.when_ready(
            || self.alter_offsets_once(group, offsets),
            |all| is_any_early(all),
        )
    }

    fn alter_offsets_once(
        &self,
        group: &str,
        offsets: &TopicPartitionList,
    ) -> Result<Vec<Committed>, Refusal> {
        let group = c_string(group)?;
        // SAFETY: the id is a C string and the list is alive; the library copies both.
        let wanted = NewOffsets(unsafe {
            native::rd_kafka_AlterConsumerGroupOffsets_new(group.as_ptr(), offsets.ptr())
        });
        let mut pointer = wanted.0;
        let answer = self.ask(|client, options, queue| {
            // SAFETY: an array of one, which lives until the call has copied it.
            unsafe {
                let wanted = &raw mut pointer;
                native::rd_kafka_AlterConsumerGroupOffsets(client, wanted, 1, options, queue);
            }
        })?;
        let mut count = 0;
        // SAFETY: the event is the answer to AlterConsumerGroupOffsets, which owns what it gives.
        unsafe {
            let result = native::rd_kafka_event_AlterConsumerGroupOffsets_result(answer.0);
            let groups =
                native::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &raw mut count);
            partitions_of(items(groups, count, &answer), &answer)
        }
    }
}

fn is_any_early(partitions: &[Committed]) -> bool {
    let mut refusals = partitions
        .iter()
        .filter_map(|partition| partition.refusal.as_ref());
    refusals.any(Refusal::is_early)
}

/// Copies the partitions of the one group that was asked about.
///
/// # Safety
/// `groups` belong to the answer.
unsafe fn partitions_of(
    groups: &[*const native::rd_kafka_group_result_t],
    answer: &Answer,
) -> Result<Vec<Committed>, Refusal> {
    let Some(group) = groups.first() else {
        let code = RDKafkaErrorCode::Unknown;
        return Err(Refusal::local(
            code,
            "the answer does not tell of the group",
        ));
    };
    // SAFETY: the group belongs to the answer, by the caller's promise.
    let partitions = unsafe {
        if let Some(refusal) = refusal_of(native::rd_kafka_group_result_error(*group)) {
            return Err(refusal);
        }
        elements(native::rd_kafka_group_result_partitions(*group), answer)
    };
    let committed = |element: &native::rd_kafka_topic_partition_t| Committed {
        // SAFETY: an element's topic is a C string that lives as long as its list.
        topic: unsafe { text(element.topic) },
        partition: element.partition,
        offset: (element.offset >= 0).then_some(element.offset),
        refusal: refusal(error_of(element), String::new()),
    };
    Ok(partitions.iter().map(committed).collect())
}

/// Copies a group that was described.
///
/// # Safety
/// `group` belongs to an answer that is alive.
unsafe fn describe(
    group: *const native::rd_kafka_ConsumerGroupDescription_t,
) -> Result<GroupDescription, Refusal> {
    // SAFETY: the group is alive by the caller's promise, owns all that the calls give, and each
    // call only reads it.
    unsafe {
        if let Some(refusal) = refusal_of(native::rd_kafka_ConsumerGroupDescription_error(group)) {
            return Err(refusal);
        }
        let count = native::rd_kafka_ConsumerGroupDescription_member_count(group);
        let members = (0..count).map(|index| {
            member(native::rd_kafka_ConsumerGroupDescription_member(
                group, index,
            ))
        });
        let state = native::rd_kafka_ConsumerGroupDescription_state(group);
        let kind = native::rd_kafka_ConsumerGroupDescription_type(group);
        let coordinator = native::rd_kafka_ConsumerGroupDescription_coordinator(group);
        let coordinator = (!coordinator.is_null()).then(|| {
            let host = text(native::rd_kafka_Node_host(coordinator));
            let port = native::rd_kafka_Node_port(coordinator);
            let id = native::rd_kafka_Node_id(coordinator);
            GroupCoordinator { id, host, port }
        });
        Ok(GroupDescription {
            id: text(native::rd_kafka_ConsumerGroupDescription_group_id(group)),
            state: text(native::rd_kafka_consumer_group_state_name(state)),
            kind: text(native::rd_kafka_consumer_group_type_name(kind)),
            assignor: text(native::rd_kafka_ConsumerGroupDescription_partition_assignor(group)),
            coordinator,
            members: members.collect(),
        })
    }
}

/// Copies a member.
///
/// # Safety
/// `member` belongs to an answer that is alive.
unsafe fn member(member: *const native::rd_kafka_MemberDescription_t) -> GroupMember {
    // SAFETY: as in `describe`.
    unsafe {
        let instance = native::rd_kafka_MemberDescription_group_instance_id(member);
        let assignment = native::rd_kafka_MemberDescription_assignment(member);
        let mut partitions = Vec::new();
        if !assignment.is_null() {
            let list = native::rd_kafka_MemberAssignment_partitions(assignment);
            if !list.is_null() && (*list).cnt > 0 {
                let count = (*list).cnt.unsigned_abs() as usize;
                let elements = std::slice::from_raw_parts((*list).elems, count);
                let partition = |element: &native::rd_kafka_topic_partition_t| {
                    (text(element.topic), element.partition)
                };
                partitions.extend(elements.iter().map(partition));
            }
        }
        GroupMember {
            id: text(native::rd_kafka_MemberDescription_consumer_id(member)),
            instance: (!instance.is_null()).then(|| text(instance)),
            client: text(native::rd_kafka_MemberDescription_client_id(member)),
            host: text(native::rd_kafka_MemberDescription_host(member)),
            partitions,
        }
    }
}

/// The elements of a list that belongs to an answer.
///
/// # Safety
/// `list` is null or belongs to the answer.
unsafe fn elements(
    list: *const native::rd_kafka_topic_partition_list_t,
    answer: &Answer,
) -> &[native::rd_kafka_topic_partition_t] {
    if list.is_null() {
        return &[];
    }
    // SAFETY: a list has as many elements as it says, and lives as long as the answer.
    unsafe { items((*list).elems, (*list).cnt.unsigned_abs() as usize, answer) }
}

/// Copies an error of the library's; none where it is none.
///
/// # Safety
/// `error` is null or belongs to an answer that is alive.
unsafe fn refusal_of(error: *const native::rd_kafka_error_t) -> Option<Refusal> {
    if error.is_null() {
        return None;
    }
    // SAFETY: alive by the caller's promise, and only read.
    unsafe {
        let reason = text(native::rd_kafka_error_string(error));
        refusal(rd_kafka_error_code(error), reason)
    }
}

struct OldGroup(*mut native::rd_kafka_DeleteGroup_t);

impl Drop for OldGroup {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_DeleteGroup_new`, destroyed once.
        unsafe { native::rd_kafka_DeleteGroup_destroy(self.0) }
    }
}

struct WantedOffsets(*mut native::rd_kafka_ListConsumerGroupOffsets_t);

impl Drop for WantedOffsets {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_ListConsumerGroupOffsets_new`, destroyed once.
        unsafe { native::rd_kafka_ListConsumerGroupOffsets_destroy(self.0) }
    }
}

struct NewOffsets(*mut native::rd_kafka_AlterConsumerGroupOffsets_t);

impl Drop for NewOffsets {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_AlterConsumerGroupOffsets_new`, destroyed once.
        unsafe { native::rd_kafka_AlterConsumerGroupOffsets_destroy(self.0) }
    }
}
