//! One row of the configuration tables: what a key is called, what it may hold, and what it is for. Everything said about
//! a key anywhere (parsing, errors, DescribeConfigs, the README's table) comes from its row.

use std::fmt;

/// Kafka's types of configuration values; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Importance {
    High,
    Medium,
    Low,
}

/// Which values of its type a key may hold.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Valid {
    Any,
    NotEmpty,
    AtLeast(i64),
    Between(i64, i64),
    Fraction,
    /// One of these words; for a list, any of them.
    OneOf(&'static [&'static str]),
}

/// Another key that gives this one its value, perhaps in another unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Synonym {
    pub name: &'static str,
    /// What one of its units is in units of the key: 1, or the milliseconds of a minute or an hour.
    pub factor: i64,
}

pub const fn same(name: &'static str) -> Synonym {
    Synonym { name, factor: 1 }
}

pub const fn minutes(name: &'static str) -> Synonym {
    Synonym { name, factor: 60_000 }
}

pub const fn hours(name: &'static str) -> Synonym {
    Synonym { name, factor: 3_600_000 }
}

impl Synonym {
    /// The value in units of the key. Kafka reads a negative time as "never" whatever its unit.
    pub fn to_key(self, text: &str) -> String {
        match text.trim().parse::<i64>() {
            Ok(number) if self.factor > 1 && number >= 0 => number.saturating_mul(self.factor).to_string(),
            _ => text.to_string(),
        }
    }

    /// The value of a key in units of this synonym.
    pub fn of_key(self, text: &str) -> String {
        match text.parse::<i64>() {
            Ok(number) if self.factor > 1 && number >= 0 => (number / self.factor).to_string(),
            _ => text.to_string(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Key {
    pub name: &'static str,
    pub value_type: ValueType,
    /// `None`: unset, Kafka's null.
    pub default: Option<&'static str>,
    pub valid: Valid,
    pub importance: Importance,
    /// For a topic's key, the broker's keys that set its default, the strongest first. For a broker's key, its other names.
    pub synonyms: &'static [Synonym],
    pub(super) doc: &'static str,
}

impl Key {
    /// One or two sentences in our own words.
    pub fn documentation(&self) -> &'static str {
        self.doc.trim()
    }

    /// Why `text` cannot be this key's value; `Ok` if it can.
    pub fn check(&self, text: &str) -> Result<(), ConfigError> {
        let text = text.trim();
        let allowed = match self.value_type {
            ValueType::Boolean => text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"),
            ValueType::Int => text.parse::<i32>().is_ok_and(|number| self.admits(number.into())),
            ValueType::Long => text.parse::<i64>().is_ok_and(|number| self.admits(number)),
            ValueType::Double => text.parse::<f64>().is_ok_and(|number| match self.valid {
                Valid::Fraction => (0.0..=1.0).contains(&number),
                _ => number.is_finite(),
            }),
            ValueType::String => self.admits_word(text),
            ValueType::List => {
                let mut words = list(text).peekable();
                (self.valid != Valid::NotEmpty || words.peek().is_some()) && words.all(|word| self.admits_word(word))
            }
        };
        if allowed { Ok(()) } else { Err(ConfigError::value(self.name, text, self.allowed())) }
    }

    /// What a list holds, by default if it is not set; `None` if the key is no list.
    pub fn parts(&self, value: Option<&str>) -> Option<Vec<String>> {
        let is_list = self.value_type == ValueType::List;
        is_list.then(|| list(value.or(self.default).unwrap_or("")).map(str::to_owned).collect())
    }

    fn admits(&self, number: i64) -> bool {
        match self.valid {
            Valid::AtLeast(least) => number >= least,
            Valid::Between(least, most) => (least..=most).contains(&number),
            _ => true,
        }
    }

    fn admits_word(&self, word: &str) -> bool {
        match self.valid {
            Valid::OneOf(words) => words.contains(&word),
            Valid::NotEmpty => !word.is_empty(),
            _ => true,
        }
    }

    /// What the key may hold, as the end of the sentence "it must be …".
    pub fn allowed(&self) -> String {
        let kind = match self.value_type {
            ValueType::Boolean => "true or false",
            ValueType::Int => "a whole number of up to 32 bits",
            ValueType::Long => "a whole number",
            ValueType::Double => "a number",
            ValueType::String => "text",
            ValueType::List => "a list with commas",
        };
        match self.valid {
            Valid::Any => kind.to_string(),
            Valid::NotEmpty => format!("{kind}, not empty"),
            Valid::AtLeast(least) => format!("{kind}, at least {least}"),
            Valid::Between(least, most) => format!("{kind} from {least} to {most}"),
            Valid::Fraction => format!("{kind} from 0 to 1"),
            Valid::OneOf(words) if self.value_type == ValueType::List => {
                format!("{kind} of any of: {}", words.join(", "))
            }
            Valid::OneOf(words) => format!("one of: {}", words.join(", ")),
        }
    }
}

/// The words of a list: parted by commas, blanks around them dropped.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// A setting that cannot be used: which, what it holds, where it stands, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub key: String,
    pub value: Option<String>,
    /// `server.properties:12`, or the command line; `None` for a topic's setting.
    pub place: Option<String>,
    pub problem: String,
}

impl ConfigError {
    pub fn value(key: &str, value: &str, allowed: impl fmt::Display) -> ConfigError {
        ConfigError::problem(key, value, format!("it must be {allowed}"))
    }

    pub fn problem(key: &str, value: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError { key: key.into(), value: Some(value.into()), place: None, problem: problem.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "Invalid value {value} for configuration {}", self.key)?,
            None => write!(f, "Invalid configuration {}", self.key)?,
        }
        if let Some(place) = &self.place {
            write!(f, " ({place})")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// The name among `names` that `name` was probably meant to be.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, nearest) = names.map(|known| (edit_distance(name, known), known)).min()?;
    (distance <= 1 + name.len() / 5).then_some(nearest)
}

/// How many characters must be added, dropped or changed to get from one to the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value_type: ValueType, valid: Valid) -> Key {
        Key { name: "k", value_type, default: None, valid, importance: Importance::Low, synonyms: &[], doc: "" }
    }

    #[test]
    fn each_type_and_range_refuses_what_lies_outside() {
        use ValueType::*;
        let cases: [(Key, &[&str], &[&str]); 8] = [
            (key(Boolean, Valid::Any), &["true", "FALSE", " true "], &["yes", "1", ""]),
            (key(Int, Valid::AtLeast(1)), &["1", "2147483647"], &["0", "2147483648", "1.5", "", "10k"]),
            (key(Long, Valid::Between(-1, 5)), &["-1", "5"], &["-2", "6", "9223372036854775808"]),
            (key(Double, Valid::Fraction), &["0", "0.5", "1"], &["1.01", "-0.1", "NaN", "half"]),
            (key(String, Valid::OneOf(&["a", "b"])), &["a", "b"], &["A", "c", ""]),
            (key(String, Valid::Any), &["", "x"], &[]),
            (key(List, Valid::OneOf(&["a", "b"])), &["", "a", "a, b"], &["a,c"]),
            (key(List, Valid::NotEmpty), &["x"], &["", " , "]),
        ];
        for (key, good, bad) in cases {
            for text in good {
                assert_eq!(key.check(text), Ok(()), "{key:?}");
            }
            for text in bad {
                assert!(key.check(text).is_err(), "{text:?} for {key:?}");
            }
        }
    }

    #[test]
    fn a_list_that_is_not_set_has_its_default() {
        let policy = Key { default: Some("delete"), ..key(ValueType::List, Valid::Any) };
        assert_eq!(policy.parts(None), Some(vec!["delete".to_owned()]));
        assert_eq!(policy.parts(Some("")), Some(vec![]));
        assert_eq!(policy.parts(Some("a, b")), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(key(ValueType::String, Valid::Any).parts(Some("a,b")), None);
    }

    #[test]
    fn an_error_says_key_value_place_and_what_is_allowed() {
        let mut error = key(ValueType::Int, Valid::AtLeast(1)).check("0").unwrap_err();
        error.place = Some("server.properties:3".into());
        assert_eq!(
            error.to_string(),
            "Invalid value 0 for configuration k (server.properties:3): it must be a whole number of up to 32 bits, at least 1"
        );
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not_offered() {
        let names = ["log.retention.ms", "log.retention.hours", "num.partitions"];
        assert_eq!(nearest("log.retention.hour", names.into_iter()), Some("log.retention.hours"));
        assert_eq!(nearest("num.partition", names.into_iter()), Some("num.partitions"));
        assert_eq!(nearest("something.else", names.into_iter()), None);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
    }

    #[test]
    fn a_synonym_converts_its_unit_both_ways_and_never_is_never() {
        let hours = hours("log.retention.hours");
        assert_eq!(hours.to_key("72"), "259200000");
        assert_eq!(hours.of_key("259200000"), "72");
        assert_eq!(hours.to_key("-1"), "-1");
        assert_eq!(hours.to_key("x"), "x");
        assert_eq!(hours.to_key("9223372036854775807"), "9223372036854775807");
    }
}
