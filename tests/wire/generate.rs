//! Random frames out of the schema that the declarations yield. They are written here byte by byte, not by the encoder under
//! test, and in the one form that every implementation writes: tagged fields are absent or differ from their default.

use gannet::protocol::{Field, Type};

/// SplitMix64: a seed is a whole history.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// The body of a message of this version.
pub fn body(fields: &[Field], version: i16, flexible: bool, random: &mut Random) -> Vec<u8> {
    let mut generator = Generator { out: Vec::new(), random, version, flexible, tagged: false };
    generator.structure(fields);
    generator.out
}

pub fn put_uvarint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Generator<'r> {
    out: Vec<u8>,
    random: &'r mut Random,
    version: i16,
    flexible: bool,
    /// Inside a tagged field: nothing may look like a default.
    tagged: bool,
}

impl Generator<'_> {
    fn structure(&mut self, fields: &[Field]) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_none() && field.is_in(version)) {
            self.value(&field.kind, version >= field.null_version);
        }
        if !self.flexible {
            return;
        }
        let mut tagged = Vec::new();
        for field in fields.iter().filter(|field| field.is_in(version)) {
            let Some(tag) = field.tag else { continue };
            if self.random.chance(2) {
                let mut inside =
                    Generator { out: Vec::new(), random: &mut *self.random, version, flexible: true, tagged: true };
                inside.value(&field.kind, false);
                tagged.push((tag, inside.out));
            }
        }
        put_uvarint(&mut self.out, tagged.len() as u32);
        for (tag, bytes) in tagged {
            put_uvarint(&mut self.out, tag);
            put_uvarint(&mut self.out, bytes.len() as u32);
            self.out.extend(bytes);
        }
    }

    fn value(&mut self, kind: &Type, null_allowed: bool) {
        let null = null_allowed && !self.tagged && self.random.chance(4);
        match kind {
            Type::Bool => {
                let value = u8::from(self.tagged || self.random.chance(2));
                self.out.push(value);
            }
            Type::Int8 => self.integer(1),
            Type::Int16 | Type::Uint16 => self.integer(2),
            Type::Int32 => self.integer(4),
            Type::Int64 => self.integer(8),
            Type::Float64 => {
                let value = (1 + self.random.below(1 << 20)) as f64 / 8.0;
                self.out.extend(value.to_be_bytes());
            }
            Type::Uuid => {
                for _ in 0..2 {
                    let word = self.random.next();
                    self.out.extend(word.to_be_bytes());
                }
            }
            Type::String | Type::NullableString => {
                let text = self.text();
                let nullable = matches!(kind, Type::NullableString);
                self.length::<2>(if null && nullable { None } else { Some(text.len()) });
                if !(null && nullable) {
                    self.out.extend(text.as_bytes());
                }
            }
            Type::NullableBytes if null => self.length::<4>(None),
            Type::Bytes | Type::NullableBytes | Type::Records => {
                let bytes = self.random.below(if self.random.clone().chance(8) { 1000 } else { 20 });
                self.length::<4>(Some(bytes));
                for _ in 0..bytes {
                    let byte = self.random.next() as u8;
                    self.out.push(byte);
                }
            }
            Type::NullableArray(_) if null => self.length::<4>(None),
            Type::Array(element) | Type::NullableArray(element) => {
                let count = self.random.below(3) + usize::from(self.tagged);
                self.length::<4>(Some(count));
                for _ in 0..count {
                    self.value(element, false);
                }
            }
            Type::Structure(fields) => self.structure(fields),
            Type::NullableStructure(_) if null => self.out.push(0xff),
            Type::NullableStructure(fields) => {
                self.out.push(1);
                self.structure(fields);
            }
        }
    }

    fn integer(&mut self, bytes: usize) {
        let value = match self.random.below(4) {
            _ if self.tagged => 1 + self.random.below(100) as i64,
            0 => self.random.below(3) as i64 - 1,
            1 => i64::MAX >> (64 - 8 * bytes),
            2 => i64::MIN >> (64 - 8 * bytes),
            _ => self.random.next() as i64,
        };
        self.out.extend(&value.to_be_bytes()[8 - bytes..]);
    }

    fn text(&mut self) -> String {
        const CHARACTERS: [char; 8] = ['a', 'Z', '0', '.', '-', 'ß', '語', '🦀'];
        let characters = self.random.below(if self.random.clone().chance(8) { 150 } else { 12 });
        (0..characters + usize::from(self.tagged)).map(|_| CHARACTERS[self.random.below(8)]).collect()
    }

    fn length<const N: usize>(&mut self, length: Option<usize>) {
        match length {
            _ if self.flexible => put_uvarint(&mut self.out, length.map_or(0, |length| length as u32 + 1)),
            None => self.out.extend([0xff; N]),
            Some(length) => self.out.extend(&(length as u64).to_be_bytes()[8 - N..]),
        }
    }
}
