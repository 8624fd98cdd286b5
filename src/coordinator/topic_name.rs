//! What a topic may be called.

/// Longest name: `<name>-<partition>` and the marks of a directory under way to deletion fit a file system's 255 bytes.
pub const NAME_BYTES_MAX: usize = 249;

/// The sentence that says why this name is not allowed.
pub fn check(name: &str) -> Result<(), String> {
    let reason = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." | ".." => format!("'{name}' is not allowed"),
        _ if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) => {
            format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
        }
        _ if name.len() > NAME_BYTES_MAX => {
            format!("the length of '{name}' is longer than the max allowed length {NAME_BYTES_MAX}")
        }
        _ => return Ok(()),
    };
    Err(format!("Topic name is invalid: {reason}"))
}

/// In metric names '.' and '_' become one, so two topics may not differ by them alone: such have the same value here.
/// `None` for a name without either, which collides with nothing but itself.
pub fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_1_to_249_of_the_allowed_characters() {
        for good in ["a", "orders", "A-1_b.c", "...", &"x".repeat(249)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "é", "a\0", &"x".repeat(250)] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert_eq!(check("..").expect_err("reserved"), "Topic name is invalid: '..' is not allowed");
    }

    #[test]
    fn names_that_differ_by_dots_and_underscores_alone_collide() {
        assert_eq!(collision_key("a.b_c"), collision_key("a_b.c"));
        assert_ne!(collision_key("a.b"), collision_key("a-b"));
        assert_eq!(collision_key("ab"), None);
    }
}
