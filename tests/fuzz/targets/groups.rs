//! The records of `__consumer_offsets`, and what members say of themselves in them. The input is a
//! list of keys and values, each behind its length, and as a whole what a member says. What can be
//! read is written as it was read, and a machine that has replayed any of it goes on from there.

use std::time::Duration;

use bytes::Bytes;
use millrace::base::ids::PartitionIndex;
use millrace::coordinator::group::command::{Effects, Now};
use millrace::coordinator::group::config::GroupConfig;
use millrace::coordinator::group::machine::Machine;
use millrace::coordinator::group::record::GroupRecord;
use millrace::coordinator::group::subscription::{CONSUMER_PROTOCOL_TYPE, Subscribed};
use millrace::protocol::messages::consumer_protocol_assignment::ConsumerProtocolAssignment;
use millrace::protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;

use super::choices::Choices;
use super::requests::recode;

const RECORDS_MAX: usize = 100;
const TICKS: u64 = 20;
const WALL_MS: i64 = 1_700_000_000_000;

pub fn target(data: &[u8]) {
    let whole = Bytes::copy_from_slice(data);
    Subscribed::of_members(CONSUMER_PROTOCOL_TYPE, [&whole]);
    read_by_clients(&whole, &whole);
    let mut choices = Choices::new(data);
    let mut machine = Machine::new(GroupConfig::default(), PartitionIndex(0));
    for _ in 0..RECORDS_MAX {
        if choices.is_empty() {
            break;
        }
        let key = Bytes::copy_from_slice(choices.short_slice());
        let value = Bytes::copy_from_slice(choices.slice());
        let value = (!choices.one_in(8)).then_some(value);
        if let Ok(Some(record)) = GroupRecord::decode(&key, value.as_ref()) {
            check_written(&record);
            machine.replay(&record, now(0));
        }
    }
    run(machine);
}

fn check_written(record: &GroupRecord) {
    let key = record.key().expect("what was read can be written");
    let value = record.value().expect("what was read can be written");
    let again = GroupRecord::decode(&key, value.as_ref());
    assert_eq!(again.as_ref().map(Option::as_ref), Ok(Some(record)));
    let GroupRecord::Group {
        value: Some(group), ..
    } = record
    else {
        return;
    };
    let length = value.map(|value| value.len());
    assert_eq!(length, Some(group.value_bytes()), "what the record takes");
    let metadata = group.members.iter().map(|member| &member.subscription);
    let subscribed = Subscribed::of_members(CONSUMER_PROTOCOL_TYPE, metadata);
    let _bytes = subscribed.bytes();
    subscribed.contains(&group.protocol_type, "topic");
    for member in &group.members {
        read_by_clients(&member.subscription, &member.assignment);
    }
}

/// Subscriptions and assignments as whoever shows a group reads them.
fn read_by_clients(subscription: &Bytes, assignment: &Bytes) {
    for version in 0..=3 {
        recode::<ConsumerProtocolSubscription>(
            &subscription.slice(subscription.len().min(2)..),
            version,
        );
        recode::<ConsumerProtocolAssignment>(&assignment.slice(assignment.len().min(2)..), version);
    }
}

fn now(seconds: u64) -> Now {
    Now {
        monotonic: Duration::from_secs(seconds),
        wall_ms: WALL_MS + seconds as i64 * 1000,
    }
}

/// The machine takes over, and all that its groups wait for does not happen.
fn run(mut machine: Machine) {
    let mut effects = Effects::default();
    machine.loaded(now(1), &mut effects);
    for tick in 1..=TICKS {
        let at = now(tick * 3600);
        for append in std::mem::take(&mut effects.appends) {
            for record in &append.records {
                machine.replay(record, at);
            }
            machine.appended(append.after, Ok(()), at, &mut effects);
        }
        machine.tick(at, &mut effects);
    }
    machine.unload(&mut effects);
}
