//! Listing groups, and deleting them.

use serde::Serialize;

use crate::cli::CliError;
use crate::cli::connect::Connection;
use crate::cli::error::with_advice;
use crate::cli::output::{Output, Table, tell};

/// What is told in place of an empty table.
pub(super) const NO_GROUPS: &str =
    "There is no consumer group yet. A consumer with a group makes it.";

/// `groups list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Print a JSON object for each group
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// `groups delete`.
#[derive(Debug, clap::Args)]
pub struct Delete {
    /// The groups
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// Print a JSON object for each group
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct Listed<'a> {
    group: &'a str,
    state: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    simple: bool,
}

#[derive(Serialize)]
struct Deleted<'a> {
    group: &'a str,
    /// `deleted` or `failed`.
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl List {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let client = self.connection.connect()?;
        let listed = client.admin().list_groups();
        let (mut groups, errors) =
            listed.map_err(|refusal| CliError::refused("the list of groups", &refusal))?;
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        let mut output = Output::new();
        let mut table = Table::new(&["GROUP", "STATE", "TYPE"]);
        for group in &groups {
            if self.json {
                output.json(&Listed {
                    group: &group.id,
                    state: &group.state,
                    kind: &group.kind,
                    simple: group.is_simple,
                })?;
            } else {
                table.row(vec![
                    group.id.clone(),
                    group.state.clone(),
                    group.kind.clone(),
                ]);
            }
        }
        if !self.json && !groups.is_empty() {
            table.print(&mut output)?;
        }
        output.flush()?;
        CliError::of_silent_brokers(&errors)?;
        if groups.is_empty() && !self.json {
            tell(NO_GROUPS);
        }
        Ok(())
    }
}

impl Delete {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let client = self.connection.connect()?;
        let groups: Vec<_> = self.groups.iter().map(String::as_str).collect();
        let outcomes = client.admin().delete_groups(&groups);
        let outcomes = outcomes.map_err(|refusal| CliError::refused("groups delete", &refusal))?;
        let mut output = Output::new();
        let (all, mut failed) = (outcomes.len(), Vec::new());
        for (group, outcome) in &outcomes {
            let error = outcome.as_ref().err().map(with_advice);
            if self.json {
                let result = if error.is_none() { "deleted" } else { "failed" };
                output.json(&Deleted {
                    group,
                    result,
                    error: error.clone(),
                })?;
            } else if error.is_none() {
                output.line(format_args!("{group}: deleted"))?;
            }
            failed.extend(error.map(|error| format!("the group '{group}': {error}")));
        }
        output.flush()?;
        CliError::of_many(&failed, all)
    }
}
