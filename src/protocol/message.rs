//! The declaration form of messages: one `message!` per message, which reads like Kafka's own specification and becomes the
//! structures, their defaults, decoding, encoding and the schema as data.

use std::ops::RangeInclusive;

use super::codec::{DecodeError, Reader, Writer};
use super::wire::{Structure, Wire};

/// The outermost structure of a request, a response or a metadata record.
pub trait Message<'a>: Wire<'a> + Structure + Default {
    const NAME: &'static str;
    /// API key of a request and its response; key of a metadata record.
    const KEY: i16;
    const VERSIONS: RangeInclusive<i16>;
    /// First version with compact lengths and tagged fields (KIP-482).
    const FIRST_FLEXIBLE: i16;

    fn is_flexible(version: i16) -> bool {
        version >= Self::FIRST_FLEXIBLE
    }

    /// Reads a body. Bytes behind it stay in the reader, unknown tagged fields are skipped, as Kafka does.
    fn decode_message(reader: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError> {
        if !Self::VERSIONS.contains(&version) {
            let (min, max) = Self::VERSIONS.into_inner();
            return Err(DecodeError::Version { version, min, max });
        }
        reader.set_flexible(Self::is_flexible(version));
        Self::read(reader, version)
    }

    /// Writes a body. Fields that the version does not have are left out silently.
    fn encode_message(&self, writer: &mut Writer, version: i16) {
        assert!(Self::VERSIONS.contains(&version), "{} has no version {version}", Self::NAME);
        writer.set_flexible(Self::is_flexible(version));
        self.write(writer, version);
    }
}

/// Declares a message and the structures inside it:
///
/// ```text
/// message! {
///     /// What it asks for.
///     FooRequest<'a>, key 7, versions 1-4, flexible 3+ {
///         /// Absent outside the versions named; then it has its default.
///         topics: Option<Vec<FooTopic<'a>>> = 1+ nullable 2+,
///         timeout_ms: i32 = 1-3 default 60_000,
///         cursor: FooCursor = 3+ tag 0,
///     }
///     FooTopic<'a> { name: &'a str = 1+, }
///     FooCursor { offset: i64 = 3+ default -1, }
/// }
/// ```
///
/// A field's type says whether it can be null; `nullable` narrows that to later versions. Tagged fields stand in ascending
/// order of their tags and are written only while they differ from their default. `'a` is the frame that is borrowed from.
macro_rules! message {
    ($(#[$attribute:meta])* $name:ident $(<$life:lifetime>)?, key $key:literal,
     versions $min:literal $(- $max:literal)?, flexible $flexible:literal+ { $($fields:tt)* } $($rest:tt)*) => {
        $crate::protocol::message::structure! { $(#[$attribute])* $name $(<$life>)? { $($fields)* } }
        $crate::protocol::message::message! {
            @message ($name) ($($life)?) $key, ($min, $min $(, $max)?), $flexible
        }
        $crate::protocol::message::message! { @structures $($rest)* }
    };
    (@structures) => {};
    (@structures $(#[$attribute:meta])* $name:ident $(<$life:lifetime>)? { $($fields:tt)* } $($rest:tt)*) => {
        $crate::protocol::message::structure! { $(#[$attribute])* $name $(<$life>)? { $($fields)* } }
        $crate::protocol::message::message! { @structures $($rest)* }
    };
    (@message ($name:ident) () $($rest:tt)*) => {
        $crate::protocol::message::message! { @body ($name) () ('a) $($rest)* }
    };
    (@message ($name:ident) ($life:lifetime) $($rest:tt)*) => {
        $crate::protocol::message::message! { @body ($name) (<$life>) ($life) $($rest)* }
    };
    (@body ($name:ident) ($($generic:tt)*) ($life:lifetime) $key:literal, ($min:literal, $same:literal $(, $max:literal)?),
     $flexible:literal) => {
        impl<$life> $crate::protocol::message::Message<$life> for $name $($generic)* {
            const NAME: &'static str = stringify!($name);
            const KEY: i16 = $key;
            const VERSIONS: std::ops::RangeInclusive<i16> =
                $min..=$crate::protocol::message::last!($same $(, $max)?);
            const FIRST_FLEXIBLE: i16 = $flexible;
        }

        impl<$life> $name $($generic)* {
            pub fn decode(
                reader: &mut $crate::protocol::codec::Reader<$life>,
                version: i16,
            ) -> Result<Self, $crate::protocol::codec::DecodeError> {
                <Self as $crate::protocol::message::Message<$life>>::decode_message(reader, version)
            }

            pub fn encode(&self, writer: &mut $crate::protocol::codec::Writer, version: i16) {
                <Self as $crate::protocol::message::Message<$life>>::encode_message(self, writer, version)
            }
        }
    };
}

macro_rules! last {
    ($only:expr) => {
        $only
    };
    ($first:expr, $last:expr) => {
        $last
    };
}

macro_rules! structure {
    ($(#[$attribute:meta])* $name:ident { $($fields:tt)* }) => {
        $crate::protocol::message::structure! { @body [$(#[$attribute])*] ($name) () ('a) { $($fields)* } }
    };
    ($(#[$attribute:meta])* $name:ident<$life:lifetime> { $($fields:tt)* }) => {
        $crate::protocol::message::structure! { @body [$(#[$attribute])*] ($name) (<$life>) ($life) { $($fields)* } }
    };
    (@body [$($attribute:tt)*] ($name:ident) ($($generic:tt)*) ($life:lifetime) {
        $($(#[$field_attribute:meta])* $field:ident: $type:ty = $min:literal $(+)? $(- $max:literal)?
            $(nullable $null:literal+)? $(tag $tag:literal)? $(default $default:expr)?,)*
    }) => {
        $($attribute)*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $name $($generic)* {
            $($(#[$field_attribute])* pub $field: $type,)*
        }

        impl $($generic)* Default for $name $($generic)* {
            fn default() -> Self {
                $name { $($field: $crate::protocol::message::default_value!($($default)?),)* }
            }
        }

        impl $($generic)* $crate::protocol::wire::Structure for $name $($generic)* {
            const FIELDS: &'static [$crate::protocol::wire::Field] = &[$($crate::protocol::wire::Field {
                name: stringify!($field),
                min_version: $min,
                max_version: $crate::protocol::message::last!(i16::MAX $(, $max)?),
                null_version: $crate::protocol::message::last!($min $(, $null)?),
                tag: $crate::protocol::message::last!(None $(, Some($tag))?),
                kind: <$type as $crate::protocol::wire::Wire>::TYPE,
            },)*];
        }

        impl<$life> $crate::protocol::wire::Wire<$life> for $name $($generic)* {
            const TYPE: $crate::protocol::wire::Type =
                $crate::protocol::wire::Type::Structure(<Self as $crate::protocol::wire::Structure>::FIELDS);

            #[allow(unused_mut, unused_variables)]
            fn read(
                reader: &mut $crate::protocol::codec::Reader<$life>,
                version: i16,
            ) -> Result<Self, $crate::protocol::codec::DecodeError> {
                let mut message = Self::default();
                $($crate::protocol::message::read_field! {
                    message, reader, version, $field, ($min $(, $max)?), ($($null)?), ($($tag)?)
                })*
                reader.tagged_fields(|tag, reader| {
                    $($crate::protocol::message::read_tagged_field! {
                        message, reader, version, tag, $field, ($min $(, $max)?), ($($tag)?)
                    })*
                    Ok(false)
                })?;
                Ok(message)
            }

            #[allow(unused_variables)]
            fn write(&self, writer: &mut $crate::protocol::codec::Writer, version: i16) {
                $($crate::protocol::message::write_field! {
                    self, writer, version, $field, ($min $(, $max)?), ($($null)?), ($($tag)?)
                })*
                if writer.is_flexible() {
                    let count: u32 = 0 $(+ $crate::protocol::message::count_tagged_field! {
                        self, version, $field, ($min $(, $max)?), ($($tag)?), ($($default)?)
                    })*;
                    writer.uvarint(count);
                    $($crate::protocol::message::write_tagged_field! {
                        self, writer, version, $field, ($min $(, $max)?), ($($tag)?), ($($default)?)
                    })*
                }
            }
        }
    };
}

macro_rules! default_value {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

macro_rules! in_version {
    ($version:ident, ($min:literal)) => {
        $version >= $min
    };
    ($version:ident, ($min:literal, $max:literal)) => {
        ($min..=$max).contains(&$version)
    };
}

macro_rules! read_field {
    ($message:ident, $reader:ident, $version:ident, $field:ident, $range:tt, (), ()) => {
        if $crate::protocol::message::in_version!($version, $range) {
            $message.$field = $crate::protocol::wire::Wire::read($reader, $version)?;
        }
    };
    ($message:ident, $reader:ident, $version:ident, $field:ident, $range:tt, ($null:literal), ()) => {
        if $crate::protocol::message::in_version!($version, $range) {
            let value = $crate::protocol::wire::Wire::read($reader, $version)?;
            $message.$field = $reader.allow_null($version >= $null, value)?;
        }
    };
    ($message:ident, $reader:ident, $version:ident, $field:ident, $range:tt, (), ($tag:literal)) => {};
}

macro_rules! read_tagged_field {
    ($message:ident, $reader:ident, $version:ident, $seen:ident, $field:ident, $range:tt, ()) => {};
    ($message:ident, $reader:ident, $version:ident, $seen:ident, $field:ident, $range:tt, ($tag:literal)) => {
        if $seen == $tag && $crate::protocol::message::in_version!($version, $range) {
            $message.$field = $crate::protocol::wire::Wire::read($reader, $version)?;
            return Ok(true);
        }
    };
}

macro_rules! write_field {
    ($self:ident, $writer:ident, $version:ident, throttle_time_ms, $range:tt, (), ()) => {
        if $crate::protocol::message::in_version!($version, $range) {
            $writer.put_throttle_time($self.throttle_time_ms);
        }
    };
    ($self:ident, $writer:ident, $version:ident, $field:ident, $range:tt, (), ()) => {
        if $crate::protocol::message::in_version!($version, $range) {
            $crate::protocol::wire::Wire::write(&$self.$field, $writer, $version);
        }
    };
    ($self:ident, $writer:ident, $version:ident, $field:ident, $range:tt, ($null:literal), ()) => {
        if $crate::protocol::message::in_version!($version, $range) {
            $writer.write_nullable($version >= $null, &$self.$field, $version);
        }
    };
    ($self:ident, $writer:ident, $version:ident, $field:ident, $range:tt, (), ($tag:literal)) => {};
}

macro_rules! count_tagged_field {
    ($self:ident, $version:ident, $field:ident, $range:tt, (), ($($default:expr)?)) => { 0 };
    ($self:ident, $version:ident, $field:ident, $range:tt, ($tag:literal), ($($default:expr)?)) => {
        u32::from(
            $crate::protocol::message::in_version!($version, $range)
                && $crate::protocol::message::differs(
                    &$self.$field,
                    $crate::protocol::message::default_value!($($default)?),
                ),
        )
    };
}

macro_rules! write_tagged_field {
    ($self:ident, $writer:ident, $version:ident, $field:ident, $range:tt, (), ($($default:expr)?)) => {};
    ($self:ident, $writer:ident, $version:ident, $field:ident, $range:tt, ($tag:literal), ($($default:expr)?)) => {
        if $crate::protocol::message::count_tagged_field!($self, $version, $field, $range, ($tag), ($($default)?)) == 1 {
            $writer.tagged_field($tag, &$self.$field, $version);
        }
    };
}

pub(super) fn differs<T: PartialEq>(value: &T, default: T) -> bool {
    *value != default
}

pub(crate) use {
    count_tagged_field, default_value, in_version, last, message, read_field, read_tagged_field, structure,
    write_field, write_tagged_field,
};

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::wire::Records;
    use super::*;

    message! {
        Shape<'a>, key 1, versions 0-3, flexible 2+ {
            name: Option<&'a str> = 0+ nullable 1+,
            list: Vec<i32> = 0-2,
            late: i16 = 3+ default -1,
            first: Inner<'a> = 2+ tag 0,
            second: i64 = 2+ tag 3 default 9,
            records: Records = 0+,
        }
        Inner<'a> { text: &'a str = 0+, }
    }

    fn encoded(shape: &Shape, version: i16) -> Vec<u8> {
        let mut writer = Writer::new();
        shape.encode(&mut writer, version);
        writer.finish().concat()
    }

    fn shape(bytes: &[u8], version: i16) -> Result<Shape<'_>, DecodeError> {
        Shape::decode(&mut Reader::new(bytes), version)
    }

    #[test]
    fn lengths_are_compact_from_the_first_flexible_version_on() {
        let shape = Shape { name: Some("ab"), list: vec![1], ..Default::default() };
        assert_eq!(encoded(&shape, 1), [0, 2, b'a', b'b', 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(encoded(&shape, 2), [3, b'a', b'b', 2, 0, 0, 0, 1, 1, 0]);
    }

    #[test]
    fn fields_outside_their_versions_are_left_out_and_read_as_default() {
        let full = Shape { list: vec![1], late: 5, ..Default::default() };
        assert_eq!(shape(&encoded(&full, 2), 2), Ok(Shape { late: -1, ..full.clone() }));
        assert_eq!(shape(&encoded(&full, 3), 3), Ok(Shape { list: vec![], ..full }));
    }

    #[test]
    fn null_is_refused_and_never_written_before_the_version_that_knows_it() {
        assert_eq!(shape(&[0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0], 0), Err(DecodeError::Null));
        assert_eq!(shape(&[0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0], 1), Ok(Shape::default()));
        assert_eq!(encoded(&Shape::default(), 0), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        // A list that knows no null at all.
        assert_eq!(shape(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], 0), Err(DecodeError::Null));
    }

    #[test]
    fn tagged_fields_are_written_while_not_default_and_skipped_when_unknown() {
        let shape_2 = Shape { first: Inner { text: "x" }, second: 10, ..Default::default() };
        let bytes = [0, 1, 1, 2, 0, 3, 2, b'x', 0, 3, 8, 0, 0, 0, 0, 0, 0, 0, 10];
        assert_eq!(encoded(&shape_2, 2), bytes);
        assert_eq!(shape(&bytes, 2), Ok(shape_2));
        // Tag 0, an unknown tag 200 of three bytes, then nothing.
        let bytes = [0, 1, 1, 2, 0, 3, 2, b'x', 0, 0xc8, 1, 3, 7, 7, 7];
        assert_eq!(shape(&bytes, 2), Ok(Shape { first: Inner { text: "x" }, ..Default::default() }));
    }

    #[test]
    fn a_tagged_field_keeps_to_its_size() {
        assert_eq!(shape(&[0, 1, 1, 1, 3, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0], 2), Err(DecodeError::TaggedFieldSize));
        assert!(matches!(shape(&[0, 1, 1, 1, 3, 7, 0, 0, 0, 0, 0, 0, 0, 1], 2), Err(DecodeError::Truncated { .. })));
    }

    #[test]
    fn hostile_lengths_are_refused_before_anything_is_allocated() {
        let huge = i32::MAX.to_be_bytes();
        assert!(matches!(shape(&[&[0, 0][..], &huge].concat(), 0), Err(DecodeError::Truncated { .. })));
        assert!(matches!(shape(&[0, 0, 0x80, 0, 0, 0], 0), Err(DecodeError::Length { length: -2147483648 })));
        assert!(matches!(shape(&[0xff, 0xfe], 0), Err(DecodeError::Length { length: -2 })));
        assert_eq!(shape(&[0xff; 9], 2), Err(DecodeError::Varint));
        // 2^32 - 1 in compact form is a length of 2^32 - 2.
        assert!(matches!(shape(&[0xff, 0xff, 0xff, 0xff, 0x0f], 2), Err(DecodeError::Length { length: 4294967294 })));
    }

    #[test]
    fn records_are_spliced_without_a_copy_and_the_frame_knows_its_length() {
        let batch = Bytes::from(vec![7; 1000]);
        let small = Bytes::from_static(b"small");
        let response =
            Shape { records: Records(vec![batch.clone(), batch.clone(), small].into()), ..Default::default() };
        let mut writer = Writer::frame();
        response.encode(&mut writer, 1);
        assert_eq!(writer.written_bytes(), 4 + 2 + 4 + 4 + 2005);
        let pieces = writer.finish();
        assert_eq!(pieces.len(), 4);
        assert_eq!(pieces[1].as_ptr(), batch.as_ptr());
        assert_eq!(pieces[2].as_ptr(), batch.as_ptr());
        let frame = pieces.concat();
        assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes());
        assert_eq!(shape(&frame[4..], 1).unwrap().records.bytes(), 2005);
    }

    #[test]
    fn the_schema_says_what_the_declaration_says() {
        let [name, list, late, first, ..] = Shape::FIELDS else { panic!() };
        assert_eq!((name.name, name.min_version, name.null_version, name.tag), ("name", 0, 1, None));
        assert_eq!((list.min_version, list.max_version), (0, 2));
        assert!(!late.is_in(2) && late.is_in(3));
        assert_eq!(first.tag, Some(0));
        assert_eq!((Shape::VERSIONS, Shape::FIRST_FLEXIBLE), (0..=3, 2));
        assert_eq!(shape(&[], 4), Err(DecodeError::Version { version: 4, min: 0, max: 3 }));
    }
}
