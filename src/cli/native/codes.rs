//! Error codes as numbers. The bindings declare them as an enum of the codes that librdkafka knows,
//! and a broker may answer any other, which as a value of that enum is undefined behaviour: the
//! calls and the field that hand a broker's code on are read as the integer that they are in C.

use std::ffi::c_int;

use rdkafka::bindings as native;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;

use super::Refusal;

// The size that makes the declarations below the same to C.
const _: () = assert!(size_of::<RDKafkaRespErr>() == size_of::<c_int>());

// SAFETY: as the header of librdkafka declares them, where an enum is an int.
unsafe extern "C" {
    pub(super) fn rd_kafka_event_error(event: *mut native::rd_kafka_event_t) -> c_int;
    pub(super) fn rd_kafka_error_code(error: *const native::rd_kafka_error_t) -> c_int;
    pub(super) fn rd_kafka_topic_result_error(
        result: *const native::rd_kafka_topic_result_t,
    ) -> c_int;
}

/// The error of a partition in a list.
pub(super) fn error_of(element: &native::rd_kafka_topic_partition_t) -> c_int {
    let field = (&raw const element.err).cast::<c_int>();
    // SAFETY: the field is alive and aligned, and any four bytes are an integer.
    unsafe { field.read() }
}

/// What a code says; none where it is no error. A code that the library has no name for keeps its
/// number, so that Kafka's list of codes can be asked.
pub(super) fn refusal(number: c_int, reason: String) -> Option<Refusal> {
    let known = RDKafkaRespErr::try_from(number).ok();
    let code = known.map_or(RDKafkaErrorCode::Unknown, RDKafkaErrorCode::from);
    let reason = match (known, reason.is_empty()) {
        (Some(_), true) => code.to_string(),
        (None, true) => format!("Kafka's error code {number}"),
        (Some(_), false) => reason,
        (None, false) => format!("{reason} (Kafka's error code {number})"),
    };
    (code != RDKafkaErrorCode::NoError).then_some(Refusal { code, reason })
}
