//! The headers of a record that was read. A command's thread.
//!
//! The crate takes a header's name for UTF-8 and panics where it is not; no broker looks at it, so
//! any client can write one.

use std::ffi::CStr;
use std::ptr;

use rdkafka::bindings as native;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;

/// A header: its name, up to a zero byte if it has one, and its value, which may be null.
pub(in crate::cli) type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// The headers of `record` in their order; none where it has none, or where what stands in their
/// place is none.
pub(in crate::cli) fn headers<'a>(record: &'a BorrowedMessage<'_>) -> Vec<Header<'a>> {
    let mut list = ptr::null_mut();
    // SAFETY: the message is alive as long as `record` is borrowed, and with it its headers, which
    // nobody detaches or replaces.
    let code = unsafe { native::rd_kafka_message_headers(record.ptr(), &raw mut list) };
    if RDKafkaErrorCode::from(code) != RDKafkaErrorCode::NoError {
        return Vec::new();
    }
    // SAFETY: as above; the call only reads the list.
    let count = unsafe { native::rd_kafka_header_cnt(list) };
    let header = |index| {
        let (mut name, mut value, mut bytes) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the list is alive, and each pointer is to a place of its own.
        let code = unsafe {
            let (name, value, bytes) = (&raw mut name, &raw mut value, &raw mut bytes);
            native::rd_kafka_header_get_all(list, index, name, value, bytes)
        };
        if RDKafkaErrorCode::from(code) != RDKafkaErrorCode::NoError {
            return None;
        }
        // SAFETY: the library ends each name with a zero byte, and a value that is not null has as
        // many bytes as it says. Both belong to the message.
        unsafe {
            let name = CStr::from_ptr(name).to_bytes();
            let value =
                (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), bytes));
            Some((name, value))
        }
    };
    (0..count).map_while(header).collect()
}
