//! CPU time by kernel thread: the children of kthreadd. Other work of the machine is in it too.

use std::collections::HashMap;
use std::error::Error;
use std::fs;

/// Nanoseconds by process id.
pub type Times = HashMap<u32, u64>;

/// What each kernel thread has used so far.
pub fn times() -> Result<Times, Box<dyn Error>> {
    let mut threads = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A thread may end between the listing and the reading.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if parent != Some("2") {
            continue;
        }
        let Ok(times) = fs::read_to_string(format!("/proc/{pid}/schedstat")) else {
            continue;
        };
        if let Some(ns) = times.split_whitespace().next() {
            threads.insert(pid, ns.parse()?);
        }
    }
    Ok(threads)
}

/// The seconds that all of them have used since `before`.
pub fn seconds_since(before: &Times) -> Result<f64, Box<dyn Error>> {
    let used = |(pid, ns): (u32, u64)| ns.saturating_sub(before.get(&pid).copied().unwrap_or(0));
    Ok(times()?.into_iter().map(used).sum::<u64>() as f64 / 1e9)
}
