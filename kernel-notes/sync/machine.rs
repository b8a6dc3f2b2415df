//! What a cell used of the machine: CPU of this process with its io workers, CPU of kernel
//! threads, and what reached the block device. Other work on the machine is in the kernel
//! threads' figure, so that one is an upper bound.

use std::fs;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::Result;
use crate::kernel_threads::{self, Times};

/// Between two readings.
pub struct Used {
    pub seconds: f64,
    pub process_cpu_s: f64,
    pub kernel_cpu_s: f64,
    pub device_bytes: u64,
    pub device_flushes: u64,
}

/// A first reading.
pub struct Meter {
    device: String,
    at: Instant,
    process_cpu_us: i64,
    kernel: Times,
    device_bytes: u64,
    device_flushes: u64,
}

impl Meter {
    pub fn start(device: &str) -> Result<Self> {
        let (device_bytes, device_flushes) = device_counters(device)?;
        Ok(Self {
            device: device.to_owned(),
            kernel: kernel_threads::times()?,
            process_cpu_us: process_cpu_us()?,
            at: Instant::now(),
            device_bytes,
            device_flushes,
        })
    }

    pub fn stop(self) -> Result<Used> {
        let seconds = self.at.elapsed().as_secs_f64();
        let process_cpu_us = process_cpu_us()? - self.process_cpu_us;
        let kernel_cpu_s = kernel_threads::seconds_since(&self.kernel)?;
        let (device_bytes, device_flushes) = device_counters(&self.device)?;
        Ok(Used {
            seconds,
            process_cpu_s: process_cpu_us as f64 / 1e6,
            kernel_cpu_s,
            device_bytes: device_bytes - self.device_bytes,
            device_flushes: device_flushes - self.device_flushes,
        })
    }
}

/// Bytes written to the device and flushes that it completed, since it exists.
pub fn device_counters(device: &str) -> Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/sys/block/{device}/stat"))?;
    let fields = text
        .split_whitespace()
        .map(str::parse)
        .collect::<std::result::Result<Vec<u64>, _>>()?;
    match (fields.get(6), fields.get(15)) {
        (Some(sectors), Some(flushes)) => Ok((sectors * 512, *flushes)),
        _ => Err("this kernel's block statistics have no flushes".into()),
    }
}

/// Includes the io workers, which are threads of this process.
fn process_cpu_us() -> Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
}
