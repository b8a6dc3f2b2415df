//! What of librdkafka the `rdkafka` crate does not wrap, or not as a command needs it. A command's
//! thread.
//!
//! Admin requests: a thread asks one and waits for its answer. The crate has no calls for groups
//! beside deleting them, and drops the reason that a broker gives beside an error code, which is
//! most of what a person needs. Reading: without a group, and headers whose names are any bytes.
//!
//! Here is all unsafe code of the commands. Every native object has one owner that frees it, and
//! nothing that points into an answer outlives it: answers are copied into owned values before they
//! are given out.

#![allow(unsafe_code)]

mod codes;
mod groups;
mod headers;
mod reading;
mod topics;

#[cfg(test)]
mod tests;

use std::ffi::{CStr, CString, c_char, c_int};
use std::time::{Duration, Instant};

use rdkafka::bindings as native;
use rdkafka::error::RDKafkaErrorCode;

use codes::refusal;
pub(super) use groups::{GroupCoordinator, GroupDescription, GroupMember, generation_of};
pub(super) use headers::{Header, headers};
pub(super) use reading::Reading;
pub(super) use topics::TopicToCreate;

/// How much longer than the request's own deadline an answer is waited for: librdkafka itself
/// answers at the deadline, with what it knows.
const GRACE: Duration = Duration::from_secs(2);

/// How soon a coordinator that is not ready is asked again.
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What a broker, or the client library, answered instead of doing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Kafka's code, or one of the library's own.
    pub(super) code: RDKafkaErrorCode,
    /// Why, in the broker's words where it had any.
    pub(super) reason: String,
}

impl Refusal {
    /// With no more words than the code has.
    pub(super) fn of(code: RDKafkaErrorCode) -> Self {
        Self::local(code, code.to_string())
    }

    /// Whether the broker answered so; otherwise it is the library, as where nobody answers.
    pub(super) fn is_the_brokers(&self) -> bool {
        // The library's own codes are below nought, as its header says.
        self.code as i32 >= 0 || self.code == RDKafkaErrorCode::Unknown
    }

    fn local(code: RDKafkaErrorCode, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { code, reason }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reason = self.reason.trim_end_matches('.');
        // The library's descriptions begin with who says so; both are clear from the context.
        f.write_str(reason.strip_prefix("Broker: ").unwrap_or(reason))
    }
}

impl Refusal {
    /// Whether the coordinator of a group is just being found, or loads its groups.
    fn is_early(&self) -> bool {
        matches!(
            self.code,
            RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::NotCoordinator
        )
    }
}

/// What became of one thing of a request, by its name.
pub(super) type Outcome = (String, Result<(), Refusal>);

/// A client that admin requests go through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admin<'a> {
    client: *mut native::rd_kafka_t,
    timeout: Duration,
    only_validate: bool,
    /// The client outlives whoever holds its pointer.
    _client: std::marker::PhantomData<&'a ()>,
}

impl<'a> Admin<'a> {
    /// Requests through `client`, each of which may take as long as `timeout`.
    pub(super) fn new<C: rdkafka::ClientContext>(
        client: &'a rdkafka::client::Client<C>,
        timeout: Duration,
    ) -> Self {
        Self {
            client: client.native_ptr(),
            timeout,
            only_validate: false,
            _client: std::marker::PhantomData,
        }
    }

    /// Has the broker only check what it is asked, where the request knows that.
    pub(super) fn only_validate(mut self, only_validate: bool) -> Self {
        self.only_validate = only_validate;
        self
    }

    /// Asks again while the coordinator of a group is not ready, which the library only does for
    /// some requests: a broker that has just started loads its groups first.
    fn when_ready<T>(
        &self,
        ask: impl Fn() -> Result<T, Refusal>,
        is_early: impl Fn(&T) -> bool,
    ) -> Result<T, Refusal> {
        let end = Instant::now() + self.timeout;
        loop {
            let answer = ask();
            let asks_again = match &answer {
                Ok(answer) => is_early(answer),
                Err(refusal) => refusal.is_early(),
            };
            if !asks_again || Instant::now() >= end {
                return answer;
            }
            std::thread::sleep(ASKED_AGAIN_AFTER);
        }
    }

    /// Sends what `send` sends, and waits for its answer.
    fn ask(
        &self,
        send: impl FnOnce(
            *mut native::rd_kafka_t,
            *const native::rd_kafka_AdminOptions_t,
            *mut native::rd_kafka_queue_t,
        ),
    ) -> Result<Answer, Refusal> {
        let options = Options::new(self)?;
        // SAFETY: the client lives as long as `self` by the lifetime of `Admin`; the queue is
        // destroyed by its owner below.
        let queue = Queue(unsafe { native::rd_kafka_queue_new(self.client) });
        send(self.client, options.0, queue.0);
        let wait_ms = milliseconds(self.timeout + GRACE);
        // SAFETY: the queue is alive. The event is owned by the caller, and destroyed by `Answer`.
        let event = unsafe { native::rd_kafka_queue_poll(queue.0, wait_ms) };
        if event.is_null() {
            let code = RDKafkaErrorCode::OperationTimedOut;
            return Err(Refusal::local(
                code,
                format!("no answer within {:?}", self.timeout),
            ));
        }
        let answer = Answer(event);
        // SAFETY: the event is alive; both calls only read it.
        let (code, reason) = unsafe {
            let code = codes::rd_kafka_event_error(answer.0);
            (code, text(native::rd_kafka_event_error_string(answer.0)))
        };
        match refusal(code, reason) {
            Some(refusal) => Err(refusal),
            None => Ok(answer),
        }
    }
}

/// Asks about all of `ids`, and until `end` again about those whose coordinator is not ready: what
/// was done for the others is not to be asked for twice.
fn ask_each(
    ids: &[&str],
    end: Instant,
    mut ask: impl FnMut(&[&str]) -> Result<Vec<Outcome>, Refusal>,
) -> Result<Vec<Outcome>, Refusal> {
    let (mut settled, mut early) = (Vec::new(), Vec::<Outcome>::new());
    loop {
        let pending: Vec<&str> = match early.is_empty() {
            true => ids.to_vec(),
            false => early.iter().map(|(id, _)| id.as_str()).collect(),
        };
        let answer = ask(&pending);
        let is_last = Instant::now() >= end;
        match answer {
            Ok(outcomes) => {
                let was_late = |id: &str| {
                    let before = early.iter().find(|(asked, _)| asked == id);
                    before.is_some_and(|(_, outcome)| is_refused(outcome, LATE))
                };
                let settle = |(id, outcome): Outcome| match is_refused(&outcome, UNKNOWN) {
                    // The coordinator went on with what it had no time left to answer.
                    true if was_late(&id) => (id, Ok(())),
                    _ => (id, outcome),
                };
                let outcomes = outcomes.into_iter().map(settle);
                let is_early = |(_, outcome): &Outcome| !is_last && is_early(outcome);
                let (again, done): (Vec<_>, Vec<_>) = outcomes.partition(is_early);
                settled.extend(done);
                early = again;
                if early.is_empty() {
                    return Ok(settled);
                }
            }
            Err(refusal) if refusal.is_early() && !is_last => {}
            Err(refusal) if early.is_empty() => return Err(refusal),
            Err(refusal) => {
                settled.extend(early.into_iter().map(|(id, _)| (id, Err(refusal.clone()))));
                return Ok(settled);
            }
        }
        std::thread::sleep(ASKED_AGAIN_AFTER);
    }
}

/// How a coordinator answers that waits for its log for too long.
const LATE: RDKafkaErrorCode = RDKafkaErrorCode::CoordinatorNotAvailable;
/// How it answers when a group is not there.
const UNKNOWN: RDKafkaErrorCode = RDKafkaErrorCode::GroupIdNotFound;

fn is_refused(result: &Result<(), Refusal>, code: RDKafkaErrorCode) -> bool {
    result.as_ref().is_err_and(|refusal| refusal.code == code)
}

fn is_early<T>(result: &Result<T, Refusal>) -> bool {
    result.as_ref().is_err_and(Refusal::is_early)
}

/// The answer to a request; what it holds is borrowed from it.
struct Answer(*mut native::rd_kafka_event_t);

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: it came from a poll, which hands ownership over, and nothing else destroys it.
        unsafe { native::rd_kafka_event_destroy(self.0) }
    }
}

#[derive(Debug)]
struct Queue(*mut native::rd_kafka_queue_t);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_new`, destroyed once.
        unsafe { native::rd_kafka_queue_destroy(self.0) }
    }
}

struct Options(*mut native::rd_kafka_AdminOptions_t);

impl Options {
    fn new(admin: &Admin<'_>) -> Result<Self, Refusal> {
        let any = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ANY;
        // SAFETY: the client is alive; `Drop` destroys the options.
        let options = Self(unsafe { native::rd_kafka_AdminOptions_new(admin.client, any) });
        let mut reason = [0; REASON_BYTES];
        let timeout_ms = milliseconds(admin.timeout);
        // SAFETY: the options are alive, and the buffer is as long as is said.
        let codes = unsafe {
            let (buffer, bytes) = (reason.as_mut_ptr(), reason.len());
            let only_validate = i32::from(admin.only_validate);
            [
                native::rd_kafka_AdminOptions_set_request_timeout(
                    options.0, timeout_ms, buffer, bytes,
                ),
                native::rd_kafka_AdminOptions_set_operation_timeout(
                    options.0, timeout_ms, buffer, bytes,
                ),
                native::rd_kafka_AdminOptions_set_validate_only(
                    options.0,
                    only_validate,
                    buffer,
                    bytes,
                ),
            ]
        };
        for code in codes {
            // A code of the library's own.
            if let Some(refusal) = refusal(code as c_int, written(&reason)) {
                return Err(refusal);
            }
        }
        Ok(options)
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_AdminOptions_new`, destroyed once.
        unsafe { native::rd_kafka_AdminOptions_destroy(self.0) }
    }
}

/// What the library writes reasons into.
const REASON_BYTES: usize = 512;

fn written(buffer: &[c_char; REASON_BYTES]) -> String {
    let bytes = buffer.iter().map(|c| c.cast_unsigned());
    let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// A name as C has it.
fn c_string(name: &str) -> Result<CString, Refusal> {
    CString::new(name).map_err(|_| {
        let reason = format!("{name:?} holds a zero byte");
        Refusal::local(RDKafkaErrorCode::InvalidArgument, reason)
    })
}

/// Copies a string of the library's; empty where there is none.
///
/// # Safety
/// `string` is null or points to a string that ends with a zero byte.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: not null, and a C string by the caller's promise.
    unsafe { CStr::from_ptr(string) }
        .to_string_lossy()
        .into_owned()
}

/// The items of an array that belongs to an answer.
///
/// # Safety
/// `array` is null or points to `count` items that live as long as `_owner` is borrowed.
unsafe fn items<T: Copy>(array: *const T, count: usize, _owner: &Answer) -> &[T] {
    if array.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: not null, and `count` items by the caller's promise.
    unsafe { std::slice::from_raw_parts(array, count) }
}
