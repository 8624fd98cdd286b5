//! The rules, each a function from files to complaints, each with a bad sample of its own below.

use crate::source::{Source, functions, paths};
use crate::table::{DECIDING_WORDS, FILE_LINES_MAX, FUNCTION_LINES_MAX, ROOMS, Ratchet, TOP_LEVEL, WORDS};

pub type Complaints = Vec<String>;

fn is_rust(source: &&Source) -> bool {
    source.path.ends_with(".rs")
}

/// Rooms import downward only, as the table says; also by `super` and by full paths.
pub fn walls(sources: &[Source]) -> Complaints {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(is_rust) {
        let tokens = source.tokens();
        if source.path == "src/main.rs" {
            for path in paths(&tokens, &["gannet"]).iter().filter(|path| path.segments.get(1) != Some(&"cli")) {
                complaints
                    .push(format!("{}:{}: the binary starts `gannet::cli` and nothing else", source.path, path.line));
            }
        }
        let Some(name) = source.room() else { continue };
        let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
            complaints
                .push(format!("{}: `{name}` is no room of the house: add it to the table or move it", source.path));
            continue;
        };
        for path in paths(&tokens, &["crate", "super"]) {
            let up = path.segments.iter().take_while(|segment| **segment == "super").count();
            let reaches_root = path.segments[0] == "crate" || up == source.depth() + path.depth;
            let Some(target) = path.segments.get(up.max(1)).filter(|_| reaches_root) else { continue };
            let allowed = *target == name || room.imports.contains(target) || WORDS.contains(target);
            if !allowed {
                let written = path.segments.join("::");
                let line = path.line;
                complaints.push(format!("{}:{line}: `{written}`: `{name}` may not import `{target}`", source.path));
            }
        }
    }
    complaints
}

/// Rooms above the line neither wait, nor read a clock, nor touch the machine, nor draw chance.
pub fn decisions(sources: &[Source]) -> Complaints {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(is_rust) {
        let deciding = source.room().and_then(|name| ROOMS.iter().find(|room| room.name == name));
        if !deciding.is_some_and(|room| room.deciding) {
            continue;
        }
        let tokens = source.tokens();
        let words = tokens.iter().map(|token| (token.text.to_string(), token.line));
        let of_std = paths(&tokens, &["std"]);
        let modules = of_std.iter().map(|path| (path.segments[..2.min(path.segments.len())].join("::"), path.line));
        for (word, line) in words.chain(modules) {
            // The one place that gives a map its fixed hasher.
            let is_map_of_the_house = source.path == "src/types.rs" && word.starts_with("Hash");
            if DECIDING_WORDS.contains(&word.as_str()) && !is_map_of_the_house {
                complaints.push(format!("{}:{line}: `{word}` has no place in a room that only decides", source.path));
            }
        }
    }
    complaints
}

pub fn unsafe_code(sources: &[Source]) -> Complaints {
    let outside = |source: &&Source| source.path.starts_with("src/") && source.room() != Some("reactor");
    let mut complaints = Vec::new();
    for source in sources.iter().filter(is_rust).filter(outside) {
        for token in source.tokens().iter().filter(|token| token.text == "unsafe") {
            complaints.push(format!("{}:{}: only `reactor/` may say `unsafe`", source.path, token.line));
        }
    }
    complaints
}

/// Nothing unfinished, skipped or unexplained.
pub fn leftovers(sources: &[Source]) -> Complaints {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(is_rust) {
        let tokens = source.tokens();
        let tests_from = tests_from(source);
        for window in tokens.windows(4) {
            let [a, b, c, d] = [window[0].text, window[1].text, window[2].text, window[3].text];
            let complaint = match (a, b, c, d) {
                ("todo" | "unimplemented" | "dbg", "!", ..) => "unfinished code",
                ("#", "[", "ignore", "]" | "=") => "a test that does not run guards nothing",
                (".", "unwrap", "(", ")") if window[0].line < tests_from => "say why it cannot fail: `expect(\"…\")`",
                _ => continue,
            };
            complaints.push(format!("{}:{}: {complaint}", source.path, window[0].line));
        }
        let markers = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
        for (at, line) in source.text.lines().enumerate() {
            if let Some(marker) = markers.iter().find(|marker| line.contains(*marker)) {
                complaints.push(format!("{}:{}: {marker} belongs into an issue", source.path, at + 1));
            }
        }
    }
    complaints
}

/// The line where a file of `src/` turns to its tests; the first of a file that is all test.
fn tests_from(source: &Source) -> usize {
    if !source.path.starts_with("src/") || source.path.ends_with("tests.rs") {
        return 0;
    }
    let is_start = |line: &str| line.trim_start().starts_with("#[cfg(test)]");
    source.text.lines().position(is_start).map_or(usize::MAX, |at| at + 1)
}

/// Files that a person reads in one sitting.
pub fn file_lengths(sources: &[Source], exceptions: &[Ratchet]) -> Complaints {
    let lengths = sources.iter().filter(is_rust).map(|source| (source.path.clone(), source.text.lines().count()));
    ratchet("file", lengths, FILE_LINES_MAX, exceptions)
}

/// Functions that fit a screen.
pub fn function_lengths(sources: &[Source], exceptions: &[Ratchet]) -> Complaints {
    let mut lengths = Vec::new();
    for source in sources.iter().filter(is_rust) {
        let tokens = source.tokens();
        lengths.extend(functions(&tokens).iter().map(|f| (format!("{}: fn {}", source.path, f.name), f.lines)));
    }
    ratchet("function", lengths.into_iter(), FUNCTION_LINES_MAX, exceptions)
}

/// Nothing exceeds `most` but the exceptions, and those only shrink: each is lowered with its code and goes at last.
fn ratchet(
    kind: &str,
    lengths: impl Iterator<Item = (String, usize)>,
    most: usize,
    exceptions: &[Ratchet],
) -> Complaints {
    let mut complaints = Vec::new();
    let mut seen = Vec::new();
    for (name, lines) in lengths.filter(|(_, lines)| *lines > most) {
        match exceptions.iter().find(|exception| exception.name == name) {
            None => complaints
                .push(format!("{name}: a {kind} of {lines} lines, at most {most}: cut it where a name appears")),
            Some(exception) if lines > exception.lines => {
                complaints.push(format!("{name}: grew from {} to {lines} lines, it may only shrink", exception.lines));
            }
            Some(exception) if lines < exception.lines => {
                complaints.push(format!("{name}: shrank to {lines} lines, lower its exception of {}", exception.lines));
            }
            Some(_) => {}
        }
        seen.push(name);
    }
    let gone = exceptions.iter().filter(|exception| !seen.iter().any(|name| name == exception.name));
    complaints.extend(gone.map(|exception| format!("{}: no longer needs its exception, take it out", exception.name)));
    complaints
}

/// Only what the house knows stands at the top. `ignored` is what `.gitignore` names.
pub fn top_level(names: &[String], ignored: &str) -> Complaints {
    let ignored: Vec<_> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let stray = |name: &&String| {
        !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()) && !ignored.contains(&name.as_str())
    };
    names
        .iter()
        .filter(stray)
        .map(|name| format!("{name}: stands at the top of the repository and is not of the house"))
        .collect()
}

/// Nothing of the machine that a file was written on.
pub fn machine_paths(sources: &[Source]) -> Complaints {
    let homes = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];
    let mut complaints = Vec::new();
    for source in sources {
        for (at, line) in source.text.lines().enumerate() {
            if let Some(home) = homes.iter().find(|home| line.contains(*home)) {
                complaints.push(format!("{}:{}: `{home}` is a path of one machine", source.path, at + 1));
            }
            let foreign = line.starts_with("source = ") && !line.contains("github.com/rust-lang/crates.io-index");
            if source.path == "Cargo.lock" && foreign {
                complaints.push(format!("{}:{}: a package from elsewhere than crates.io", source.path, at + 1));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The complaints of a rule about one file, of which there must be one each for `lines`, in order.
    fn at_lines(complaints: Complaints, lines: &[usize]) {
        let found: Vec<usize> =
            complaints.iter().map(|c| c.split(':').nth(1).expect("path:line").parse().expect("a line")).collect();
        assert_eq!(found, lines, "{complaints:#?}");
    }

    fn file(path: &str, text: &str) -> [Source; 1] {
        [Source::new(path, text)]
    }

    #[test]
    fn a_room_that_reaches_up_is_caught_however_it_is_written() {
        let code = "use crate::shard::Event;\n\
                    use crate::{types::Offset, reactor::Reactor};\n\
                    fn f() { crate::journal::x() }\n\
                    use super::super::partition::P;\n\
                    mod tests { use super::super::super::broker; use super::super::segment; }\n\
                    use crate::record::RecordBatch; use super::segment;\n\
                    // crate::shard is a word here\n";
        at_lines(walls(&file("src/log/append.rs", code)), &[1, 2, 3, 4, 5]);
        at_lines(walls(&file("src/record.rs", "use super::log;")), &[1]);
        at_lines(walls(&file("src/main.rs", "fn main() { gannet::cli::main(); gannet::broker::run() }")), &[1]);
        assert_eq!(walls(&file("src/util/mod.rs", "")).len(), 1);
    }

    #[test]
    fn partition_and_coordinator_do_not_know_each_other() {
        at_lines(walls(&file("src/partition/mod.rs", "use crate::coordinator::Groups;")), &[1]);
        at_lines(walls(&file("src/coordinator/mod.rs", "use crate::partition::Partition;")), &[1]);
    }

    #[test]
    fn a_deciding_room_that_acts_is_caught() {
        let code = "use std::fs;\nuse std::{io, net::TcpStream};\nasync fn f() { g().await }\nInstant::now()\n\
                    std::time::SystemTime::now()\nstd::sync::Mutex::new(())\nglommio::x()\ntokio::x()\n\
                    std::thread::sleep\nHashMap::new()\n\"std::fs\"\n";
        let complaints = decisions(&file("src/log/mod.rs", code));
        let lines: std::collections::BTreeSet<_> =
            complaints.iter().map(|c| c.split(':').nth(1).expect("path:line")).collect();
        assert_eq!(lines.into_iter().collect::<Vec<_>>(), ["1", "10", "2", "3", "4", "5", "6", "7", "8", "9"]);
        assert_eq!(decisions(&file("src/reactor/files.rs", code)), Complaints::new());
    }

    #[test]
    fn unsafe_is_the_reactors_alone() {
        at_lines(unsafe_code(&file("src/log/mod.rs", "// unsafe\nunsafe { x() }")), &[2]);
        assert_eq!(unsafe_code(&file("src/reactor/ring.rs", "unsafe { x() }")), Complaints::new());
    }

    #[test]
    fn leftovers_are_caught() {
        let code = concat!(
            "todo!()\nunimplemented!()\n#[ignore]\n#[ignore = \"slow\"]\nx.unwrap();\n// TO",
            "DO later\nx.unwrap_or(1);\n#[cfg(test)]\nx.unwrap();\n"
        );
        at_lines(leftovers(&file("src/log/mod.rs", code)), &[1, 2, 3, 4, 5, 6]);
        assert_eq!(leftovers(&file("tests/sim/main.rs", "x.unwrap();")), Complaints::new());
        assert_eq!(leftovers(&file("src/log/model_tests.rs", "x.unwrap();")), Complaints::new());
    }

    #[test]
    fn lengths_may_only_shrink() {
        let long = |lines: usize| file("src/log/mod.rs", &"x\n".repeat(lines));
        let except = |lines| [Ratchet { name: "src/log/mod.rs", lines }];
        assert_eq!(file_lengths(&long(FILE_LINES_MAX), &[]), Complaints::new());
        assert!(file_lengths(&long(FILE_LINES_MAX + 1), &[])[0].contains("cut it"));
        assert_eq!(file_lengths(&long(700), &except(700)), Complaints::new());
        assert!(file_lengths(&long(701), &except(700))[0].contains("grew"));
        assert!(file_lengths(&long(699), &except(700))[0].contains("lower"));
        assert!(file_lengths(&long(500), &except(700))[0].contains("take it out"));
        let code = format!("fn long() {{\n{}}}\nfn short() {{}}", "x;\n".repeat(FUNCTION_LINES_MAX));
        let complaints = function_lengths(&file("src/log/mod.rs", &code), &[]);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].starts_with("src/log/mod.rs: fn long"));
    }

    #[test]
    fn strangers_at_the_top_are_caught() {
        let names = ["src", "Cargo.toml", ".gitignore", "target", "docs", "notes.txt"].map(String::from);
        let complaints = top_level(&names, "/target\n");
        assert_eq!(complaints.len(), 2, "{complaints:?}");
    }

    #[test]
    fn paths_of_one_machine_are_caught() {
        let script = concat!("#!/bin/sh\ncd /ro", "ot/x\ncd /tmp\n");
        at_lines(machine_paths(&file("tests/compat/run", script)), &[2]);
        let lock = "name = \"x\"\nsource = \"registry+https://example.org/index\"\n";
        at_lines(machine_paths(&file("Cargo.lock", lock)), &[2]);
        let lock = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
        assert_eq!(machine_paths(&file("Cargo.lock", lock)), Complaints::new());
    }
}
