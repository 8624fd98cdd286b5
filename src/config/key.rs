//! One row of the configuration tables: what a key is called, what it may hold, and what it is for. Everything said about
//! a key anywhere (parsing, errors, DescribeConfigs, the README's table) comes from its row.

use std::fmt;

/// Kafka's types of configuration values; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
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
    /// From the first to the second, or the third.
    BetweenOr(i64, i64, i64),
    Fraction,
    /// One of these words; for a list, any of them.
    OneOf(&'static [&'static str]),
    /// Replicas as partition:broker, or * for all.
    Replicas,
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

    /// Kafka counts minutes and hours in 32 bits.
    pub fn value_type(self, key: &Key) -> ValueType {
        if self.factor > 1 { ValueType::Int } else { key.value_type }
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
        let wrong = match self.value_type {
            ValueType::Boolean => {
                let is_bool = text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
                (!is_bool).then(|| "Expected value to be either true or false".to_owned())
            }
            ValueType::Short => self.wrong_number(text.parse::<i16>().ok().map(i64::from), "SHORT"),
            ValueType::Int => self.wrong_number(text.parse::<i32>().ok().map(i64::from), "INT"),
            ValueType::Long => self.wrong_number(text.parse::<i64>().ok(), "LONG"),
            ValueType::Double => match (text.parse::<f64>(), self.valid) {
                (Ok(number), Valid::Fraction) if number < 0.0 => Some("Value must be at least 0".to_owned()),
                (Ok(number), Valid::Fraction) if number > 1.0 => Some("Value must be no more than 1".to_owned()),
                (Ok(number), _) if number.is_finite() => None,
                _ => Some("Not a number of type DOUBLE".to_owned()),
            },
            ValueType::String => self.wrong_word(text),
            ValueType::List => return self.check_list(text),
        };
        wrong.map_or(Ok(()), |said| Err(self.refuse(text, said)))
    }

    fn check_list(&self, text: &str) -> Result<(), ConfigError> {
        if let Some((word, said)) = list(text).find_map(|word| Some((word, self.wrong_word(word)?))) {
            return Err(self.refuse(word, said));
        }
        let has_gap = !text.is_empty() && text.split(',').any(|word| word.trim().is_empty());
        match self.valid {
            Valid::OneOf(_) if has_gap => {
                let problem = format!("Configuration '{}' values must not be empty.", self.name);
                Err(ConfigError { key: self.name.into(), value: None, place: None, problem, said: None })
            }
            Valid::NotEmpty if list(text).next().is_none() => Err(ConfigError::value(self.name, text, self.allowed())),
            Valid::Replicas if text != "*" && !list(text).all(is_replica) => {
                let said = format!(
                    "{} must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                    self.name
                );
                Err(self.refuse(&format!("[{text}]"), said))
            }
            _ => Ok(()),
        }
    }

    fn refuse(&self, value: &str, said: String) -> ConfigError {
        ConfigError { said: Some(said), ..ConfigError::value(self.name, value, self.allowed()) }
    }

    /// What a list holds, by default if it is not set; `None` if the key is no list.
    pub fn parts(&self, value: Option<&str>) -> Option<Vec<String>> {
        let is_list = self.value_type == ValueType::List;
        is_list.then(|| list(value.or(self.default).unwrap_or("")).map(str::to_owned).collect())
    }

    /// In Kafka's words what is wrong with a number, or with a text that is none.
    fn wrong_number(&self, number: Option<i64>, kind: &str) -> Option<String> {
        let Some(number) = number else { return Some(format!("Not a number of type {kind}")) };
        match self.valid {
            Valid::AtLeast(least) | Valid::Between(least, _) if number < least => {
                Some(format!("Value must be at least {least}"))
            }
            Valid::Between(_, most) if number > most => Some(format!("Value must be no more than {most}")),
            Valid::BetweenOr(least, most, other) if !(least..=most).contains(&number) && number != other => {
                Some(format!("Value must be between {least} and {most} or equal to {other}"))
            }
            _ => None,
        }
    }

    fn wrong_word(&self, word: &str) -> Option<String> {
        match self.valid {
            Valid::OneOf(words) if !words.contains(&word) => {
                Some(format!("String must be one of: {}", words.join(", ")))
            }
            Valid::NotEmpty if word.is_empty() => Some("String must be non-empty".to_owned()),
            _ => None,
        }
    }

    /// What the key may hold, as the end of the sentence "it must be …".
    pub fn allowed(&self) -> String {
        let kind = match self.value_type {
            ValueType::Boolean => "true or false",
            ValueType::Short => "a whole number of up to 16 bits",
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
            Valid::BetweenOr(least, most, other) => format!("{kind} from {least} to {most}, or {other}"),
            Valid::Fraction => format!("{kind} from 0 to 1"),
            Valid::Replicas => format!("{kind} of partition:broker, or *"),
            Valid::OneOf(words) if self.value_type == ValueType::List => {
                format!("{kind} of any of: {}", words.join(", "))
            }
            Valid::OneOf(words) => format!("one of: {}", words.join(", ")),
        }
    }
}

fn is_replica(word: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    word.split_once(':').is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
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
    /// The end of the sentence in which Kafka refuses this value, if it has one.
    pub said: Option<String>,
}

impl ConfigError {
    pub fn value(key: &str, value: &str, allowed: impl fmt::Display) -> ConfigError {
        ConfigError::problem(key, value, format!("it must be {allowed}"))
    }

    pub fn problem(key: &str, value: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError { key: key.into(), value: Some(value.into()), place: None, problem: problem.into(), said: None }
    }

    /// What a client is told: Kafka's sentence where it has one. Of an error without a value the problem says it all.
    pub fn sentence(&self) -> String {
        match (&self.value, &self.said) {
            (Some(value), Some(said)) => format!("Invalid value {value} for configuration {}: {said}", self.key),
            (Some(_), None) => self.to_string(),
            (None, _) => self.problem.clone(),
        }
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
        let cases: [(Key, &[&str], &[&str]); 11] = [
            (key(Boolean, Valid::Any), &["true", "FALSE", " true "], &["yes", "1", ""]),
            (key(Int, Valid::AtLeast(1)), &["1", "2147483647"], &["0", "2147483648", "1.5", "", "10k"]),
            (key(Long, Valid::Between(-1, 5)), &["-1", "5"], &["-2", "6", "9223372036854775808"]),
            (key(Double, Valid::Fraction), &["0", "0.5", "1"], &["1.01", "-0.1", "NaN", "half"]),
            (key(String, Valid::OneOf(&["a", "b"])), &["a", "b"], &["A", "c", ""]),
            (key(String, Valid::Any), &["", "x"], &[]),
            (key(List, Valid::OneOf(&["a", "b"])), &["", "a", "a, b"], &["a,c", "a,,b"]),
            (key(Short, Valid::AtLeast(1)), &["1", "32767"], &["0", "32768"]),
            (key(Int, Valid::BetweenOr(1, 9, -1)), &["-1", "1", "9"], &["0", "10", "-2"]),
            (key(List, Valid::Replicas), &["", "*", "0:1,2:13"], &["a", "0", "0:", "*,0:1"]),
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
    fn a_client_is_refused_in_kafkas_words() {
        let said = |value_type, valid, text| key(value_type, valid).check(text).unwrap_err().sentence();
        let begin = |value: &str| format!("Invalid value {value} for configuration k: ");
        use ValueType::*;
        assert_eq!(said(Int, Valid::AtLeast(1), "0"), begin("0") + "Value must be at least 1");
        assert_eq!(said(Int, Valid::Between(1, 5), "6"), begin("6") + "Value must be no more than 5");
        assert_eq!(said(Long, Valid::Any, "x"), begin("x") + "Not a number of type LONG");
        assert_eq!(said(Double, Valid::Fraction, "2"), begin("2") + "Value must be no more than 1");
        assert_eq!(said(Boolean, Valid::Any, "yes"), begin("yes") + "Expected value to be either true or false");
        assert_eq!(said(List, Valid::OneOf(&["a", "b"]), "a,c"), begin("c") + "String must be one of: a, b");
        assert_eq!(said(List, Valid::OneOf(&["a"]), "a,,a"), "Configuration 'k' values must not be empty.");
        assert!(said(List, Valid::Replicas, "a").starts_with("Invalid value [a] for configuration k: k must be the"));
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
