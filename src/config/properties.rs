//! Java's `.properties` files, as Kafka reads `server.properties`.

use std::fmt;

/// The settings of one file, in its order. A key may stand there twice: the last one wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// As the operator named it; for messages.
    pub file: String,
    pub entries: Vec<Property>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    pub key: String,
    pub value: String,
    /// Where the setting starts, counted from 1.
    pub line: usize,
}

/// A place in a file that cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertiesError {
    pub file: String,
    pub line: usize,
    pub problem: String,
}

impl fmt::Display for PropertiesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.problem)
    }
}

impl std::error::Error for PropertiesError {}

impl Properties {
    /// Comments start with `#` or `!`; `=`, `:` or white space ends a key; a `\` at the end of a line continues it on the
    /// next; `\t \n \r \f \uXXXX` are escapes and a `\` before any other character stands for that character.
    pub fn parse(file: &str, text: &str) -> Result<Properties, PropertiesError> {
        let mut entries = Vec::new();
        let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).enumerate();
        while let Some((at, first)) = lines.next() {
            let first = first.trim_start_matches(BLANK);
            if first.is_empty() || first.starts_with(['#', '!']) {
                continue;
            }
            let mut logical = first.to_string();
            while ends_open(&logical) {
                logical.pop();
                let Some((_, next)) = lines.next() else { break };
                logical.push_str(next.trim_start_matches(BLANK));
            }
            let (key, value) = split(&logical);
            let unescape = |text| {
                unescape(text).map_err(|problem| PropertiesError { file: file.to_string(), line: at + 1, problem })
            };
            entries.push(Property { key: unescape(key)?, value: unescape(value)?, line: at + 1 });
        }
        Ok(Properties { file: file.to_string(), entries })
    }

    /// The setting that counts for `key`: the last one.
    pub fn get(&self, key: &str) -> Option<&Property> {
        self.entries.iter().rev().find(|property| property.key == key)
    }
}

const BLANK: [char; 3] = [' ', '\t', '\u{c}'];

/// An odd number of backslashes at the end: the last of them is not itself escaped.
fn ends_open(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Key and value, still escaped: the first separator that is not escaped, with the blanks around it, parts them.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, character)| {
        let ends = !escaped && (matches!(character, '=' | ':') || BLANK.contains(character));
        escaped = *character == '\\' && !escaped;
        ends
    });
    let Some((end, _)) = end else { return (line, "") };
    let rest = line[end..].trim_start_matches(BLANK);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], rest.trim_start_matches(BLANK))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = Vec::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.extend(character.encode_utf16(&mut [0; 2]).iter());
            continue;
        }
        let unit = match characters.next() {
            Some('t') => u16::from(b'\t'),
            Some('n') => u16::from(b'\n'),
            Some('r') => u16::from(b'\r'),
            Some('f') => 0x0c,
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                let is_hex = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                match u16::from_str_radix(&digits, 16) {
                    Ok(unit) if is_hex => unit,
                    _ => return Err(format!("\\u{digits} is no character: \\u takes four hexadecimal digits")),
                }
            }
            Some(other) => {
                plain.extend(other.encode_utf16(&mut [0; 2]).iter());
                continue;
            }
            None => continue,
        };
        plain.push(unit);
    }
    // Two \u of a surrogate pair make one character; half of one is nothing.
    String::from_utf16(&plain).map_err(|_| "a \\u escape is half of a surrogate pair".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String, usize)> {
        let properties = Properties::parse("server.properties", text).unwrap();
        properties.entries.into_iter().map(|property| (property.key, property.value, property.line)).collect()
    }

    fn pair(key: &str, value: &str, line: usize) -> (String, String, usize) {
        (key.into(), value.into(), line)
    }

    #[test]
    fn all_separators_and_comments_of_java_are_known() {
        let text = "# comment\n! another\n\n  a=1\nb : 2\nc 3\nd\t=\t4\r\ne\nf==5\n";
        let expected = [pair("a", "1", 4), pair("b", "2", 5), pair("c", "3", 6), pair("d", "4", 7), pair("e", "", 8)];
        assert_eq!(read(text)[..5], expected);
        assert_eq!(read(text)[5], pair("f", "=5", 9));
    }

    #[test]
    fn a_backslash_continues_the_line_and_blanks_before_the_rest_vanish() {
        let text = "log.dirs=/a,\\\n    /b,\\\r\n\t/c\nnext=1\neven=x\\\\\nlast=y\\";
        let expected =
            [pair("log.dirs", "/a,/b,/c", 1), pair("next", "1", 4), pair("even", "x\\", 5), pair("last", "y", 6)];
        assert_eq!(read(text), expected);
    }

    #[test]
    fn a_comment_is_never_continued_but_a_value_may_look_like_one() {
        assert_eq!(read("# off\\\na=1\nb=\\\n#2"), [pair("a", "1", 2), pair("b", "#2", 3)]);
    }

    #[test]
    fn escapes_read_as_in_java() {
        assert_eq!(read(r"a\ b\=c=\tx\u00e9\q\\"), [pair("a b=c", "\tx\u{e9}q\\", 1)]);
        assert_eq!(read(r"smile=\ud83d\ude00 \"), [pair("smile", "\u{1f600} ", 1)]);
    }

    #[test]
    fn the_last_setting_of_a_key_wins() {
        let properties = Properties::parse("f", "a=1\na=2\n").unwrap();
        assert_eq!(properties.get("a").unwrap().value, "2");
        assert_eq!(properties.get("b"), None);
    }

    #[test]
    fn a_bad_escape_names_file_and_line() {
        for text in ["ok=1\nbad=\\u12x4", "ok=1\nbad=\\u12", "ok=1\nbad=\\ud83d", "ok=1\nbad=\\u+123"] {
            let error = Properties::parse("conf/server.properties", text).unwrap_err();
            assert!(error.to_string().starts_with("conf/server.properties:2: "), "{error}");
        }
    }
}
