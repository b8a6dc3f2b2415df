//! Prints the lines of JSON of a run as tables: the median of each cell's repeats, and for the
//! latency also the lowest and the highest.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::Result;

/// What makes two lines repeats of one cell; the first six head a table.
const KEYS: [&str; 8] = [
    "what",
    "fs",
    "partitions",
    "bytes",
    "blocks",
    "load",
    "design",
    "in_flight",
];
const HEAD: usize = 6;

/// Prints every cell of `path` in the order of its first line.
pub fn print(path: &Path) -> Result<()> {
    let mut order = Vec::new();
    let mut cells: HashMap<Vec<String>, Vec<String>> = HashMap::new();
    for line in fs::read_to_string(path)?.lines() {
        if field(line, "p50_ms").is_none() {
            println!("{line}");
            continue;
        }
        let key: Vec<_> = KEYS
            .iter()
            .map(|name| field(line, name).unwrap_or("").to_owned())
            .collect();
        let repeats = cells.entry(key.clone()).or_default();
        if repeats.is_empty() {
            order.push(key);
        }
        repeats.push(line.to_owned());
    }
    // Tables in order of appearance, also when a later repeat brought new cells.
    let mut heads: Vec<&[String]> = order.iter().map(|key| &key[..HEAD]).collect();
    heads.dedup();
    let mut printed = Vec::new();
    for head in heads {
        if printed.contains(&head) {
            continue;
        }
        printed.push(head);
        println!("\n{}\n", head.join(" ").trim_end());
        println!(
            "| design | p50 ms (lowest-highest) | p99 ms | MB/s | process CPU s/GiB | \
             kernel threads s/GiB | written / asked | flushes / ack |\n\
             |---|---|---|---|---|---|---|---|"
        );
        for key in order.iter().filter(|key| &key[..HEAD] == head) {
            print_row(key, &cells[key])?;
        }
    }
    Ok(())
}

fn print_row(key: &[String], repeats: &[String]) -> Result<()> {
    let p50 = sorted(repeats, "p50_ms")?;
    let middle = |name: &str| Ok::<_, Box<dyn std::error::Error>>(median(&sorted(repeats, name)?));
    println!(
        "| {} {} | {} ({}-{}) | {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} |",
        key[HEAD],
        key[HEAD + 1],
        median(&p50),
        p50[0],
        p50[p50.len() - 1],
        middle("p99_ms")?,
        middle("mb_s")?,
        middle("cpu_s_gib")?,
        middle("kernel_s_gib")?,
        middle("written_ratio")?,
        middle("flushes")? / middle("acks")?,
    );
    Ok(())
}

fn sorted(lines: &[String], name: &str) -> Result<Vec<f64>> {
    let mut values = lines
        .iter()
        .map(|line| Ok(field(line, name).ok_or("a line lacks a figure")?.parse()?))
        .collect::<Result<Vec<f64>>>()?;
    values.sort_by(f64::total_cmp);
    Ok(values)
}

fn median(sorted: &[f64]) -> f64 {
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

/// The value of one field of a flat line of JSON as `print` in `main.rs` writes it.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
    let end = rest.find([',', '}'])?;
    Some(rest[..end].trim_matches('"'))
}
