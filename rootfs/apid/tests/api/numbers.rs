//! Protobuf by field numbers alone. Whoever uses this knows the server's messages from Talos's and COSI's public
//! definitions (`machine.proto`, `common.proto`, `cosi/resource/state.proto`, the CRI's `api.proto`) and nothing from the
//! server's own: where the two differ, a test fails.

use crate::client::{Channel, LIMIT};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::http::Request;
use prost::encoding::{decode_varint, encode_varint};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;
/// gRPC's: not compressed, and how long the message is.
const HEAD: usize = 5;

/// A field's value as it is on the wire.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Vec<u8>),
}

/// A message: its fields in the order of the wire, each with its number.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Message(Vec<(u64, Value)>);

impl Message {
    pub(crate) fn text(self, number: u64, text: &str) -> Self {
        self.bytes(number, text.as_bytes())
    }

    pub(crate) fn bytes(mut self, number: u64, bytes: &[u8]) -> Self {
        self.0.push((number, Value::Bytes(bytes.to_vec())));
        self
    }

    pub(crate) fn number(mut self, number: u64, value: u64) -> Self {
        self.0.push((number, Value::Varint(value)));
        self
    }

    /// An int32 or an int64.
    pub(crate) fn signed(self, number: u64, value: i64) -> Self {
        self.number(number, value.cast_unsigned())
    }

    pub(crate) fn message(self, number: u64, message: &Self) -> Self {
        self.bytes(number, &message.encoded())
    }

    pub(crate) fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, value) in &self.0 {
            let mut key = |kind: u64| encode_varint(number << 3 | kind, &mut bytes);
            match value {
                Value::Varint(value) => {
                    key(VARINT);
                    encode_varint(*value, &mut bytes);
                }
                Value::Fixed64(value) => {
                    key(FIXED64);
                    bytes.extend_from_slice(&value.to_le_bytes());
                }
                Value::Fixed32(value) => {
                    key(FIXED32);
                    bytes.extend_from_slice(&value.to_le_bytes());
                }
                Value::Bytes(value) => {
                    key(BYTES);
                    encode_varint(value.len() as u64, &mut bytes);
                    bytes.extend_from_slice(value);
                }
            }
        }
        bytes
    }

    /// `None`: that is no message.
    pub(crate) fn decoded(mut bytes: &[u8]) -> Option<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = decode_varint(&mut bytes).ok()?;
            let value = match key & 7 {
                VARINT => Value::Varint(decode_varint(&mut bytes).ok()?),
                FIXED64 => Value::Fixed64(u64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?)),
                FIXED32 => Value::Fixed32(u32::from_le_bytes(take(&mut bytes, 4)?.try_into().ok()?)),
                BYTES => {
                    let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                    Value::Bytes(take(&mut bytes, length)?.to_vec())
                }
                _ => return None,
            };
            fields.push((key >> 3, value));
        }
        Some(Self(fields))
    }

    /// The numbers of its fields, each once.
    pub(crate) fn fields(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.0.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// All messages of a repeated field.
    pub(crate) fn all(&self, number: u64) -> Vec<Self> {
        let of = |value: &Value| match value {
            Value::Bytes(bytes) => Self::decoded(bytes).expect("a message"),
            other => panic!("field {number} is no message: {other:?}"),
        };
        self.0.iter().filter(|(its, _)| *its == number).map(|(_, value)| of(value)).collect()
    }

    /// All texts of a repeated field.
    pub(crate) fn texts(&self, number: u64) -> Vec<String> {
        let of = |value: &Value| match value {
            Value::Bytes(bytes) => String::from_utf8(bytes.clone()).expect("text"),
            other => panic!("field {number} is no text: {other:?}"),
        };
        self.0.iter().filter(|(its, _)| *its == number).map(|(_, value)| of(value)).collect()
    }

    /// The text at the end of that way through messages; one that is not there is empty.
    pub(crate) fn str(&self, way: &[u64]) -> String {
        let (last, before) = way.split_last().expect("a way");
        self.at(before).texts(*last).pop().unwrap_or_default()
    }

    /// The number there; one that is not there is 0.
    pub(crate) fn num(&self, way: &[u64]) -> u64 {
        match self.value(way) {
            None => 0,
            Some(Value::Varint(value)) => value,
            Some(other) => panic!("{way:?} is no number: {other:?}"),
        }
    }

    /// The double there; one that is not there is 0.
    pub(crate) fn double(&self, way: &[u64]) -> f64 {
        match self.value(way) {
            None => 0.0,
            Some(Value::Fixed64(bits)) => f64::from_bits(bits),
            Some(other) => panic!("{way:?} is no double: {other:?}"),
        }
    }

    /// The message there; one that is not there is empty.
    pub(crate) fn at(&self, way: &[u64]) -> Self {
        way.iter()
            .fold(self.clone(), |message, number| message.all(*number).into_iter().next().unwrap_or_default())
    }

    fn value(&self, way: &[u64]) -> Option<Value> {
        let (last, before) = way.split_last().expect("a way");
        self.at(before).0.into_iter().rfind(|(number, _)| number == last).map(|(_, value)| value)
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// As a message is sent.
pub(crate) fn framed(message: &Message) -> Vec<u8> {
    let bytes = message.encoded();
    let length = u32::try_from(bytes.len()).expect("less than 4 GiB");
    [&[0][..], &length.to_be_bytes(), &bytes].concat()
}

impl Channel {
    /// Calls a method: the messages of its answer, all of them or the first `most`.
    pub(crate) async fn ask(
        &self,
        path: &str,
        request: &Message,
        most: usize,
    ) -> Result<Vec<Message>, Status> {
        let request = Request::post(format!("https://localhost/{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(Full::new(Bytes::from(framed(request)))))
            .unwrap();
        let answer = timeout(LIMIT, self.clone().call(request)).await.expect("an answer").unwrap();
        refused(answer.headers())?;
        let (mut body, mut bytes, mut messages) = (answer.into_body(), Vec::new(), Vec::new());
        while messages.len() < most {
            let Some(frame) = timeout(LIMIT, body.frame()).await.expect("a frame") else {
                return Ok(messages);
            };
            let frame = frame.map_err(|error| Status::unknown(error.to_string()))?;
            if let Some(trailers) = frame.trailers_ref() {
                refused(trailers)?;
            }
            bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
            while let Some(head) = bytes.get(..HEAD) {
                assert_eq!(head[0], 0, "a message that is packed in a way that nobody has agreed on");
                let end = HEAD + u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
                let Some(message) = bytes.get(HEAD..end) else { break };
                messages.push(Message::decoded(message).expect("a message"));
                bytes.drain(..end);
            }
        }
        Ok(messages)
    }

    /// Of a method that answers with one message.
    pub(crate) async fn ask_once(&self, path: &str, request: &Message) -> Result<Message, Status> {
        let mut all = self.ask(path, request, usize::MAX).await?;
        assert_eq!(all.len(), 1, "{path}: {all:?}");
        Ok(all.remove(0))
    }
}

fn refused(headers: &hyper::http::HeaderMap) -> Result<(), Status> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}
