//! The one table of scenarios. Each runs with every client that has what it needs.

mod admin;
mod groups;
pub mod mixed;
mod offsets;
mod records;
mod topics;

use crate::client::Need;
use crate::scene::Scene;

/// One row of the table.
pub struct Scenario {
    /// As trials are named.
    pub name: &'static str,
    /// What it shows, as the table in the README has it.
    pub title: &'static str,
    pub needs: &'static [Need],
    pub run: fn(&Scene<'_>),
}

const fn row(
    name: &'static str,
    title: &'static str,
    needs: &'static [Need],
    run: fn(&Scene<'_>),
) -> Scenario {
    Scenario {
        name,
        title,
        needs,
        run,
    }
}

use Need::{Ability, Admin, Codec};

/// Every row, in the order of the README.
pub const SCENARIOS: &[Scenario] = &[
    row(
        "shapes",
        "keys, values, headers and timestamps come back",
        &[],
        records::shapes,
    ),
    row(
        "absent_and_empty",
        "null keys and values, and empty ones",
        &[Ability("empty_kept")],
        records::absent_and_empty,
    ),
    row(
        "codec_none",
        "uncompressed, read by itself and by another client",
        &[Codec("none")],
        |s| records::codec(s, "none", 0),
    ),
    row(
        "codec_gzip",
        "gzip, read by itself and by another client",
        &[Codec("gzip")],
        |s| records::codec(s, "gzip", 1),
    ),
    row(
        "codec_snappy",
        "snappy, read by itself and by another client",
        &[Codec("snappy")],
        |s| records::codec(s, "snappy", 2),
    ),
    row(
        "codec_lz4",
        "lz4, read by itself and by another client",
        &[Codec("lz4")],
        |s| records::codec(s, "lz4", 3),
    ),
    row(
        "codec_zstd",
        "zstd, read by itself and by another client",
        &[Codec("zstd")],
        |s| records::codec(s, "zstd", 4),
    ),
    row(
        "batches",
        "many records in a batch, in order, without a gap",
        &[],
        records::batches,
    ),
    row(
        "idempotent",
        "idempotent producer",
        &[Ability("idempotent")],
        records::idempotent,
    ),
    row(
        "manual_partition",
        "partitions chosen by hand",
        &[],
        records::manual_partition,
    ),
    row(
        "custom_partitioner",
        "a partitioner of one's own",
        &[Ability("custom_partitioner")],
        records::custom_partitioner,
    ),
    row(
        "read_committed",
        "`isolation.level=read_committed`",
        &[Ability("isolation")],
        records::read_committed,
    ),
    row(
        "join_and_leave",
        "one member gets all, a second joins, one leaves",
        &[],
        groups::join_and_leave,
    ),
    row(
        "death",
        "a member dies, the other takes over",
        &[],
        groups::death,
    ),
    row(
        "cooperative",
        "cooperative rebalance: what is kept is not revoked",
        &[Ability("cooperative")],
        groups::cooperative,
    ),
    row(
        "static_member",
        "static member restarts without a rebalance",
        &[Ability("static")],
        groups::static_member,
    ),
    row(
        "fenced",
        "a second static member of the same name takes the place of the first",
        &[Ability("static"), Ability("fenced")],
        groups::fenced,
    ),
    row(
        "several_groups",
        "several groups on one topic",
        &[],
        groups::several_groups,
    ),
    row(
        "pause",
        "paused, it stays a member, then resumes",
        &[Ability("pause")],
        groups::pause,
    ),
    row(
        "commit_and_resume",
        "commit by hand and resume",
        &[],
        offsets::commit_and_resume,
    ),
    row(
        "auto_commit",
        "automatic commit and resume",
        &[Ability("auto_commit")],
        offsets::auto_commit,
    ),
    row("replay", "replay from the start", &[], offsets::replay),
    row(
        "seek",
        "seek to an offset",
        &[Ability("assign"), Ability("seek")],
        offsets::seek,
    ),
    row(
        "seek_in_group",
        "seek as a member of a group",
        &[Ability("seek_in_group")],
        offsets::seek_in_group,
    ),
    row(
        "seek_time",
        "seek to a time",
        &[Ability("seek_time")],
        offsets::seek_time,
    ),
    row(
        "latest",
        "start at the end of the log",
        &[],
        offsets::latest,
    ),
    row(
        "new_topic",
        "a pattern notices a new topic",
        &[Ability("pattern")],
        topics::new_topic,
    ),
    row(
        "new_partitions",
        "new partitions are noticed",
        &[Ability("new_partitions")],
        topics::new_partitions,
    ),
    row(
        "admin_topics",
        "create, list, describe, delete topics",
        &[
            Admin("create"),
            Admin("list"),
            Admin("describe"),
            Admin("delete"),
        ],
        admin::topics,
    ),
    row(
        "admin_partitions",
        "add partitions",
        &[Admin("add_partitions")],
        admin::partitions,
    ),
    row(
        "admin_configs",
        "a topic's configuration",
        &[Admin("create"), Admin("configs")],
        admin::configs,
    ),
    row(
        "admin_list_offsets",
        "offsets by position and time",
        &[Admin("list_offsets")],
        admin::list_offsets,
    ),
    row(
        "admin_groups",
        "list and describe groups",
        &[Admin("list_groups"), Admin("describe_group")],
        admin::groups,
    ),
    row(
        "admin_offsets",
        "a group's offsets",
        &[Admin("offsets")],
        admin::offsets,
    ),
    row(
        "admin_reset_offsets",
        "reset a group's offsets",
        &[Admin("reset_offsets")],
        admin::reset_offsets,
    ),
    row(
        "admin_delete_group",
        "delete a group",
        &[Admin("delete_group")],
        admin::delete_group,
    ),
];
