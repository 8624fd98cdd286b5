//! Kafka's primitive types: a reader that trusts no length, and a writer that splices record bytes instead of copying them.
//! Messages are built from these by the declarations of `message.rs`; nothing here knows any API.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::wire::Wire;
use crate::types::Few;

/// How many array elements one request may carry in all. An element is larger in memory than on the wire, so bytes alone
/// would let a frame of 100 MiB grow into gigabytes. 10,000 partitions in one request use a small part of it.
pub const REQUEST_ELEMENTS_MAX: usize = 1 << 18;
/// Longest string of any message; Kafka keeps the limit of the old 2-byte length for compact strings too.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;
/// Below this many bytes a splice is copied: one more piece for the socket costs more than the copy.
const SPLICE_BYTES_MIN: usize = 256;

/// Why a frame is not a message. Positions are not kept: the frame's owner knows API, version and connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// A field reaches beyond the end of the frame.
    Truncated { needed: usize, remaining: usize },
    /// A length is negative where null is not allowed, or above what its type may have.
    Length { length: i64 },
    /// More array elements than `REQUEST_ELEMENTS_MAX`.
    TooManyElements { limit: usize },
    /// A string is not UTF-8.
    NotUtf8,
    /// A variable-length integer does not end within 32 bits.
    Varint,
    /// Null in a field that may not be null in this version.
    Null,
    /// A tagged field is shorter or longer than its size says.
    TaggedFieldSize,
    /// The message has no such version.
    Version { version: i16, min: i16, max: i16 },
    /// A metadata record of a kind this broker does not know.
    MetadataRecord { frame_version: u32, key: u32 },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DecodeError::Truncated { needed, remaining } => {
                write!(f, "a field needs {needed} bytes and the frame has {remaining} left")
            }
            DecodeError::Length { length } => write!(f, "a length of {length} is not possible here"),
            DecodeError::TooManyElements { limit } => write!(f, "more than {limit} array elements in one request"),
            DecodeError::NotUtf8 => f.write_str("a string is not UTF-8"),
            DecodeError::Varint => f.write_str("a variable-length integer exceeds 32 bits"),
            DecodeError::Null => f.write_str("null in a field that may not be null in this version"),
            DecodeError::TaggedFieldSize => f.write_str("a tagged field does not have the size it says"),
            DecodeError::Version { version, min, max } => {
                write!(f, "version {version} is outside the known versions {min} to {max}")
            }
            DecodeError::MetadataRecord { frame_version, key } => {
                write!(f, "a metadata record of key {key} in frame version {frame_version} is not known")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// Reads one frame from front to back. Every length is checked against the bytes that remain before anything is allocated.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// Whom the bytes belong to, where that is counted: what is kept of them then needs no copy.
    owner: Option<&'a Bytes>,
    /// Array elements that may still come.
    elements_left: usize,
    elements_max: usize,
    /// Compact lengths and tagged fields (KIP-482).
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// Over bytes from anyone: bounded by their length and by `REQUEST_ELEMENTS_MAX`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader::with_elements_max(bytes, REQUEST_ELEMENTS_MAX)
    }

    /// Over an answer to our own question, which may list everything a cluster has: bounded by its length alone.
    pub fn of_response(bytes: &'a [u8]) -> Reader<'a> {
        Reader::with_elements_max(bytes, usize::MAX)
    }

    /// The same where the bytes belong to a counted buffer.
    pub fn of_shared_response(bytes: &'a Bytes) -> Reader<'a> {
        Reader { owner: Some(bytes), ..Reader::of_response(bytes) }
    }

    /// Bytes that were taken from this reader, to be kept.
    pub(super) fn keep(&self, taken: &'a [u8]) -> Bytes {
        match self.owner {
            Some(owner) => owner.slice_ref(taken),
            None => Bytes::copy_from_slice(taken),
        }
    }

    fn with_elements_max(bytes: &'a [u8], elements_max: usize) -> Reader<'a> {
        Reader { bytes, owner: None, elements_left: elements_max, elements_max, flexible: false }
    }

    /// What has not been read yet.
    pub fn remaining(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(length) else {
            return Err(DecodeError::Truncated { needed: length, remaining: self.bytes.len() });
        };
        self.bytes = rest;
        Ok(taken)
    }

    pub(super) fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((taken, rest)) = self.bytes.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated { needed: N, remaining: self.bytes.len() });
        };
        self.bytes = rest;
        Ok(*taken)
    }

    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take_array::<1>()?[0];
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0xf {
                return Err(DecodeError::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint)
    }

    /// A length of a kind that takes `N` bytes when it is not compact; `None` is null.
    fn length<const N: usize>(&mut self) -> Result<Option<usize>, DecodeError> {
        let length = if self.flexible {
            i64::from(self.uvarint()?) - 1
        } else if N == 2 {
            i64::from(i16::from_be_bytes(self.take_array()?))
        } else {
            i64::from(i32::from_be_bytes(self.take_array()?))
        };
        match length {
            -1 => Ok(None),
            0.. if length <= i64::from(i32::MAX) => Ok(Some(length as usize)),
            _ => Err(DecodeError::Length { length }),
        }
    }

    pub fn nullable_string(&mut self) -> Result<Option<&'a str>, DecodeError> {
        let Some(length) = self.length::<2>()? else { return Ok(None) };
        if length > STRING_BYTES_MAX {
            return Err(DecodeError::Length { length: length as i64 });
        }
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(Some).map_err(|_| DecodeError::NotUtf8)
    }

    pub fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        let Some(length) = self.length::<4>()? else { return Ok(None) };
        self.take(length).map(Some)
    }

    pub(super) fn nullable_array<T: Wire<'a>, L: List<T>>(&mut self, version: i16) -> Result<Option<L>, DecodeError> {
        let Some(count) = self.length::<4>()? else { return Ok(None) };
        // No element of any message is empty, so a count above the bytes that remain is a lie.
        if count > self.bytes.len() {
            return Err(DecodeError::Truncated { needed: count, remaining: self.bytes.len() });
        }
        let Some(elements_left) = self.elements_left.checked_sub(count) else {
            return Err(DecodeError::TooManyElements { limit: self.elements_max });
        };
        self.elements_left = elements_left;
        // Room for every element of an honest frame; a count that only pretends grows by what really comes.
        let plausible = self.bytes.len().saturating_mul(2) / size_of::<T>().max(1) + 1;
        let mut elements = L::with_room(count.min(plausible));
        for _ in 0..count {
            elements.put(T::read(self, version)?);
        }
        Ok(Some(elements))
    }

    /// Refuses null in a version that does not know it.
    pub(super) fn allow_null<T>(&self, allowed: bool, value: Option<T>) -> Result<Option<T>, DecodeError> {
        if value.is_none() && !allowed { Err(DecodeError::Null) } else { Ok(value) }
    }

    /// Walks the tagged fields (KIP-482). `field` reads the one of this tag and says true, or says false to have it skipped.
    pub(super) fn tagged_fields(
        &mut self,
        mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            let bytes = self.take(size)?;
            let mut inside = Reader { bytes, ..*self };
            if field(tag, &mut inside)? && !inside.bytes.is_empty() {
                return Err(DecodeError::TaggedFieldSize);
            }
            self.elements_left = inside.elements_left;
        }
        Ok(())
    }
}

/// What an array is read into.
pub(super) trait List<T> {
    fn with_room(elements: usize) -> Self;
    fn put(&mut self, element: T);
}

impl<T> List<T> for Vec<T> {
    fn with_room(elements: usize) -> Vec<T> {
        Vec::with_capacity(elements)
    }

    fn put(&mut self, element: T) {
        self.push(element);
    }
}

impl<T> List<T> for Few<T> {
    fn with_room(elements: usize) -> Few<T> {
        Few::with_capacity(elements)
    }

    fn put(&mut self, element: T) {
        self.push(element);
    }
}

/// Builds one frame as pieces: what is encoded grows in one buffer, records are spliced between.
#[derive(Debug)]
pub struct Writer {
    /// The first piece, kept apart so that the length prefix can still be filled in.
    head: Option<BytesMut>,
    /// The pieces before `tail`; the head's place is kept for it.
    chunks: Vec<Bytes>,
    tail: BytesMut,
    /// Bytes before `tail`.
    length: usize,
    /// The first four bytes are the frame's length.
    framed: bool,
    flexible: bool,
    throttle_time_ms: i32,
}

impl Writer {
    /// Bytes without a length prefix.
    pub fn new() -> Writer {
        Writer::within(BytesMut::with_capacity(256))
    }

    fn within(room: BytesMut) -> Writer {
        assert!(room.is_empty());
        Writer {
            head: None,
            chunks: Vec::new(),
            tail: room,
            length: 0,
            framed: false,
            flexible: false,
            throttle_time_ms: 0,
        }
    }

    /// A frame whose 4-byte length prefix `finish` fills in.
    pub fn frame() -> Writer {
        Writer::frame_in(BytesMut::with_capacity(256))
    }

    /// The same, written into `room` as far as that goes.
    pub fn frame_in(room: BytesMut) -> Writer {
        let mut writer = Writer { framed: true, ..Writer::within(room) };
        writer.tail.put_i32(0);
        writer
    }

    /// Bytes written so far, the length prefix included.
    pub fn written_bytes(&self) -> usize {
        self.length + self.tail.len()
    }

    /// The pieces, in order; together one frame or one run of bytes.
    pub fn finish(self) -> Vec<Bytes> {
        self.finish_with_rest().0
    }

    /// The pieces, and the room that they left.
    pub fn finish_with_rest(mut self) -> (Vec<Bytes>, BytesMut) {
        let length = self.written_bytes();
        let mut head = self.head.take().unwrap_or_else(|| {
            self.chunks.reserve_exact(1);
            self.chunks.push(Bytes::new());
            self.tail.split()
        });
        if self.framed {
            let length = i32::try_from(length - 4).expect("fetch.max.bytes keeps a frame far below 2 GiB");
            head[..4].copy_from_slice(&length.to_be_bytes());
        }
        self.chunks[0] = head.freeze();
        if !self.tail.is_empty() {
            self.chunks.push(self.tail.split().freeze());
        }
        (self.chunks, self.tail)
    }

    /// Everything as one run of bytes; copies if anything was spliced.
    pub fn into_bytes(self) -> Bytes {
        let mut pieces = self.finish();
        if pieces.len() == 1 { pieces.remove(0) } else { pieces.concat().into() }
    }

    pub(super) fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    pub(super) fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// What the response's `throttle_time_ms` says at least, wherever that field stands in it: whoever puts a response
    /// together need not know of quotas.
    pub fn set_throttle_time(&mut self, throttle_time_ms: i32) {
        self.throttle_time_ms = throttle_time_ms;
    }

    pub(super) fn put_throttle_time(&mut self, throttle_time_ms: i32) {
        let told =
            if self.throttle_time_ms > 0 { self.throttle_time_ms.max(throttle_time_ms) } else { throttle_time_ms };
        self.put(&told.to_be_bytes());
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    /// Puts counted bytes in without copying them.
    pub fn splice(&mut self, bytes: &Bytes) {
        if bytes.len() < SPLICE_BYTES_MIN {
            return self.put(bytes);
        }
        let encoded = self.tail.split();
        self.length += encoded.len() + bytes.len();
        match self.head {
            None => {
                self.head = Some(encoded);
                self.chunks.push(Bytes::new());
            }
            Some(_) if encoded.is_empty() => {}
            Some(_) => self.chunks.push(encoded.freeze()),
        }
        self.chunks.push(bytes.clone());
    }

    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.tail.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(value as u8);
    }

    pub(super) fn length<const N: usize>(&mut self, length: Option<usize>) {
        let length = length.map(|length| i32::try_from(length).expect("no value reaches 2 GiB"));
        if self.flexible {
            self.uvarint(length.map_or(0, |length| length as u32 + 1));
        } else if N == 2 {
            self.tail.put_i16(length.unwrap_or(-1) as i16);
        } else {
            self.tail.put_i32(length.unwrap_or(-1));
        }
    }

    /// A string above `STRING_BYTES_MAX` is cut at a character: the only ones that can grow are sentences for people.
    pub fn nullable_string(&mut self, string: Option<&str>) {
        let string = string.map(|string| &string[..string.floor_char_boundary(STRING_BYTES_MAX)]);
        self.length::<2>(string.map(str::len));
        self.put(string.unwrap_or("").as_bytes());
    }

    pub fn nullable_bytes(&mut self, bytes: Option<&[u8]>) {
        self.length::<4>(bytes.map(<[u8]>::len));
        self.put(bytes.unwrap_or(&[]));
    }

    pub(super) fn nullable_array<'a, T: Wire<'a>>(&mut self, elements: Option<&[T]>, version: i16) {
        self.length::<4>(elements.map(<[T]>::len));
        for element in elements.unwrap_or(&[]) {
            element.write(self, version);
        }
    }

    /// Where a version knows no null, the empty value takes its place.
    pub(super) fn write_nullable<'a, T: Default>(&mut self, allowed: bool, value: &Option<T>, version: i16)
    where
        Option<T>: Wire<'a>,
    {
        if value.is_none() && !allowed {
            Some(T::default()).write(self, version);
        } else {
            value.write(self, version);
        }
    }

    pub(super) fn tagged_field<'a, T: Wire<'a>>(&mut self, tag: u32, value: &T, version: i16) {
        let mut field = Writer { flexible: true, ..Writer::new() };
        value.write(&mut field, version);
        self.uvarint(tag);
        self.uvarint(u32::try_from(field.written_bytes()).expect("no value reaches 2 GiB"));
        for piece in field.finish() {
            self.splice(&piece);
        }
    }
}

impl Default for Writer {
    fn default() -> Writer {
        Writer::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_utf_8_and_at_most_32767_bytes() {
        assert_eq!(Reader::new(&[0, 1, 0xff]).nullable_string(), Err(DecodeError::NotUtf8));
        let long = "ä".repeat(16384);
        let mut writer = Writer::new();
        writer.set_flexible(true);
        writer.nullable_string(Some(&long));
        let mut bytes = writer.into_bytes().to_vec();
        let mut reader = Reader::new(&bytes);
        reader.set_flexible(true);
        assert_eq!(reader.nullable_string(), Ok(Some(&long[..32766])));
        assert!(reader.remaining().is_empty());

        bytes.splice(..3, [0x81, 0x80, 0x02]);
        bytes.extend([b'x', b'x']);
        let mut reader = Reader::new(&bytes);
        reader.set_flexible(true);
        assert_eq!(reader.nullable_string(), Err(DecodeError::Length { length: 32768 }));
    }

    #[test]
    fn elements_of_one_request_are_counted_across_its_arrays() {
        let half = REQUEST_ELEMENTS_MAX as i32 / 2 + 1;
        let array = [&half.to_be_bytes()[..], &vec![0; half as usize * 4]].concat();
        let bytes = array.repeat(2);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Vec::<i32>::read(&mut reader, 0).map(|list| list.len()), Ok(half as usize));
        let refused = DecodeError::TooManyElements { limit: REQUEST_ELEMENTS_MAX };
        assert_eq!(Vec::<i32>::read(&mut reader, 0), Err(refused));

        let mut reader = Reader::of_response(&bytes);
        assert!(Vec::<i32>::read(&mut reader, 0).is_ok());
        assert!(Vec::<i32>::read(&mut reader, 0).is_ok());
    }
}
