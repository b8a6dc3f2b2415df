//! Round trips, caps and damage, codec by codec. Tests only.

use proptest::prelude::*;

use super::*;

const CODECS: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn unpack(codec: Codec, body: &[u8], bytes_max: u64) -> Result<Vec<u8>, CompressionError> {
    Decompressor::new().decompress(codec, body, bytes_max)
}

/// Bytes that compress somewhat and differ everywhere.
fn text(bytes: usize) -> Vec<u8> {
    let mut text: Vec<u8> = (0..bytes / 8)
        .flat_map(|n| (n as u64).to_be_bytes())
        .collect();
    text.resize(bytes, b'.');
    text
}

#[test]
fn codec_ids_are_those_of_the_format() {
    let names: Vec<_> = Codec::ALL.iter().map(|codec| codec.name()).collect();
    assert_eq!(names, ["none", "gzip", "snappy", "lz4", "zstd"]);
    for (id, codec) in Codec::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(codec.id()), id);
        assert_eq!(Codec::from_id(id as u8), Ok(codec));
    }
    assert_eq!(Codec::from_id(5), Err(5));
}

#[test]
fn every_size_around_windows_and_blocks_comes_back() {
    let mut decompressor = Decompressor::new();
    for codec in Codec::ALL {
        for near in [0_usize, 1, 32 << 10, 64 << 10, 300_000] {
            for bytes in [near, near + 1, near.saturating_sub(1)] {
                let body = text(bytes);
                let packed = compress(codec, &body).expect("compresses");
                let unpacked = decompressor.decompress(codec, &packed, bytes as u64);
                assert_eq!(unpacked.as_deref(), Ok(body.as_slice()), "{codec} {bytes}");
            }
        }
    }
}

#[test]
fn one_byte_over_the_cap_is_an_error() {
    for codec in Codec::ALL {
        let packed = compress(codec, &text(100_000)).expect("compresses");
        assert!(unpack(codec, &packed, 100_000).is_ok(), "{codec}");
        let bytes_max = 99_999;
        let too_large = Err(CompressionError::TooLarge { bytes_max });
        assert_eq!(unpack(codec, &packed, bytes_max), too_large, "{codec}");
    }
}

#[test]
fn a_bomb_is_stopped_at_the_cap_without_its_memory() {
    let zeros = vec![0; 64 << 20];
    for codec in CODECS {
        let packed = compress(codec, &zeros).expect("compresses");
        let mut decompressor = Decompressor::new();
        let mut stream = decompressor.stream(codec, &packed, 1 << 20).expect("opens");
        let mut read = 0;
        let error = loop {
            match stream.fill() {
                Ok(true) => read += stream.ready().len(),
                Ok(false) => panic!("{codec} ended at {read} bytes"),
                Err(error) => break error,
            }
            stream.consume(stream.ready().len());
        };
        assert_eq!(error, CompressionError::TooLarge { bytes_max: 1 << 20 });
        assert!(read <= 1 << 20, "{codec} gave {read} bytes");
        drop(stream);
        decompressor.release_large();
        assert!(decompressor.kept_bytes() <= 2 * DECOMPRESSION_SCRATCH_KEPT_BYTES_MAX);
    }
}

#[test]
fn a_snappy_block_that_claims_more_than_its_bytes_can_say_takes_no_memory() {
    // A raw block whose length varint says 4 GiB - 1.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    let mut decompressor = Decompressor::new();
    let unpacked = decompressor.decompress(Codec::Snappy, &claim, u64::MAX);
    assert_eq!(unpacked, Err(CompressionError::Garbage));
    assert_eq!(decompressor.snappy_block.capacity(), 0);
}

#[test]
fn snappy_is_read_raw_framed_and_as_streams_in_a_row() {
    let body = text(5_000);
    let raw = snap::raw::Encoder::new()
        .compress_vec(&body)
        .expect("compresses");
    assert_eq!(unpack(Codec::Snappy, &raw, 5_000), Ok(body.clone()));
    let framed = compress(Codec::Snappy, &body).expect("compresses");
    let twice = [framed.clone(), framed].concat();
    assert_eq!(
        unpack(Codec::Snappy, &twice, 10_000),
        Ok([body.clone(), body].concat())
    );
    assert_eq!(unpack(Codec::Snappy, &[], 10), Ok(Vec::new()));
}

#[test]
fn gzip_members_and_zstd_frames_in_a_row_are_read() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let two = [
            compress(codec, b"one").expect("compresses"),
            compress(codec, b"two").expect("compresses"),
        ]
        .concat();
        assert_eq!(
            unpack(codec, &two, 6).as_deref(),
            Ok(&b"onetwo"[..]),
            "{codec}"
        );
    }
}

#[test]
fn formats_that_kafkas_clients_cannot_read_are_refused() {
    let linked = {
        let info = FrameInfo::new().block_mode(lz4_flex::frame::BlockMode::Linked);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&text(1_000)).expect("compresses");
        encoder.finish().expect("compresses")
    };
    let legacy_lz4 = [0x02, 0x21, 0x4c, 0x18, 4, 0, 0, 0, 0x30, b'a', b'b', b'c'].to_vec();
    let legacy_zstd = [0x27, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0].to_vec();
    let skippable_zstd = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0].to_vec();
    let table = [
        (Codec::Lz4, linked),
        (Codec::Lz4, legacy_lz4),
        (Codec::Zstd, legacy_zstd),
        (Codec::Zstd, skippable_zstd),
        (Codec::Gzip, b"not gzip at all".to_vec()),
    ];
    for (codec, body) in table {
        assert_eq!(
            unpack(codec, &body, 1 << 20),
            Err(CompressionError::Garbage),
            "{codec}"
        );
    }
}

#[test]
fn data_cut_anywhere_never_comes_back_whole() {
    let body = text(3_000);
    for codec in CODECS {
        let packed = compress(codec, &body).expect("compresses");
        // The end mark of LZ4 and the trailer of gzip carry no data: without them the data may
        // still come out, and the count of records decides.
        for cut in 0..packed.len() - 16 {
            let unpacked = unpack(codec, &packed[..cut], 1 << 20);
            assert_ne!(
                unpacked.as_deref(),
                Ok(body.as_slice()),
                "{codec} cut at {cut}"
            );
        }
    }
}

proptest! {
    #[test]
    fn anything_comes_back(body in prop::collection::vec(any::<u8>(), 0..5_000)) {
        for codec in Codec::ALL {
            let packed = compress(codec, &body).expect("compresses");
            let unpacked = unpack(codec, &packed, 5_000);
            prop_assert_eq!(unpacked.as_deref(), Ok(body.as_slice()));
        }
    }

    #[test]
    fn damage_and_noise_never_panic_and_never_pass_the_cap(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        noise in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut decompressor = Decompressor::new();
        for codec in CODECS {
            let mut packed = compress(codec, &text(2_000)).expect("compresses");
            for (at, byte) in &flips {
                let at = at.index(packed.len());
                packed[at] ^= byte;
            }
            for body in [&packed, &noise] {
                if let Ok(unpacked) = decompressor.decompress(codec, body, 10_000) {
                    prop_assert!(unpacked.len() <= 10_000);
                }
            }
        }
    }
}
