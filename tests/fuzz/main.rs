//! Fuzz targets in libFuzzer's form, a function of `&[u8]`, and their replay: every corpus file as it is, cut at every byte, with every
//! length made hostile and with seeded random damage. A target panics where a rule is broken; a finding becomes a file in
//! `corpus/<target>/`. The allocator of this binary counts, so that "bounded by the bytes that came" is a fact.

mod allocation;
#[path = "../wire/declared.rs"]
mod declared;
#[path = "../wire/generate.rs"]
#[allow(dead_code)]
mod generate;
mod group_record;
mod mutate;
mod record_batch;
mod tables;
mod targets;

use std::fs;
use std::path::Path;

use targets::{TARGETS, Target};

/// Random inputs per corpus file, besides the systematic ones.
const RANDOM_MUTATIONS: usize = 200;

#[test]
fn no_damaged_input_breaks_a_target() {
    for target in TARGETS {
        let corpus = corpus(target);
        assert!(!corpus.is_empty(), "corpus/{} is empty", target.name);
        for (name, input) in &corpus {
            let story = Story { target: target.name, file: name };
            (target.run)(input);
            mutate::systematic(input, |damaged| {
                (target.run)(damaged);
            });
            for seed in 0..RANDOM_MUTATIONS as u64 {
                let other = &corpus[seed as usize % corpus.len()].1;
                (target.run)(&mutate::random(input, other, seed));
            }
            drop(story);
        }
    }
}

/// The corpus is one frame per message and per encoding of it, so that a message added without one is noticed.
#[test]
fn the_corpus_holds_every_message_and_each_is_valid() {
    for target in TARGETS {
        let files = corpus(target);
        for seed in (target.seeds)() {
            assert!(
                files.iter().any(|(name, _)| *name == seed.name),
                "corpus/{}/{} is missing; GANNET_WRITE_CORPUS=1 cargo test --test fuzz writes it",
                target.name,
                seed.name
            );
            assert!(
                (target.run)(&seed.input),
                "{}/{} is not valid, so its damage shows little",
                target.name,
                seed.name
            );
        }
    }
}

fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target.name);
    if std::env::var_os("GANNET_WRITE_CORPUS").is_some() {
        fs::create_dir_all(&directory).unwrap();
        for seed in (target.seeds)() {
            let path = directory.join(&seed.name);
            if !path.exists() {
                fs::write(path, seed.input).unwrap();
            }
        }
    }
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Names the file whose damage broke a target.
struct Story<'a> {
    target: &'static str,
    file: &'a str,
}

impl Drop for Story<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("while damaging corpus/{}/{}", self.target, self.file);
        }
    }
}
