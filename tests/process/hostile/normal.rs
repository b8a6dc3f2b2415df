//! A producer and a consumer that go about their business, and the times that it takes them. A time
//! counts from the moment at which the record was due, however late it was sent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kacrab_protocol::generated::ApiKey;

use crate::support::batches::batch;
use crate::support::requests::{self, fetched, produced};
use crate::support::wire::Wire;

pub const TOPIC: &str = "normal";
/// A record is due this often: seldom enough for a busy machine to keep up, since whatever it does
/// not manage makes all that follow late.
const PACE: Duration = Duration::from_millis(20);

/// Times in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// Until the record was acknowledged.
    pub produce: Vec<u64>,
    /// Until it was consumed.
    pub consume: Vec<u64>,
}

impl Times {
    pub fn add(&mut self, mut more: Self) {
        self.produce.append(&mut more.produce);
        self.consume.append(&mut more.consume);
    }
}

/// One that is exceeded by one of a hundred.
pub fn p99(times: &[u64]) -> u64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = sorted.len() * 99 / 100;
    sorted.get(at).copied().expect("some times")
}

pub struct Normal {
    stop: Arc<AtomicBool>,
    times: Arc<Mutex<Times>>,
    threads: [JoinHandle<()>; 2],
}

impl Normal {
    /// Starts both, on a topic of one partition with nothing in it.
    pub fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let times = Arc::new(Mutex::new(Times::default()));
        let base = Instant::now();
        let producer = {
            let (wire, stop, times) = (Wire::connect(port), stop.clone(), times.clone());
            thread::spawn(move || produce(wire, base, &stop, &times))
        };
        let consumer = {
            let (wire, stop, times) = (Wire::connect(port), stop.clone(), times.clone());
            thread::spawn(move || consume(wire, base, &stop, &times))
        };
        Self {
            stop,
            times,
            threads: [producer, consumer],
        }
    }

    /// The times since this was asked last.
    pub fn take(&self) -> Times {
        std::mem::take(&mut locked(&self.times))
    }

    /// Ends both. They fail if a request of theirs has failed.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a normal client was disturbed");
        }
    }
}

fn locked(times: &Mutex<Times>) -> std::sync::MutexGuard<'_, Times> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).expect("a short time")
}

fn produce(mut wire: Wire, base: Instant, stop: &AtomicBool, times: &Mutex<Times>) {
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        due += PACE;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let value = (due - base).as_nanos() as u64;
        let request = requests::produce(TOPIC, 0, -1, &batch(&[&value.to_be_bytes()]));
        let mut answer = wire.call(ApiKey::Produce, 9, |body, v| request.write(body, v));
        assert_eq!(produced(&mut answer, 9).error_code, 0);
        locked(times).produce.push(micros(due));
    }
}

fn consume(mut wire: Wire, base: Instant, stop: &AtomicBool, times: &Mutex<Times>) {
    let mut offset = 0;
    while !stop.load(Ordering::Relaxed) {
        let request = requests::fetch(TOPIC, 0, offset)
            .with_max_wait_ms(500)
            .with_min_bytes(1);
        let mut answer = wire.call(ApiKey::Fetch, 12, |body, v| request.write(body, v));
        let answer = fetched(&mut answer, 12);
        assert_eq!(answer.error_code, 0);
        let records = answer.records.unwrap_or_default();
        let mut rest = &records[..];
        while let Some((base_offset, value, behind)) = first_batch(rest) {
            assert_eq!(base_offset, offset, "the next record");
            let due = base + Duration::from_nanos(value);
            locked(times).consume.push(micros(due));
            offset += 1;
            rest = behind;
        }
    }
}

/// The offset and the value of the first batch, which has one record of eight bytes; and what
/// follows.
fn first_batch(bytes: &[u8]) -> Option<(i64, u64, &[u8])> {
    let base_offset = i64::from_be_bytes(*bytes.first_chunk()?);
    let length = i32::from_be_bytes(*bytes.get(8..)?.first_chunk()?);
    let end = 12 + usize::try_from(length).expect("a positive length");
    let batch = bytes.get(..end)?;
    // The number of headers, 0, stands behind the value.
    let value = batch[..end - 1].last_chunk().expect("a record");
    Some((base_offset, u64::from_be_bytes(*value), &bytes[end..]))
}
