//! Keeps the house tidy: walls between rooms, words that deciding rooms never say, lengths, strays, format. The rules are
//! in `rules.rs`, the house they guard is data in `table.rs`.

mod rules;
mod source;
mod table;

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use rules::Complaints;
use source::Source;

static ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Every text file under the directories of the house, and those at its top.
static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let mut sources = Vec::new();
    for name in names(Path::new(ROOT)) {
        let is_house = table::TOP_LEVEL.contains(&name.as_str()) || name.starts_with('.') && name != ".git";
        if is_house {
            collect(&name, &mut sources);
        }
    }
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the walk found no sources in {ROOT}");
    sources
});

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn collect(path: &str, sources: &mut Vec<Source>) {
    let full = Path::new(ROOT).join(path);
    let kind = std::fs::symlink_metadata(&full).unwrap().file_type();
    if kind.is_dir() {
        // What package managers bring into the client programs is not ours.
        for name in names(&full).iter().filter(|name| !matches!(name.as_str(), "node_modules" | "target")) {
            collect(&format!("{path}/{name}"), sources);
        }
    } else if kind.is_file()
        && let Ok(text) = std::fs::read_to_string(&full)
    {
        sources.push(Source { path: path.to_string(), text });
    }
}

fn none(complaints: Complaints) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn rooms_import_downward_only() {
    none(rules::walls(&SOURCES));
}

#[test]
fn deciding_rooms_only_decide() {
    none(rules::decisions(&SOURCES));
}

#[test]
fn only_the_reactor_is_unsafe() {
    none(rules::unsafe_code(&SOURCES));
}

#[test]
fn nothing_is_left_unfinished() {
    none(rules::leftovers(&SOURCES));
}

#[test]
fn files_are_read_in_one_sitting() {
    none(rules::file_lengths(&SOURCES, table::LONG_FILES));
}

#[test]
fn functions_fit_a_screen() {
    none(rules::function_lengths(&SOURCES, table::LONG_FUNCTIONS));
}

#[test]
fn nothing_strange_stands_at_the_top() {
    let ignored = std::fs::read_to_string(Path::new(ROOT).join(".gitignore")).unwrap_or_default();
    none(rules::top_level(&names(Path::new(ROOT)), &ignored));
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    none(rules::machine_paths(&SOURCES));
}

#[test]
fn the_format_is_rustfmts() {
    let has_rustfmt = Command::new("rustfmt").arg("--version").output().is_ok_and(|output| output.status.success());
    if has_rustfmt {
        let output = Command::new(env!("CARGO")).args(["fmt", "--check"]).current_dir(ROOT).output().unwrap();
        let differences = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "run `cargo fmt`:\n{differences}{}", String::from_utf8_lossy(&output.stderr));
    }
}
