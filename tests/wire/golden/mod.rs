//! Frames as other people's clients write and read them, byte for byte, with the values they carry.
//! Those marked librdkafka were captured from librdkafka 2.16 on a loopback connection; those marked kafka-python were
//! encoded by kafka-python 3.0.12; those of `consumer_groups` and `cluster` by Kafka's own classes. Metadata records follow Kafka's schemas by hand.

mod admin;
mod cluster;
mod consumer_groups;
mod data;
mod groups;
mod records;
mod settings;

use std::fmt::Debug;

use gannet::protocol::*;
use gannet::types::{Few, Uuid};

pub const TOPIC_ID: Uuid = Uuid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

/// Leaked, so that a message may borrow from it for as long as the test likes.
pub fn unhex(text: &str) -> &'static [u8] {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    Vec::leak(digits.chunks(2).map(byte).collect())
}

pub fn one<T>(element: T) -> Few<T> {
    [element].into()
}

#[track_caller]
pub fn assert_request<M: Message<'static> + PartialEq + Debug>(frame: &str, version: i16, message: M) {
    let frame = unhex(frame);
    assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes());
    let (header, mut body) = decode_header(&frame[4..]).unwrap();
    assert_eq!((header.api_key, header.api_version, header.client_id), (M::KEY, version, Some("app")));
    assert_eq!(M::decode_message(&mut body, version).as_ref(), Ok(&message));
    assert!(body.remaining().is_empty());
    assert_eq!(encode_request(&message, version, header.correlation_id, header.client_id).concat(), frame);
}

#[track_caller]
pub fn assert_response<M: Message<'static> + Clone + PartialEq + Debug>(frame: &str, version: i16, message: M) {
    let frame = unhex(frame);
    assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes());
    assert_eq!(decode_response::<M>(&frame[4..], version), Ok((7, message.clone())));
    let mut writer = response_writer(M::KEY, version, 7);
    message.encode_message(&mut writer, version);
    assert_eq!(writer.finish().concat(), frame);
}
