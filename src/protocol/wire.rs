//! What stands behind each type name of a declaration: how it is read, how it is written, and its schema as data.

use bytes::Bytes;

use super::codec::{DecodeError, Reader, Writer};
use crate::types::{Few, Uuid};

/// A value with a place on the wire. What it looks like there depends on the message's version.
pub trait Wire<'a>: Sized {
    /// The schema of the value, for tools and tests.
    const TYPE: Type;
    fn read(reader: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError>;
    fn write(&self, writer: &mut Writer, version: i16);
}

/// A type of Kafka's protocol, as data.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Float64,
    Uuid,
    String,
    NullableString,
    Bytes,
    NullableBytes,
    /// Nullable on the wire; null reads as no bytes.
    Records,
    Array(&'static Type),
    NullableArray(&'static Type),
    Structure(&'static [Field]),
    NullableStructure(&'static [Field]),
}

/// A field of a structure, as the declaration says it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub min_version: i16,
    pub max_version: i16,
    /// First version that knows null, where the type has null at all.
    pub null_version: i16,
    /// Tagged fields (KIP-482) are absent while they have their default.
    pub tag: Option<u32>,
    pub kind: Type,
}

impl Field {
    pub fn is_in(&self, version: i16) -> bool {
        (self.min_version..=self.max_version).contains(&version)
    }
}

/// A declared structure, which has a nullable form.
pub trait Structure {
    const FIELDS: &'static [Field];
}

macro_rules! wire_number {
    ($($type:ty = $kind:ident;)*) => {
        $(impl<'a> Wire<'a> for $type {
            const TYPE: Type = Type::$kind;

            fn read(reader: &mut Reader<'a>, _version: i16) -> Result<$type, DecodeError> {
                Ok(<$type>::from_be_bytes(reader.take_array()?))
            }

            fn write(&self, writer: &mut Writer, _version: i16) {
                writer.put(&self.to_be_bytes());
            }
        })*
    };
}

wire_number! { i8 = Int8; i16 = Int16; u16 = Uint16; i32 = Int32; i64 = Int64; f64 = Float64; }

impl<'a> Wire<'a> for bool {
    const TYPE: Type = Type::Bool;

    fn read(reader: &mut Reader<'a>, _version: i16) -> Result<bool, DecodeError> {
        Ok(reader.take_array::<1>()? != [0])
    }

    fn write(&self, writer: &mut Writer, _version: i16) {
        writer.put(&[u8::from(*self)]);
    }
}

impl<'a> Wire<'a> for Uuid {
    const TYPE: Type = Type::Uuid;

    fn read(reader: &mut Reader<'a>, _version: i16) -> Result<Uuid, DecodeError> {
        reader.take_array().map(Uuid)
    }

    fn write(&self, writer: &mut Writer, _version: i16) {
        writer.put(&self.0);
    }
}

impl<'a> Wire<'a> for &'a str {
    const TYPE: Type = Type::String;

    fn read(reader: &mut Reader<'a>, _version: i16) -> Result<&'a str, DecodeError> {
        reader.nullable_string()?.ok_or(DecodeError::Null)
    }

    fn write(&self, writer: &mut Writer, _version: i16) {
        writer.nullable_string(Some(self));
    }
}

impl<'a> Wire<'a> for Option<&'a str> {
    const TYPE: Type = Type::NullableString;

    fn read(reader: &mut Reader<'a>, _version: i16) -> Result<Option<&'a str>, DecodeError> {
        reader.nullable_string()
    }

    fn write(&self, writer: &mut Writer, _version: i16) {
        writer.nullable_string(*self);
    }
}

impl<'a> Wire<'a> for &'a [u8] {
    const TYPE: Type = Type::Bytes;

    fn read(reader: &mut Reader<'a>, _version: i16) -> Result<&'a [u8], DecodeError> {
        reader.nullable_bytes()?.ok_or(DecodeError::Null)
    }

    fn write(&self, writer: &mut Writer, _version: i16) {
        writer.nullable_bytes(Some(self));
    }
}

impl<'a> Wire<'a> for Option<&'a [u8]> {
    const TYPE: Type = Type::NullableBytes;

    fn read(reader: &mut Reader<'a>, _version: i16) -> Result<Option<&'a [u8]>, DecodeError> {
        reader.nullable_bytes()
    }

    fn write(&self, writer: &mut Writer, _version: i16) {
        writer.nullable_bytes(*self);
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Vec<T> {
    const TYPE: Type = Type::Array(&T::TYPE);

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<Vec<T>, DecodeError> {
        reader.nullable_array(version)?.ok_or(DecodeError::Null)
    }

    fn write(&self, writer: &mut Writer, version: i16) {
        writer.nullable_array(Some(self), version);
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Few<T> {
    const TYPE: Type = Type::Array(&T::TYPE);

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<Few<T>, DecodeError> {
        reader.nullable_array(version)?.ok_or(DecodeError::Null)
    }

    fn write(&self, writer: &mut Writer, version: i16) {
        writer.nullable_array(Some(self), version);
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Option<Vec<T>> {
    const TYPE: Type = Type::NullableArray(&T::TYPE);

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<Option<Vec<T>>, DecodeError> {
        reader.nullable_array(version)
    }

    fn write(&self, writer: &mut Writer, version: i16) {
        writer.nullable_array(self.as_deref(), version);
    }
}

impl<'a, T: Wire<'a> + Structure> Wire<'a> for Option<T> {
    const TYPE: Type = Type::NullableStructure(T::FIELDS);

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<Option<T>, DecodeError> {
        match i8::read(reader, version)? {
            0.. => T::read(reader, version).map(Some),
            _ => Ok(None),
        }
    }

    fn write(&self, writer: &mut Writer, version: i16) {
        match self {
            None => (-1i8).write(writer, version),
            Some(structure) => {
                1i8.write(writer, version);
                structure.write(writer, version);
            }
        }
    }
}

/// Whole record batches as the log holds them: pieces that are spliced into a response, never copied.
/// A null of another broker reads as no bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Records(pub Few<Bytes>);

impl Records {
    pub fn bytes(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}

impl<'a> Wire<'a> for Records {
    const TYPE: Type = Type::Records;

    fn read(reader: &mut Reader<'a>, _version: i16) -> Result<Records, DecodeError> {
        Ok(match reader.nullable_bytes()? {
            None | Some([]) => Records::default(),
            Some(bytes) => Records([reader.keep(bytes)].into()),
        })
    }

    fn write(&self, writer: &mut Writer, _version: i16) {
        writer.length::<4>(Some(self.bytes()));
        for chunk in &self.0 {
            writer.splice(chunk);
        }
    }
}
