//! One group of every client that shares groups with others: whoever leads, all understand.

use std::sync::Arc;

use libtest_mimic::Trial;
use serde_json::json;

use super::groups::each_owner_reads;
use crate::client::{CLIENTS, Client, Need};
use crate::member::{Member, settle};
use crate::scene::{SESSION_MS, SHORT_SESSION_MS, Scene, Stage};

/// The strategy that they have in common.
const STRATEGY: &str = "range";

pub const TITLE: &str = "one group of all clients: each joins, leads, and leaves or dies";

pub const NEEDS: &[Need] = &[Need::Ability("mixed_group")];

pub fn takes_part(client: &Client) -> bool {
    client.can(NEEDS) && client.strategy == STRATEGY
}

pub fn trial(stage: &Arc<Stage>) -> Trial {
    let stage = Arc::clone(stage);
    Trial::test("mixed::one_group_of_all_clients", move || {
        one_group(&stage);
        Ok(())
    })
}

/// Whether the member that joined as number `at` dies; the others leave.
fn is_killed(at: usize) -> bool {
    at % 2 == 1
}

fn one_group(stage: &Stage) {
    let scenes: Vec<_> = CLIENTS
        .iter()
        .filter(|client| takes_part(client))
        .filter_map(|client| Some(Scene::new(stage, client, client.program()?, "mixed")))
        .collect();
    let Some(first) = scenes.first() else {
        return;
    };
    let partitions = first.topic(2 * i32::try_from(scenes.len()).expect("a few clients"));
    let mut members: Vec<Member> = Vec::new();
    for (at, scene) in scenes.iter().enumerate() {
        let session_ms = match is_killed(at) {
            true => SHORT_SESSION_MS,
            false => SESSION_MS,
        };
        members.push(scene.member(&json!({
            "group": first.name, "topics": [first.name], "session_ms": session_ms,
        })));
        // One after the other, so that the first one leads, and has to understand the others.
        let all: Vec<_> = members.iter().collect();
        settle(&all, &partitions);
    }
    let reads = |members: &[Member], tag: &str| {
        let all: Vec<_> = members.iter().collect();
        settle(&all, &partitions);
        each_owner_reads(first, &all, &partitions, tag);
    };
    reads(&members, "all");
    // They go as they came, one leaving, one dying, and so each of them leads once.
    for at in 0..scenes.len() - 1 {
        let member = members.remove(0);
        match is_killed(at) {
            true => member.kill(),
            false => member.close(),
        }
        reads(&members, &format!("without-{at}"));
    }
    members.remove(0).close();
}
