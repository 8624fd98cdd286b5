//! The form in which tables of keys are written: each row is at once a typed field, its documentation and its `Key`.

use super::key::{ConfigError, Key, list};

/// A type that a setting can have. Texts are checked against the key's row before they are read.
pub trait Setting: Sized {
    fn read(text: &str) -> Option<Self>;

    /// As DescribeConfigs shows it; `None` is Kafka's null.
    fn text(&self) -> Option<String>;

    /// The value of a key without default.
    fn unset() -> Option<Self> {
        None
    }
}

macro_rules! numbers {
    ($($type:ty)*) => { $(
        impl Setting for $type {
            fn read(text: &str) -> Option<$type> {
                text.trim().parse().ok()
            }
            fn text(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )* };
}

numbers!(i32 i64 u16 u32 u64 usize);

impl Setting for f64 {
    fn read(text: &str) -> Option<f64> {
        text.trim().parse().ok()
    }

    /// As Java writes it: a whole number with its point.
    fn text(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

impl Setting for bool {
    fn read(text: &str) -> Option<bool> {
        text.trim().to_ascii_lowercase().parse().ok()
    }

    fn text(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for String {
    fn read(text: &str) -> Option<String> {
        Some(text.trim().to_string())
    }

    fn text(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl Setting for Vec<String> {
    fn read(text: &str) -> Option<Vec<String>> {
        Some(list(text).map(str::to_string).collect())
    }

    fn text(&self) -> Option<String> {
        Some(self.join(","))
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(text: &str) -> Option<Option<T>> {
        T::read(text).map(Some)
    }

    fn text(&self) -> Option<String> {
        self.as_ref().and_then(T::text)
    }

    fn unset() -> Option<Option<T>> {
        Some(None)
    }
}

pub(super) fn read<T: Setting>(key: &Key, text: &str) -> Result<T, ConfigError> {
    key.check(text)?;
    T::read(text).ok_or_else(|| ConfigError::value(key.name, text, key.allowed()))
}

pub(super) fn default<T: Setting>(key: &Key) -> T {
    match key.default {
        Some(text) => read(key, text).expect("the default of a key is one of its values"),
        None => T::unset().expect("a key without default is an Option"),
    }
}

/// Declares a struct of settings. A row: documentation, field, type, then the key's name, type, default, valid values,
/// importance and synonyms. Fields after `besides` are not settings and start as their `Default`.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $struct:ident {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $name:literal $value_type:ident, $default:expr, $valid:expr, $importance:ident, [$($synonym:expr),*]; )*
        }
        $( besides { $( $(#[$other_meta:meta])* $other:ident: $other_type:ty, )* } )?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $struct {
            $( $(#[doc = $doc])+ pub $field: $type, )*
            $( $( $(#[$other_meta])* pub $other: $other_type, )* )?
        }

        impl $struct {
            /// The table, one row a key.
            pub const KEYS: &'static [$crate::config::Key] = &[ $( $crate::config::Key {
                name: $name,
                value_type: $crate::config::ValueType::$value_type,
                default: $default,
                valid: $valid,
                importance: $crate::config::Importance::$importance,
                synonyms: &[$($synonym),*],
                doc: concat!($($doc),+),
            } ),* ];

            pub fn key(name: &str) -> Option<&'static $crate::config::Key> {
                Self::KEYS.iter().find(|key| key.name == name)
            }

            /// Sets the key of this name, which must be one of the table's.
            pub(super) fn set(&mut self, name: &str, text: &str) -> Result<(), $crate::config::ConfigError> {
                let key = Self::key(name).expect("only keys of the table are set");
                match name {
                    $( $name => self.$field = $crate::config::settings::read(key, text)?, )*
                    _ => unreachable!("every key of the table has a field"),
                }
                Ok(())
            }

            /// The value of the key of this name as text; `None` if it is unset or not of this table.
            pub fn text(&self, name: &str) -> Option<String> {
                match name {
                    $( $name => $crate::config::settings::Setting::text(&self.$field), )*
                    _ => None,
                }
            }
        }

        impl Default for $struct {
            fn default() -> $struct {
                let key = |name| $struct::key(name).expect("every field has a key");
                $struct {
                    $( $field: $crate::config::settings::default(key($name)), )*
                    $( $( $other: Default::default(), )* )?
                }
            }
        }
    };
}

pub(super) use settings;

/// Declares an enum whose variants have names in the configuration.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $enum:ident { $( $(#[$variant_meta:meta])* $variant:ident = $word:literal, )* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $enum { $( $(#[$variant_meta])* $variant, )* }

        impl $enum {
            pub const WORDS: &'static [&'static str] = &[ $( $word ),* ];

            pub fn word(self) -> &'static str {
                match self { $( $enum::$variant => $word, )* }
            }
        }

        impl $crate::config::settings::Setting for $enum {
            fn read(text: &str) -> Option<$enum> {
                match text.trim() {
                    $( $word => Some($enum::$variant), )*
                    _ => None,
                }
            }

            fn text(&self) -> Option<String> {
                Some(self.word().to_string())
            }
        }
    };
}

pub(super) use words;
