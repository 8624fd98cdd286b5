//! Source files as the rules see them: tokens with their lines, comments and literals left out.

/// One Rust file of the repository.
pub struct Source {
    /// From the root of the repository, with `/`.
    pub path: String,
    pub text: String,
}

/// A name, `::`, a literal (as `""`), or a single character of anything else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token<'a> {
    pub text: &'a str,
    /// Counted from 1.
    pub line: usize,
}

/// A path such as `crate::types::Offset`, each leaf of a `use` tree by itself.
#[derive(PartialEq, Eq, Debug)]
pub struct Path<'a> {
    pub segments: Vec<&'a str>,
    pub line: usize,
    /// Modules between the path and the file's own: 1 inside its `mod tests`.
    pub depth: usize,
}

/// One function with a body.
#[derive(PartialEq, Eq, Debug)]
pub struct Function<'a> {
    pub name: &'a str,
    pub line: usize,
    pub lines: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_string(), text: text.to_string() }
    }

    /// The room of a file under `src/`; `None` for `lib.rs`, `main.rs` and everything elsewhere.
    pub fn room(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let room = below.split('/').next()?;
        let room = room.strip_suffix(".rs").unwrap_or(room);
        (!matches!(room, "lib" | "main")).then_some(room)
    }

    /// How many `super` lead from the file's module to the root of the crate.
    pub fn depth(&self) -> usize {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let names = below.trim_end_matches(".rs").split('/');
        names.filter(|name| !matches!(*name, "mod" | "lib" | "main")).count()
    }

    pub fn tokens(&self) -> Vec<Token<'_>> {
        let bytes = self.text.as_bytes();
        let (mut at, mut line, mut tokens) = (0, 1, Vec::new());
        while at < bytes.len() {
            let end = self.token_end(at);
            let text = &self.text[at..end];
            let is_blank = text.starts_with(char::is_whitespace) || text.starts_with("//") || text.starts_with("/*");
            if !is_blank {
                tokens.push(Token { text: if is_literal(text) { "\"\"" } else { text }, line });
            }
            line += text.matches('\n').count();
            at = end;
        }
        tokens
    }

    /// Where the token, blank or comment that starts at `at` ends.
    fn token_end(&self, at: usize) -> usize {
        let rest = &self.text[at..];
        let first = rest.chars().next().expect("a token starts before the end of the file");
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest).or_else(|| character(rest)) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        at + length
    }
}

fn is_literal(text: &str) -> bool {
    text.ends_with(['"', '#']) && text.contains('"') || text.len() > 2 && text.ends_with('\'')
}

/// Length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Length of the string literal, raw or not, that `text` starts with.
fn string(text: &str) -> Option<usize> {
    let prefix = text.len() - text.trim_start_matches(['b', 'c']).len();
    let prefix = if prefix > 1 { return None } else { prefix };
    if let Some(raw) = text[prefix..].strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let body = raw[hashes..].strip_prefix('"')?;
        let close = format!("\"{}", "#".repeat(hashes));
        let end = body.find(&close).map_or(body.len(), |end| end + close.len());
        return Some(prefix + 1 + hashes + 1 + end);
    }
    let body = text[prefix..].strip_prefix('"')?;
    let mut escaped = false;
    let end = body.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    Some(prefix + 1 + end.map_or(body.len(), |end| end + 1))
}

/// Length of the character literal that `text` starts with; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix("b'").or_else(|| text.strip_prefix('\''))?;
    let prefix = text.len() - body.len();
    let mut characters = body.char_indices();
    let (_, first) = characters.next()?;
    if first == '\\' {
        let (second, _) = characters.next()?;
        let close = body[second + 1..].find('\'')?;
        return Some(prefix + second + 1 + close + 1);
    }
    (characters.next()?.1 == '\'').then_some(prefix + first.len_utf8() + 1)
}

/// Every path that starts at one of `roots`.
pub fn paths<'a>(tokens: &[Token<'a>], roots: &[&str]) -> Vec<Path<'a>> {
    let mut found = Vec::new();
    let mut blocks = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        match token.text {
            "{" => blocks.push(i >= 2 && tokens[i - 2].text == "mod"),
            "}" => drop(blocks.pop()),
            name if roots.contains(&name) => {
                let starts = i == 0 || tokens[i - 1].text != "::";
                if starts && tokens.get(i + 1).is_some_and(|next| next.text == "::") {
                    let depth = blocks.iter().filter(|is_module| **is_module).count();
                    let mut leaves = Vec::new();
                    expand(tokens, i, Vec::new(), &mut leaves);
                    found.extend(leaves.into_iter().map(|segments| Path { segments, line: token.line, depth }));
                }
            }
            _ => {}
        }
    }
    found
}

/// Collects the leaves of the tree at `at`, each after `prefix`; returns where the tree ends.
fn expand<'a>(tokens: &[Token<'a>], mut at: usize, mut prefix: Vec<&'a str>, leaves: &mut Vec<Vec<&'a str>>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    loop {
        if text(at) == "{" {
            at += 1;
            while !matches!(text(at), "}" | "") {
                at = if text(at) == "," { at + 1 } else { expand(tokens, at, prefix.clone(), leaves).max(at + 1) };
            }
            return at + 1;
        }
        if text(at).starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            prefix.push(text(at));
            at += 1;
        }
        if text(at) != "::" {
            break;
        }
        at += 1;
    }
    // An alias or a glob belongs to the leaf; the comma after it to the tree.
    while !matches!(text(at), "," | "}" | ";" | "" | "{" | ")") {
        at += 1;
    }
    leaves.push(prefix);
    at
}

/// Every function that has a body.
pub fn functions<'a>(tokens: &[Token<'a>]) -> Vec<Function<'a>> {
    let mut found = Vec::new();
    for (i, pair) in tokens.windows(2).enumerate() {
        let [keyword, name] = pair else { continue };
        if keyword.text != "fn" || !name.text.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            continue;
        }
        let (mut brackets, mut braces) = (0, 0);
        for token in &tokens[i..] {
            match token.text {
                "(" | "[" => brackets += 1,
                ")" | "]" => brackets -= 1,
                ";" if brackets == 0 && braces == 0 => break,
                "{" => braces += 1,
                "}" => {
                    braces -= 1;
                    if braces == 0 {
                        let lines = token.line - keyword.line + 1;
                        found.push(Function { name: name.text, line: keyword.line, lines });
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(code: &str) -> Vec<String> {
        Source::new("x.rs", code).tokens().iter().map(|token| token.text.to_string()).collect()
    }

    fn leaves(code: &str) -> Vec<String> {
        let source = Source::new("x.rs", code);
        paths(&source.tokens(), &["crate", "super", "std"]).iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn comments_and_literals_are_no_words() {
        assert_eq!(texts("a // unsafe\n/* /* unsafe */ unsafe */ b"), ["a", "b"]);
        let literals = r####""unsafe \" x" r#"unsafe " x"# b"unsafe" 'u' '\'' '\u{41}' b'x'"####;
        assert_eq!(texts(literals), ["\"\""; 7]);
        assert_eq!(texts("&'a str, 'b: loop"), ["&", "'", "a", "str", ",", "'", "b", ":", "loop"]);
        assert_eq!(texts("br x"), ["br", "x"]);
    }

    #[test]
    fn lines_are_counted_through_literals_and_comments() {
        let source = Source::new("x.rs", "\"a\nb\" /*\n*/ last");
        assert_eq!(source.tokens().last(), Some(&Token { text: "last", line: 3 }));
    }

    #[test]
    fn a_use_tree_has_all_its_leaves() {
        assert_eq!(
            leaves("use crate::{a::B as C, d::{self, E::*}, f};"),
            ["crate::a::B", "crate::d::self", "crate::d::E", "crate::f"]
        );
        assert_eq!(leaves("let x = crate::a::b::<T>(crate::c::D { e });"), ["crate::a::b", "crate::c::D"]);
        assert_eq!(leaves("use std::{fs, net::TcpStream};"), ["std::fs", "std::net::TcpStream"]);
        assert_eq!(leaves("use super::super::x::Y;"), ["super::super::x::Y"]);
    }

    #[test]
    fn a_path_knows_the_modules_around_it() {
        let source =
            Source::new("src/a/b.rs", "use super::x;\nmod tests {\n fn f() { super::super::y(); }\n}\n super::z();");
        let tokens = source.tokens();
        let depths: Vec<_> = paths(&tokens, &["super"]).iter().map(|path| (path.line, path.depth)).collect();
        assert_eq!(depths, [(1, 0), (3, 1), (5, 0)]);
        assert_eq!(source.depth(), 2);
        assert_eq!(Source::new("src/a/mod.rs", "").depth(), 1);
        assert_eq!(Source::new("src/a.rs", "").depth(), 1);
    }

    #[test]
    fn functions_are_measured_to_their_last_brace() {
        let source = Source::new(
            "x.rs",
            "trait T { fn none(&self) -> [u8; 4]; }\nfn one() {}\nfn three(\n  a: u8,\n) { if a { } }",
        );
        let tokens = source.tokens();
        let found: Vec<_> = functions(&tokens).iter().map(|f| (f.name, f.line, f.lines)).collect();
        assert_eq!(found, [("one", 2, 1), ("three", 3, 3)]);
    }
}
