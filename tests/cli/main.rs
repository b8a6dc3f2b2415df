//! The commands as a person or a script meets them: each test runs the real program against a
//! broker of its own, and looks at both outputs and the exit code. The expectations hold against
//! Apache Kafka as well (`MILLRACE_TEST_PEER=kafka`), but for those that look into files.

#[allow(
    dead_code,
    reason = "each test program uses its own part of the support"
)]
#[path = "../support/mod.rs"]
mod support;

mod advertised_shards;
mod check;
mod consuming;
mod consuming_in_groups;
mod dump;
mod failures;
mod first_hour;
mod groups;
mod perf;
mod producing;
mod program;
mod properties;
mod stopping;
mod topics;
mod verify;
