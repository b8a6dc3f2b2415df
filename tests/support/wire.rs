//! Raw Kafka frames over a socket, well-formed or not.
//!
//! Bodies are encoded and decoded by the `kacrab-protocol` crate, which the broker does not share
//! this code with; a test may also send any bytes at all.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kacrab_protocol::KafkaString;
use kacrab_protocol::generated::{
    ApiKey, InitProducerIdRequestData, InitProducerIdResponseData, MetadataRequestData,
    MetadataResponseData,
};
use kacrab_protocol::version::{request_header_version, response_header_version};

/// How long an answer, or the end of the connection, may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

const API_VERSIONS: i16 = ApiKey::ApiVersions as i16;

/// What the protocol crate's encoders return.
pub type Encoded = kacrab_protocol::Result<()>;

/// One connection.
pub struct Wire {
    stream: TcpStream,
    next_correlation: i32,
}

impl Wire {
    pub fn connect(port: u16) -> Self {
        Self::try_connect(port).expect("a broker that accepts connections")
    }

    pub fn try_connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            next_correlation: 1,
        })
    }

    /// Sends bytes as they are. A broker may close the connection in the middle of them.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends `payload` behind its length.
    pub fn send_frame(&mut self, payload: &[u8]) {
        let mut frame = BytesMut::with_capacity(payload.len() + 4);
        frame.put_i32(i32::try_from(payload.len()).expect("a frame below 2 GiB"));
        frame.extend_from_slice(payload);
        self.send(&frame);
    }

    /// Sends a request of any key and version with any body; gives its correlation id.
    pub fn send_request(&mut self, key: i16, version: i16, body: &[u8]) -> i32 {
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        self.send(&request_frame(key, version, correlation, body));
        correlation
    }

    /// The next frame without its length, or `None` when the broker has closed the connection.
    pub fn receive(&mut self) -> Option<Bytes> {
        self.try_receive()
            .unwrap_or_else(|error| panic!("no answer and no end: {error}"))
    }

    fn try_receive(&mut self) -> std::io::Result<Option<Bytes>> {
        let closed = |error: &std::io::Error| {
            matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
            )
        };
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => (),
            Err(error) if closed(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        let length = usize::try_from(i32::from_be_bytes(length)).expect("a positive length");
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        Ok(Some(payload.into()))
    }

    /// Whether an answer has begun, or the connection has ended, within this time.
    pub fn is_answered_within(&mut self, time: Duration) -> bool {
        let timeout = |stream: &TcpStream, time| {
            let set = stream.set_read_timeout(Some(time));
            set.expect("a socket that takes a timeout");
        };
        timeout(&self.stream, time);
        let peeked = self.stream.peek(&mut [0]);
        timeout(&self.stream, ANSWERED_WITHIN);
        match peeked {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    /// Sends a request and gives the body of its answer; `None` if the connection was closed.
    pub fn ask(&mut self, key: i16, version: i16, body: &[u8]) -> Option<Bytes> {
        let correlation = self.send_request(key, version, body);
        self.receive_answer(key, version, correlation)
    }

    /// The body of the next answer, which must be that of the request sent with `correlation`;
    /// `None` if the connection was closed.
    pub fn receive_answer(&mut self, key: i16, version: i16, correlation: i32) -> Option<Bytes> {
        let mut answer = self.receive()?;
        assert_eq!(
            correlation,
            i32::from_be_bytes(take(&mut answer)),
            "the answer's request"
        );
        if response_header_version(key, version) >= 1 {
            let [tags] = take(&mut answer);
            assert_eq!(tags, 0, "tagged fields in a response header");
        }
        Some(answer)
    }

    /// Sends a request that `encode` writes at `version`; the connection must stay open.
    pub fn call(
        &mut self,
        key: ApiKey,
        version: i16,
        encode: impl FnOnce(&mut BytesMut, i16) -> Encoded,
    ) -> Bytes {
        self.try_call(key, version, encode)
            .unwrap_or_else(|| panic!("{key:?} version {version} closed the connection"))
    }

    /// Sends a request that `encode` writes at `version`; `None` if the connection was closed.
    pub fn try_call(
        &mut self,
        key: ApiKey,
        version: i16,
        encode: impl FnOnce(&mut BytesMut, i16) -> Encoded,
    ) -> Option<Bytes> {
        let mut body = BytesMut::new();
        encode(&mut body, version).expect("an encodable request");
        self.ask(key as i16, version, &body)
    }
}

/// A request of any key and version with any body, behind its length.
pub fn request_frame(key: i16, version: i16, correlation: i32, body: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(correlation);
    frame.put_i16(6);
    frame.put_slice(b"compat");
    let flexible = match key {
        // Whatever version a client comes with, its header is that of the newest one.
        API_VERSIONS => version >= 3,
        _ => request_header_version(key, version) >= 2,
    };
    if flexible {
        frame.put_u8(0);
    }
    frame.extend_from_slice(body);
    let length = i32::try_from(frame.len() - 4).expect("a frame below 2 GiB");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// A string as the protocol crate has it.
pub fn text(from: &str) -> KafkaString {
    KafkaString::from(from.to_owned())
}

/// The next `COUNT` bytes.
pub fn take<const COUNT: usize>(from: &mut Bytes) -> [u8; COUNT] {
    let head = from.split_to(COUNT);
    head[..].try_into().expect("split to this length")
}

/// Whether the broker on `port` names a broker in its metadata and gives out producer ids: Kafka
/// opens its port before it can do either.
pub fn is_settled(port: u16) -> bool {
    let Ok(mut wire) = Wire::try_connect(port) else {
        return false;
    };
    let metadata = MetadataRequestData::default().with_topics(Some(Vec::new()));
    let mut answer = match wire.try_call(ApiKey::Metadata, 1, |body, v| metadata.write(body, v)) {
        Some(answer) => answer,
        None => return false,
    };
    let metadata = MetadataResponseData::read(&mut answer, 1).expect("a decodable answer");
    if metadata.brokers.is_empty() {
        return false;
    }
    let producer = InitProducerIdRequestData::default().with_transaction_timeout_ms(60_000);
    let answer = wire.try_call(ApiKey::InitProducerId, 1, |body, v| producer.write(body, v));
    answer.is_some_and(|mut answer| {
        InitProducerIdResponseData::read(&mut answer, 1)
            .expect("a decodable answer")
            .error_code
            == 0
    })
}
