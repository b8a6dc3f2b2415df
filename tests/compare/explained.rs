//! The differences that are meant, each with its reason, from `differences.tsv`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::run::Answer;
use crate::value::Value;

/// A field in which two answers differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub conversation: String,
    pub place: String,
    pub api: String,
    pub version: i16,
    pub request: String,
    pub field: String,
    pub kafka: String,
    pub ours: String,
}

/// A row of the table. In all but the versions and the reason `*` stands for any text.
pub struct Row {
    line: usize,
    conversation: String,
    api: String,
    versions: (i16, i16),
    field: String,
    kafka: String,
    ours: String,
    /// Never empty.
    why: String,
}

/// The fields in which the answers to one request are not the same.
pub fn differences(
    conversation: &str,
    answer: &Answer,
    kafka: &Value,
    ours: &Value,
) -> Vec<Difference> {
    kafka
        .differences(ours)
        .into_iter()
        .map(|(field, kafka, ours)| Difference {
            conversation: conversation.to_owned(),
            place: answer.place.clone(),
            api: answer.api.clone(),
            version: answer.version,
            request: answer.request.to_string(),
            field,
            kafka,
            ours,
        })
        .collect()
}

/// The table's rows.
pub fn parse(table: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (index, text) in table.lines().enumerate() {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let line = index + 1;
        let cells: Vec<_> = text.split('\t').collect();
        let [conversation, request, field, kafka, ours, why] = cells[..] else {
            return Err(format!("line {line} has {} cells, not 6", cells.len()));
        };
        let (api, versions) = request.split_once(' ').unwrap_or((request, "0-999"));
        let (first, last) = versions.split_once('-').unwrap_or((versions, versions));
        let number = |text: &str| {
            let number = text.parse::<i16>();
            number.map_err(|_| format!("line {line}: {text} is not a version"))
        };
        if why.trim().is_empty() {
            return Err(format!("line {line} gives no reason"));
        }
        let versions = (number(first)?, number(last)?);
        rows.extend(alternatives(field).into_iter().map(|field| Row {
            line,
            conversation: conversation.to_owned(),
            api: api.to_owned(),
            versions,
            field,
            kafka: kafka.to_owned(),
            ours: ours.to_owned(),
            why: why.to_owned(),
        }));
    }
    Ok(rows)
}

impl Row {
    pub fn explains(&self, difference: &Difference) -> bool {
        let (first, last) = self.versions;
        (first..=last).contains(&difference.version)
            && matches(&self.conversation, &difference.conversation)
            && matches(&self.api, &difference.api)
            && matches(&self.field, &without_indices(&difference.field))
            && matches(&self.kafka, &difference.kafka)
            && matches(&self.ours, &difference.ours)
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (line, api, field) = (self.line, &self.api, &self.field);
        write!(
            f,
            "line {line}: {} {api} {field}: {}",
            self.conversation, self.why
        )
    }
}

/// The differences for a reader: one that is the same in several versions stands there once.
pub fn report(differences: &[&Difference]) -> String {
    let mut versions: BTreeMap<Difference, BTreeSet<i16>> = BTreeMap::new();
    for difference in differences {
        let mut same = (*difference).clone();
        same.version = 0;
        same.request.clear();
        versions.entry(same).or_default().insert(difference.version);
    }
    let cut = |text: &str| match text.char_indices().nth(400) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    };
    let mut report = String::new();
    for (difference, versions) in versions {
        let Difference {
            conversation,
            place,
            api,
            field,
            kafka,
            ours,
            ..
        } = &difference;
        // Writing to a string cannot fail.
        let _ = writeln!(
            report,
            "{conversation} ({place}) {api} {versions:?} {field}\n  kafka: {}\n  ours:  {}",
            cut(kafka),
            cut(ours)
        );
    }
    report
}

/// `Members[3].MemberId` as `Members[].MemberId`.
fn without_indices(path: &str) -> String {
    let mut parts = path.split('[');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push('[');
        plain.push_str(&part[part.find(']').unwrap_or(0)..]);
    }
    plain
}

/// `Keys.{1,2}.Name` as `Keys.1.Name` and `Keys.2.Name`, each of which must differ.
fn alternatives(field: &str) -> Vec<String> {
    let parts = field.split_once('{');
    let parts = parts.and_then(|(head, rest)| rest.split_once('}').map(|rest| (head, rest)));
    match parts {
        None => vec![field.to_owned()],
        Some((head, (names, tail))) => {
            let names = names.split(',');
            names.map(|name| format!("{head}{name}{tail}")).collect()
        }
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|text| {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            let mut ends = ends;
            ends.any(|at| matches(rest, &text[at..]))
        }),
    }
}
