//! Tests of the bounds on what is read, and of frames. Every message in every version is tested in
//! `tests/codec`, so that the crate's own tests stay quick to build.

mod frames;

use bytes::Bytes;
use bytestring::ByteString;

use crate::base::limits::{DECODED_BYTES_PER_FRAME_BYTE_MAX, DECODED_BYTES_SLACK};
use crate::protocol::error::DecodeError;
use crate::protocol::messages::metadata_request::MetadataRequest;
use crate::protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use crate::protocol::wire::{Message, Reader, Wire, Writer};

#[test]
fn counts_beyond_the_frame_reserve_nothing() {
    // Metadata version 1: an array of topics, each a string with a length of 16 bits.
    for count in [i32::MAX, 0x00ff_ffff, 3] {
        let mut writer = Writer::new();
        writer.int32(count);
        writer.int16(0);
        let frame = writer.into_bytes();
        let read = MetadataRequest::from_bytes(frame, 1);
        let expected = DecodeError::Count {
            at: 4,
            count: count as usize,
            left: 2,
        };
        assert_eq!(read, Err(expected));
    }
    for count in [-2, i32::MIN] {
        let frame = Bytes::copy_from_slice(&count.to_be_bytes());
        let read = MetadataRequest::from_bytes(frame, 1);
        assert_eq!(read, Err(DecodeError::Null { at: 4 }));
    }
}

#[test]
fn memory_is_a_small_multiple_of_the_frame() {
    // A frame full of empty strings: 32 bytes of memory for each byte of the frame.
    let count = 1 << 20;
    let mut writer = Writer::new();
    writer.unsigned_varint(count + 1);
    let mut frame = writer.into_bytes().to_vec();
    frame.extend(vec![1; count as usize]);
    let mut reader = Reader::new(frame.into());
    reader.begin_message(true);
    let read = reader.array::<ByteString>(0);
    assert_eq!(read, Err(DecodeError::Memory { at: 3 }));

    // Names as they are in real clusters pass, however many there are.
    let names = vec![ByteString::from_static("name"); 1 << 20];
    let mut writer = Writer::new();
    writer.begin_message("", true);
    writer.array(&names, 0).expect("short names");
    let mut reader = Reader::new(writer.into_bytes());
    reader.begin_message(true);
    assert_eq!(reader.array(0), Ok(names));
}

/// A small frame may hold anything: what its elements take stays within the slack.
#[test]
fn small_frames_never_run_out_of_memory() {
    let worst = size_of::<ByteString>() / ByteString::BYTES_MIN;
    let bytes = DECODED_BYTES_SLACK / (worst - DECODED_BYTES_PER_FRAME_BYTE_MAX);
    assert!(
        bytes > 8 << 10,
        "frames up to {bytes} bytes are never refused"
    );
}

#[test]
fn numbers_of_variable_length_have_32_bits() {
    let read = |bytes: &'static [u8]| Reader::new(Bytes::from_static(bytes)).unsigned_varint();
    for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 28, u32::MAX] {
        let mut writer = Writer::new();
        writer.unsigned_varint(value);
        let mut reader = Reader::new(writer.into_bytes());
        assert_eq!(reader.unsigned_varint(), Ok(value));
    }
    assert_eq!(read(b"\xff\xff\xff\xff\x0f"), Ok(u32::MAX));
    assert_eq!(
        read(b"\xff\xff\xff\xff\x1f"),
        Err(DecodeError::Varint { at: 5 })
    );
    assert_eq!(
        read(b"\x80\x80\x80\x80\x80\x00"),
        Err(DecodeError::Varint { at: 5 })
    );
    assert!(matches!(
        read(b"\x80"),
        Err(DecodeError::Truncated { at: 1, .. })
    ));
}

#[test]
fn strings_and_records_are_handles_to_the_frame() {
    let partition = PartitionProduceData {
        index: 1,
        records: Some(Bytes::from_static(b"batches")),
    };
    let request = ProduceRequest {
        topic_data: vec![TopicProduceData {
            name: "topic".into(),
            partition_data: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    for version in 3..=12 {
        let frame = request.to_bytes(version).expect("a request");
        let within = |part: &[u8]| frame.as_ptr_range().contains(&part.as_ptr());
        let read = ProduceRequest::from_bytes(frame.clone(), version).expect("a request");
        assert_eq!(read, request);
        let topic = &read.topic_data[0];
        let records = topic.partition_data[0].records.as_ref().expect("records");
        assert!(
            within(topic.name.as_bytes()) && within(records),
            "version {version}"
        );
    }
}
