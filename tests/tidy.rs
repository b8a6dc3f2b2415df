//! Holds the source to the rules of the house: who may use whom, sizes, file heads, unsafe code.
//!
//! Every rule has no list of exceptions. The dependency table here is the one of `src/lib.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may use; `*` is every room.
const ROOMS: &[(&str, &str)] = &[
    ("base", ""),
    ("config", "base"),
    ("metrics", "base"),
    ("record", "base"),
    ("runtime", "base"),
    ("shard", "base metrics runtime"),
    ("protocol", "base record"),
    ("metadata", "base protocol record"),
    ("storage", "base config metrics record runtime"),
    ("security", "base config metadata"),
    ("client", "base config protocol record security"),
    (
        "partition",
        "base config metrics record runtime metadata shard storage",
    ),
    (
        "replication",
        "base config metrics metadata protocol client shard partition",
    ),
    (
        "controller",
        "base config metrics metadata protocol record runtime client shard storage",
    ),
    (
        "coordinator",
        "base config metrics metadata protocol record runtime client shard partition",
    ),
    (
        "api",
        "base config metrics record runtime shard protocol metadata storage security client \
         partition replication controller coordinator",
    ),
    (
        "net",
        "base config metrics protocol security runtime shard api",
    ),
    (
        "admin",
        "base config metrics metadata shard partition controller coordinator",
    ),
    (
        "cli",
        "base protocol record metadata storage partition coordinator",
    ),
    ("process", "*"),
];

/// The only files that may hold unsafe code. Each block in them says why it is sound.
const UNSAFE_FILES: &[&str] = &[
    "src/cli/native/codes.rs",
    "src/cli/native/groups.rs",
    "src/cli/native/headers.rs",
    "src/cli/native/mod.rs",
    "src/cli/native/reading.rs",
    "src/cli/native/topics.rs",
    "src/runtime/buffer.rs",
    "src/runtime/driver.rs",
    "src/shard/scheduling.rs",
    "src/storage/unit.rs",
];

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 100;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(under: &str) -> Vec<(String, String)> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    let dir = root().join(under);
    if dir.is_dir() {
        walk(&dir, &mut paths);
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a readable source file");
            let name = path.strip_prefix(root()).expect("a path under the root");
            (name.to_string_lossy().into_owned(), text)
        })
        .collect()
}

fn all_files() -> Vec<(String, String)> {
    [
        "build",
        "src",
        "tests",
        "benches",
        "perf",
        "kernel-notes",
        "fuzz/fuzz_targets",
        "fuzz/src",
    ]
    .into_iter()
    .flat_map(rust_files)
    .collect()
}

fn assert_none(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn rooms_use_only_the_rooms_they_may() {
    let table: BTreeMap<_, _> = ROOMS.iter().copied().collect();
    let mut broken = Vec::new();
    for (name, text) in rust_files("src") {
        let Some((room, _)) = name["src/".len()..].split_once('/') else {
            continue;
        };
        let Some(may_use) = table.get(room) else {
            broken.push(format!("{name}: the room {room} is not in the table"));
            continue;
        };
        if *may_use == "*" {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let rest = rest.strip_prefix('{').unwrap_or(rest);
                let used: String = rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let known = table.contains_key(used.as_str());
                if known && used != room && !may_use.split_whitespace().any(|may| may == used) {
                    broken.push(format!("{name}:{}: {room} may not use {used}", index + 1));
                }
            }
        }
    }
    assert_none("a room reaches into a room it may not use", broken);
}

#[test]
fn the_map_in_lib_rs_shows_the_same_table() {
    let map = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    // The map shows the house as it stands; the table knows the rooms to come as well.
    let is_built = |room: &str| root().join("src").join(room).is_dir();
    let broken = ROOMS
        .iter()
        .filter(|(room, _)| is_built(room))
        .enumerate()
        .filter_map(|(index, (room, may_use))| {
            let above = ROOMS.iter().filter(|(room, _)| is_built(room)).take(index);
            let above: Vec<_> = above.map(|(above, _)| *above).collect();
            let is_above = |name: &str| above.contains(&name);
            let rooms: Vec<_> = may_use
                .split_whitespace()
                .filter(|room| is_built(room))
                .collect();
            let rooms = match *may_use {
                "" => "nothing".to_owned(),
                "*" => "every room".to_owned(),
                _ if index > 1
                    && rooms.len() == index
                    && rooms.iter().all(|name| is_above(name)) =>
                {
                    "every room above".to_owned()
                }
                _ => rooms.join(", "),
            };
            let row = format!("//! | [`{room}`] | {rooms} |");
            (!map.lines().any(|line| line == row)).then_some(row)
        })
        .collect();
    assert_none("the dependency table of src/lib.rs lacks a row", broken);
}

/// The settings of a table that act.
fn acting(table: &str) -> Vec<(String, Option<String>)> {
    let text = fs::read_to_string(root().join("src/config").join(table)).expect("a table");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let rows = lines.map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter(|row| row[6].split(',').any(|state| state == "acts"))
        .map(|row| {
            (
                row[0].to_owned(),
                (row[7] != "~").then(|| row[7].to_owned()),
            )
        })
        .collect()
}

#[test]
fn what_is_said_to_act_does() {
    let is_test = |name: &str| name.contains("tests");
    let (settings, users): (Vec<_>, Vec<_>) = rust_files("src")
        .into_iter()
        .filter(|(name, _)| !is_test(name))
        .partition(|(name, _)| name.starts_with("src/config/"));
    let text = |files: Vec<(String, String)>| -> String {
        files.into_iter().map(|(_, text)| text).collect()
    };
    let (settings, users) = (text(settings), text(users));
    // A setting is a field by its name, which somebody uses; or it is checked where it is read.
    let is_used = |key: &str| {
        let field = key.trim_start_matches("millrace.").replace('.', "_");
        match settings.contains(&format!("    pub {field}: ")) {
            true => users.contains(&format!(".{field}")),
            false => settings.contains(&format!("\"{key}\"")),
        }
    };
    let topics = acting("topic.tsv");
    let mut broken = Vec::new();
    for (key, _) in &topics {
        if !is_used(key) {
            broken.push(format!("{key} of a topic"));
        }
    }
    for (key, _) in acting("broker.tsv") {
        let is_default = topics
            .iter()
            .any(|(_, default)| default.as_deref() == Some(&*key));
        if !is_default && !is_used(&key) {
            broken.push(format!("{key} of the broker"));
        }
    }
    assert_none("a setting that is said to act does nothing", broken);
}

#[test]
fn files_open_with_what_they_are_for() {
    let broken = all_files()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(name, _)| name)
        .collect();
    assert_none("a file does not open with its job", broken);
}

#[test]
fn files_functions_and_lines_are_short() {
    let mut broken = Vec::new();
    for (name, text) in all_files() {
        let lines: Vec<_> = text.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            broken.push(format!("{name}: {} lines", lines.len()));
        }
        let mut open: Vec<(usize, usize)> = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            if line.chars().count() > LINE_CHARS_MAX {
                broken.push(format!(
                    "{name}:{}: a line over {LINE_CHARS_MAX}",
                    index + 1
                ));
            }
            let indent = line.len() - line.trim_start().len();
            let code = line.trim_start();
            // rustfmt closes a function with a brace at the indent at which it began.
            if code == "}"
                && let Some(&(at, began)) = open.last()
                && at == indent
            {
                open.pop();
                if index + 1 - began > FUNCTION_LINES_MAX {
                    broken.push(format!("{name}:{}: {} lines", began + 1, index + 1 - began));
                }
            }
            let words: Vec<_> = code.split_whitespace().collect();
            let head = words.iter().position(|word| *word == "fn");
            let is_function = head.is_some_and(|at| {
                words[..at].iter().all(|word| {
                    word.starts_with("pub")
                        || matches!(*word, "async" | "const" | "unsafe" | "extern")
                        || word.starts_with('"')
                        || word.ends_with(')')
                })
            });
            if is_function && !code.ends_with('}') && !code.ends_with(';') {
                open.retain(|(at, _)| *at < indent);
                open.push((indent, index));
            }
        }
    }
    assert_none("too long", broken);
}

#[test]
fn unsafe_code_stands_in_named_files_with_its_reason() {
    let mut broken = Vec::new();
    for (name, text) in rust_files("src") {
        let lines: Vec<_> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            if code.starts_with("//") {
                continue;
            }
            let is_unsafe = code.contains("unsafe {") || code.contains("unsafe impl");
            if (is_unsafe || code.contains("allow(unsafe_code)"))
                && !UNSAFE_FILES.contains(&name.as_str())
            {
                broken.push(format!(
                    "{name}:{}: unsafe code outside the named files",
                    index + 1
                ));
            }
            let reasoned = lines[index.saturating_sub(8)..=index]
                .iter()
                .any(|line| line.contains("// SAFETY:"));
            if is_unsafe && !reasoned {
                broken.push(format!("{name}:{}: no SAFETY comment", index + 1));
            }
        }
    }
    assert_none("unsafe code", broken);
}

#[test]
fn layers_do_not_leak() {
    let mut broken = Vec::new();
    for (name, text) in rust_files("src") {
        let quiet = |needle: &str, rooms: &[&str], broken: &mut Vec<String>| {
            let applies = rooms
                .iter()
                .any(|room| name.starts_with(&format!("src/{room}/")));
            for (index, line) in text.lines().enumerate() {
                if applies && !line.trim_start().starts_with("//") && line.contains(needle) {
                    broken.push(format!("{name}:{}: {needle}", index + 1));
                }
            }
        };
        quiet(
            "ErrorCode",
            &["storage", "partition", "record", "shard"],
            &mut broken,
        );
        quiet("TcpStream", &["storage", "partition"], &mut broken);
        quiet(
            "tokio",
            &["storage", "partition", "shard", "net", "api"],
            &mut broken,
        );
        quiet(
            "println!",
            &["storage", "partition", "shard", "net", "api", "base"],
            &mut broken,
        );
    }
    assert_none("a layer leaks", broken);
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = ["todo!(", "unimplemented!(", "FIXME", "XXX", "dbg!("];
    let mut broken = Vec::new();
    for (name, text) in rust_files("src") {
        for (index, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                broken.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    assert_none("unfinished", broken);
}
