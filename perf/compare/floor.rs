//! The floor under end-to-end latency: a bare write-and-fdatasync loop at a fixed rate.
//!
//! Records are due at fixed moments. One thread waits for the next one, appends all that are due to
//! a file in one write, calls fdatasync, and notes for each record how long that was after it had
//! been due. There is no network, no protocol, no batch, no checksum and no reader. The file has
//! its room beforehand, and nothing was ever written there, as in a new segment; direct writes into
//! blocks that were written before are faster (kernel-notes/preallocation.md).
//!
//! rustc -O --edition 2024 floor.rs; floor FILE RATE BYTES WARMUP-SECONDS SECONDS HGRM

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// The last part of a wait is not slept through: the kernel lets sleeps be longer by 50 us.
const SPUN: Duration = Duration::from_micros(100);
/// Percentiles go in so many steps for each halving of what is left.
const STEPS_PER_HALF: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path, rate, bytes, warmup, seconds, hgrm] = arguments.as_slice() else {
        return Err("FILE RATE BYTES WARMUP-SECONDS SECONDS HGRM".into());
    };
    let (rate, bytes): (u64, usize) = (rate.parse()?, bytes.parse()?);
    let (warmup, seconds): (u64, u64) = (warmup.parse()?, seconds.parse()?);
    let file = OpenOptions::new().write(true).open(path)?;
    let (first, last) = (warmup * rate, (warmup + seconds) * rate);
    let data = vec![b'r'; bytes * rate as usize];
    let mut times = Vec::with_capacity((last - first) as usize);
    let (mut taken, mut at) = (0, 0);
    let began = Instant::now();
    let due_at = |record: u64| Duration::from_nanos(record * 1_000_000_000 / rate);
    while taken < last {
        wait_until(began, due_at(taken));
        let now = began.elapsed();
        let due = (now.as_nanos() * u128::from(rate) / 1_000_000_000) as u64 + 1;
        // What is due in a second at most goes into one write.
        let due = due.min(last).min(taken + rate);
        let size = (due - taken) as usize * bytes;
        file.write_all_at(&data[..size], at)?;
        file.sync_data()?;
        at += size as u64;
        let done = began.elapsed();
        let counted = taken.max(first)..due.max(first);
        times.extend(counted.map(|record| (done - due_at(record)).as_nanos() as u64));
        taken = due;
    }
    times.sort_unstable();
    fs::write(hgrm, percentiles(&times))?;
    let ms = |quantile: f64| at_quantile(&times, quantile);
    println!(
        "{{\"records\":{},\"p50_ms\":{},\"p90_ms\":{},\"p99_ms\":{},\"p99_9_ms\":{},\
         \"p99_99_ms\":{},\"max_ms\":{}}}",
        times.len(),
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(0.999),
        ms(0.9999),
        ms(1.0),
    );
    Ok(())
}

fn wait_until(began: Instant, due: Duration) {
    loop {
        let left = due.saturating_sub(began.elapsed());
        if left.is_zero() {
            return;
        }
        if left > SPUN {
            std::thread::sleep(left - SPUN);
        }
    }
}

/// The smallest time that so large a share of the records did not exceed, in ms.
fn at_quantile(times: &[u64], quantile: f64) -> f64 {
    let rank = (times.len() as f64 * quantile).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1] as f64 / 1e6
}

/// The times by percentile, as HdrHistogram's tools plot them.
fn percentiles(times: &[u64]) -> String {
    let mut text = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n".to_owned();
    let mut left = 1.0_f64;
    while left * times.len() as f64 > 0.5 {
        let quantile = 1.0 - left;
        let value = at_quantile(times, quantile);
        let count = times.partition_point(|time| *time as f64 / 1e6 <= value);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{value:12.3} {quantile:14.12} {count:10} {:14.2}",
            1.0 / left
        );
        left *= 0.5_f64.powf(1.0 / f64::from(STEPS_PER_HALF));
    }
    text
}
