//! Tests of frames and headers, and of what is refused there.

use bytes::{Bytes, BytesMut};

use crate::protocol::api::{ApiKey, SUPPORTED};
use crate::protocol::error::{DecodeError, EncodeError};
use crate::protocol::frame::{self, FrameError};
use crate::protocol::messages::api_versions_request::ApiVersionsRequest;
use crate::protocol::messages::api_versions_response::ApiVersionsResponse;
use crate::protocol::messages::fetch_request::FetchRequest;
use crate::protocol::messages::fetch_response::{
    FetchResponse, FetchableTopicResponse, PartitionData,
};
use crate::protocol::messages::list_offsets_request::ListOffsetsRequest;
use crate::protocol::messages::metadata_request::MetadataRequest;
use crate::protocol::records::Records;
use crate::protocol::wire::{Message, Writer};

fn header(key: i16, version: i16, rest: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&key.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&7_i32.to_be_bytes());
    frame.extend_from_slice(rest);
    frame.freeze()
}

/// The whole of a frame, without its length, which is checked.
fn unframe(frame: frame::Frame) -> Bytes {
    assert_eq!(
        frame.length,
        frame.chunks.iter().map(Bytes::len).sum::<usize>()
    );
    let bytes = Records::from(frame.chunks).to_bytes();
    let length = bytes
        .first_chunk()
        .map(|prefix| frame::frame_length(*prefix, 1 << 20));
    assert_eq!(length, Some(Ok(bytes.len() - frame::LENGTH_BYTES)));
    bytes.slice(frame::LENGTH_BYTES..)
}

#[test]
fn lengths_are_held_to_the_setting() {
    for (length, allowed) in [(0, true), (1, true), (100, true), (101, false), (-1, false)] {
        let read = frame::frame_length(i32::to_be_bytes(length), 100);
        assert_eq!(read.is_ok(), allowed, "{length}: {read:?}");
    }
    for length in [i32::MIN, i32::MAX] {
        let error = frame::frame_length(length.to_be_bytes(), 104_857_600);
        let length_max = 104_857_600;
        assert_eq!(error, Err(FrameError::Length { length, length_max }));
    }
}

#[test]
fn headers_follow_the_version_of_their_request() {
    // Metadata 8 is the last inflexible one. The client id keeps its old length in both headers.
    let old = frame::parse_request(header(3, 8, b"\0\x02me\xff\xff\xff\xff")).expect("version 1");
    assert_eq!(old.header.client_id, "me");
    assert_eq!(old.body, &b"\xff\xff\xff\xff"[..]);
    let new = frame::parse_request(header(3, 9, b"\0\x02me\x01\x05\x01xbody")).expect("version 2");
    assert_eq!((new.header.version, new.header.correlation_id), (9, 7));
    assert_eq!(new.body, &b"body"[..]);
    let anonymous = frame::parse_request(header(3, 8, b"\xff\xff")).expect("a null client id");
    assert_eq!(anonymous.header.client_id, "");
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let parse = |key, version| frame::parse_request(header(key, version, b"\xff\xff\0"));
    for key in [-1, 4, 5, 6, 7, 52 + 1000, i16::MAX, i16::MIN] {
        assert_eq!(parse(key, 0).err(), Some(FrameError::UnknownApi { key }));
    }
    let refused = [
        (ApiKey::Produce, &[-1, 0, 2, 14][..]),
        (ApiKey::Fetch, &[3, 19, i16::MAX, i16::MIN]),
        (ApiKey::InitProducerId, &[6]),
        (ApiKey::Vote, &[0]),
    ];
    for (key, versions) in refused {
        for &version in versions {
            let error = parse(key.code(), version).err();
            assert_eq!(error, Some(FrameError::NotServed { key, version }));
        }
    }
    for length in 0..10 {
        let whole = header(3, 8, b"\xff\xff");
        let cut = frame::parse_request(whole.slice(..length));
        assert!(matches!(cut, Err(FrameError::Header(_))), "{length}");
    }
    let wrong_text = frame::parse_request(header(3, 8, b"\0\x01\xff"));
    let expected = FrameError::Header(DecodeError::Utf8 { at: 10 });
    assert_eq!(wrong_text.err(), Some(expected));
}

#[test]
fn an_unknown_version_of_api_versions_passes_without_its_body() {
    for version in [5, 100, i16::MAX] {
        let newer = header(18, version, b"\0\x02me\0\xde\xad");
        let request = frame::parse_request(newer).expect("the header is version 2 for good");
        assert!(request.is_unsupported_api_versions());
        assert_eq!(request.header.correlation_id, 7);
    }
    let known = frame::parse_request(header(18, 0, b"\xff\xff")).expect("version 0");
    assert!(!known.is_unsupported_api_versions());
    assert_eq!(known.decode(), Ok(ApiVersionsRequest::default()));
}

#[test]
fn the_header_before_an_api_versions_response_is_always_version_0() {
    for version in 0..=4 {
        let response = ApiVersionsResponse::default();
        let reply = frame::reply(ApiKey::ApiVersions, version, 7, &response).expect("a reply");
        let bytes = unframe(reply);
        assert_eq!(&bytes[..4], &7_i32.to_be_bytes());
        assert_eq!(Ok(bytes.slice(4..)), response.to_bytes(version));
    }
    let flexible = frame::reply(ApiKey::Fetch, 12, 7, &FetchResponse::default());
    assert_eq!(
        unframe(flexible.expect("a reply"))[4],
        0,
        "no tagged fields in the header"
    );
}

#[test]
fn requests_and_responses_find_each_other() {
    for version in 1..=11 {
        let request = ListOffsetsRequest {
            replica_id: -1,
            ..Default::default()
        };
        let sent = frame::request(version, 7, &"me".into(), &request).expect("a request");
        let received = frame::parse_request(unframe(sent)).expect("its frame");
        assert_eq!(received.header.key, ApiKey::ListOffsets);
        assert_eq!(received.header.client_id, "me");
        assert_eq!(received.decode(), Ok(request));
        let answer = Default::default();
        let reply = frame::reply(ApiKey::ListOffsets, version, 7, &answer).expect("a reply");
        let read = frame::parse_response::<ListOffsetsRequest>(unframe(reply), version);
        assert_eq!(read, Ok((7, answer)));
    }
}

#[test]
fn bytes_behind_a_body_are_ignored_and_missing_ones_are_not() {
    let longer = frame::parse_request(header(3, 8, b"\xff\xff\xff\xff\xff\xff\x01\0\0and more"));
    let body: Result<MetadataRequest, _> = longer.expect("its header").decode();
    assert_eq!(body.expect("its body").topics, None);
    let shorter = frame::parse_request(header(3, 8, b"\xff\xff\xff")).expect("its header");
    let error = shorter.decode::<MetadataRequest>();
    assert!(
        matches!(error, Err(FrameError::Body { version: 8, .. })),
        "{error:?}"
    );
}

#[test]
fn records_of_a_response_stay_handles() {
    let older = Bytes::from_static(b"from the read cache");
    let tail = Bytes::from_static(b"from the tail cache");
    let with = |records| PartitionData {
        records: Some(records),
        ..Default::default()
    };
    let partitions = vec![
        with(vec![older.clone(), tail.clone()].into()),
        with(Records::new()),
        with(tail.clone().into()),
    ];
    let response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            partitions,
            ..Default::default()
        }],
        ..Default::default()
    };
    for version in 4..=18 {
        let reply = frame::reply(ApiKey::Fetch, version, 7, &response).expect("a reply");
        assert_eq!(
            reply.length,
            reply.chunks.iter().map(Bytes::len).sum::<usize>()
        );
        let handles: Vec<_> = [&older, &tail, &tail].map(|it| it.as_ptr()).into();
        let sent: Vec<_> = reply.chunks.iter().map(|it| it.as_ptr()).collect();
        let sent: Vec<_> = sent.into_iter().filter(|it| handles.contains(it)).collect();
        assert_eq!(sent, handles, "not copied, version {version}");
        let (read, body) = (reply.chunks.concat(), response.to_bytes(version));
        assert!(read.ends_with(&body.expect("a body")), "version {version}");
    }
}

#[test]
fn values_that_a_version_does_not_know_are_left_out_or_refused() {
    // SessionId is ignorable, RackId is too, ReplicaState is not.
    let mut request = FetchRequest {
        session_id: 9,
        rack_id: "here".into(),
        ..Default::default()
    };
    let old = request.to_bytes(4).expect("ignorable fields are left out");
    let read = FetchRequest::from_bytes(old, 4).expect("a request");
    assert_eq!((read.session_id, read.rack_id.as_ref()), (0, ""));
    request.replica_state.replica_id = 3;
    let error = EncodeError::UnknownField {
        message: "FetchRequest",
        field: "replica_state",
        version: 14,
    };
    assert_eq!(request.to_bytes(14), Err(error));
    assert!(request.to_bytes(15).is_ok());

    // A null list of topics means all of them from version 1 on; version 0 has no null.
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert!(matches!(all.to_bytes(0), Err(EncodeError::Null { .. })));
    assert!(all.to_bytes(1).is_ok());
    let null = Bytes::from_static(&[0xff; 4]);
    assert!(MetadataRequest::from_bytes(null.clone(), 0).is_err());
    assert_eq!(MetadataRequest::from_bytes(null, 1), Ok(all));

    let long = bytestring::ByteString::from("x".repeat(0x8000));
    let error = Writer::new().string(&long);
    assert!(matches!(
        error,
        Err(EncodeError::Length { length: 0x8000, .. })
    ));
}

#[test]
fn what_is_served_exists_without_a_gap() {
    for served in SUPPORTED {
        let first = if served.key == ApiKey::Produce {
            3
        } else {
            served.min_version
        };
        for version in first..=served.max_version {
            assert!(
                served.key.serves(version),
                "{} {version}",
                served.key.name()
            );
        }
        assert!(!served.key.serves(first - 1));
        assert!(!served.key.serves(served.max_version + 1));
    }
    let sorted = SUPPORTED.is_sorted_by_key(|served| served.key.code());
    assert!(sorted, "by key, as Kafka lists them");
}
