//! Decompression of every codec under a cap. The first byte chooses the codec, compressed bytes
//! follow. Neither what comes out nor what is held meanwhile is more than the cap allows, buffers
//! that were used before change nothing, and what is compressed decompresses.

use std::cell::RefCell;

use millrace::base::limits::ZSTD_WINDOW_LOG_MAX;
use millrace::record::compression::compress;
use millrace::record::{Codec, CompressionError, Decompressor};

use super::choices::Choices;
use super::memory::most_held;

const BYTES_MAX: u64 = 1 << 20;
/// The output grows by doubling, and while it is moved there are both. Beside it LZ4 holds a block
/// of 4 MiB, as it came and decompressed, and the one before.
const HELD_MAX: usize = 3 * BYTES_MAX as usize + (14 << 20);

thread_local! {
    static USED: RefCell<Decompressor> = RefCell::new(Decompressor::new());
}

pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let codec = choices.pick(&Codec::ALL);
    let body = choices.rest();
    let (fresh, held) = most_held(|| decompress(&mut Decompressor::new(), codec, body));
    assert!(held <= HELD_MAX, "{held} bytes held for {codec}");
    if let Ok(out) = &fresh {
        assert!(out.len() as u64 <= BYTES_MAX);
    }
    let used = USED.with_borrow_mut(|used| decompress(used, codec, body));
    // What exactly is wrong may be found at another place.
    assert_eq!(
        used.ok(),
        fresh.ok(),
        "{codec} with buffers that were used before"
    );
    let packed = compress(codec, body).expect("anything can be compressed");
    let unpacked = USED.with_borrow_mut(|used| used.decompress(codec, &packed, BYTES_MAX));
    match body.len() as u64 {
        0..=BYTES_MAX => assert_eq!(unpacked.as_deref(), Ok(body), "{codec}"),
        _ => assert!(unpacked.is_err()),
    }
}

fn decompress(
    decompressor: &mut Decompressor,
    codec: Codec,
    body: &[u8],
) -> Result<Vec<u8>, CompressionError> {
    let out = decompressor.decompress(codec, body, BYTES_MAX);
    // The library's own memory is not seen by the count of what is held.
    let kept_max = BYTES_MAX as usize + (1 << ZSTD_WINDOW_LOG_MAX) + (1 << 20);
    let kept = decompressor.kept_bytes();
    assert!(kept <= kept_max, "{kept} bytes kept after {codec}");
    out
}
