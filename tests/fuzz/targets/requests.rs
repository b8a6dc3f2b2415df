//! Every request's decoder. The input is a frame without its length, header included. What can be
//! read can be written, reads as the same, and takes no more memory than its frame allows.

use bytes::Bytes;
use millrace::base::limits::{DECODED_BYTES_PER_FRAME_BYTE_MAX, DECODED_BYTES_SLACK};
use millrace::protocol::frame;
use millrace::protocol::wire::{Message, Request};

use super::apis::{Visit, visit};
use super::memory::most_held;

/// A frame without its length.
pub fn target(data: &[u8]) {
    let Ok(request) = frame::parse_request(Bytes::copy_from_slice(data)) else {
        return;
    };
    if request.is_unsupported_api_versions() {
        return;
    }
    let header = request.header;
    let recoded = visit(header.key, Recode(request.body, header.version));
    recoded.expect("only what is served passes the header");
}

struct Recode(Bytes, i16);

impl Visit for Recode {
    type Output = ();

    fn visit<R: Request>(self) {
        recode::<R>(&self.0, self.1);
    }
}

/// Reads a message, writes what was read, and reads it again.
pub fn recode<M: Message>(bytes: &Bytes, version: i16) {
    let (read, held) = most_held(|| M::from_bytes(bytes.clone(), version));
    let allowed = bytes.len() * DECODED_BYTES_PER_FRAME_BYTE_MAX + DECODED_BYTES_SLACK + 4096;
    let (name, length) = (M::NAME, bytes.len());
    assert!(
        held <= allowed,
        "{name} {version}: {held} bytes for a body of {length}"
    );
    let Ok(message) = read else {
        return;
    };
    let written = message.to_bytes(version);
    let written = written.unwrap_or_else(|error| panic!("{name} {version}: {error}"));
    let again = M::from_bytes(written.clone(), version);
    let again = again.unwrap_or_else(|error| panic!("{name} {version}: {error}"));
    assert_eq!(again.to_bytes(version), Ok(written), "{name} {version}");
}
