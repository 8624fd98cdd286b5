//! The `kafka-protocol` crate as oracle: for every message and version that both know, it must read our frames, find every
//! value under the same name, and write the same bytes. It is fed valid frames only: a hostile length ends its process.

use bytes::{Bytes, BytesMut};
use gannet::protocol::{APIS, Field, Type};
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};

use crate::declared::{Declared, Kind, all};
use crate::generate::{Random, body};

const FRAMES_PER_VERSION: u64 = 150;

/// The oracle's own bytes and its view of the message.
fn oracle(declared: &Declared, frame: &[u8], version: i16) -> (Vec<u8>, String) {
    let key = ApiKey::try_from(declared.key).unwrap();
    let mut bytes = Bytes::copy_from_slice(frame);
    let mut out = BytesMut::new();
    let debug = match declared.kind {
        Kind::Request => {
            let message = RequestKind::decode(key, &mut bytes, version).unwrap();
            message.encode(&mut out, version).unwrap();
            format!("{message:?}")
        }
        Kind::Response => {
            let message = ResponseKind::decode(key, &mut bytes, version).unwrap();
            message.encode(&mut out, version).unwrap();
            format!("{message:?}")
        }
        Kind::Record => unreachable!("the oracle knows no metadata records"),
    };
    assert!(bytes.is_empty(), "the oracle left {} bytes unread", bytes.len());
    (out.to_vec(), debug)
}

/// Versions that the oracle's table names and its messages refuse.
const REFUSED_BY_ORACLE: [(ApiKey, i16); 2] = [(ApiKey::OffsetCommit, 10), (ApiKey::OffsetFetch, 10)];

fn is_known_to_oracle(declared: &Declared, version: i16) -> bool {
    let Ok(key) = ApiKey::try_from(declared.key) else { return false };
    let versions = key.valid_versions();
    let known = (versions.min..=versions.max).contains(&version) && !REFUSED_BY_ORACLE.contains(&(key, version));
    declared.kind != Kind::Record && known
}

#[test]
fn every_message_and_version_means_the_same_to_the_oracle() {
    let mut compared = 0;
    for declared in all() {
        for version in declared.versions.clone() {
            let flexible = version >= declared.first_flexible;
            for seed in 0..FRAMES_PER_VERSION {
                let frame = body(declared.fields, version, flexible, &mut Random(seed));
                let story = || format!("{} version {version} seed {seed}: {frame:02x?}", declared.name);
                let ours = (declared.recode)(&frame, version).unwrap_or_else(|error| panic!("{error}: {}", story()));
                assert_eq!(ours.rest, 0, "{}", story());
                assert_eq!(ours.bytes, frame, "{}", story());
                if is_known_to_oracle(&declared, version) {
                    let (bytes, debug) = oracle(&declared, &ours.bytes, version);
                    assert_eq!(bytes, frame, "{}", story());
                    let (ours, theirs) = (Tree::parse(&ours.debug), Tree::parse(&debug));
                    ours.assert_means(&theirs, &Type::Structure(declared.fields), version, declared.name);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 20_000, "only {compared} frames were compared");
}

/// The list stands here so that a newer oracle shrinks it and a message added carelessly does not slip through.
#[test]
fn only_these_versions_are_beyond_the_oracle() {
    let mut beyond = Vec::new();
    for declared in all().iter().filter(|declared| declared.kind != Kind::Record) {
        for version in declared.versions.clone().filter(|version| !is_known_to_oracle(declared, *version)) {
            beyond.push(format!("{} {version}", declared.name));
        }
    }
    let expected = [
        "ListOffsetsRequest 11",
        "OffsetCommitRequest 10",
        "OffsetFetchRequest 10",
        "DescribeLogDirsRequest 5",
        "ListOffsetsResponse 11",
        "OffsetCommitResponse 10",
        "OffsetFetchResponse 10",
        "DescribeLogDirsResponse 5",
    ];
    assert_eq!(beyond, expected);
}

#[test]
fn every_api_on_offer_is_compared() {
    let declared = all();
    for api in APIS {
        for kind in [Kind::Request, Kind::Response] {
            let message = declared.iter().find(|declared| declared.kind == kind && declared.key == api.key.code());
            let message = message.unwrap_or_else(|| panic!("{} has no {kind:?} here", api.name));
            assert_eq!(message.name, format!("{}{kind:?}", api.name));
            assert_eq!(message.versions, api.min..=api.max, "{}", api.name);
        }
    }
}

/// A value as its `Debug` form shows it, without the names of types and newtypes.
#[derive(Debug, PartialEq)]
enum Tree {
    Leaf(String),
    List(Vec<Tree>),
    Structure(Vec<(String, Tree)>),
}

impl Tree {
    fn parse(text: &str) -> Tree {
        let mut rest = text;
        let tree = Tree::value(&mut rest);
        assert!(rest.is_empty(), "not understood: {rest}");
        tree
    }

    fn value(rest: &mut &str) -> Tree {
        if let Some(text) = rest.strip_prefix('"') {
            let mut escaped = false;
            let end = text.find(|c| {
                let closes = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                closes
            });
            let end = end.expect("a string ends");
            *rest = &text[end + 1..];
            return Tree::Leaf(text[..end].to_string());
        }
        let word = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_-+.".contains(c))).unwrap_or(rest.len());
        let (name, after) = rest.split_at(word);
        *rest = after;
        match after.as_bytes().first() {
            Some(b'"') if name == "b" => Tree::value(rest),
            Some(b'(') => {
                *rest = &after[1..];
                let value = Tree::value(rest);
                *rest = rest.strip_prefix(')').expect("a newtype holds one value");
                value
            }
            Some(b'[') => Tree::List(Tree::items("[", "]", rest, Tree::value)),
            Some(b' ' | b'{') if after.trim_start().starts_with('{') => {
                *rest = after.trim_start();
                Tree::Structure(Tree::items("{", "}", rest, |rest| {
                    let (name, value) = rest.split_once(": ").expect("a field has a name");
                    *rest = value;
                    (name.to_string(), Tree::value(rest))
                }))
            }
            _ => Tree::Leaf(name.to_string()),
        }
    }

    fn items<T>(open: &str, close: &str, rest: &mut &str, item: impl Fn(&mut &str) -> T) -> Vec<T> {
        let mut items = Vec::new();
        *rest = rest.strip_prefix(open).expect("a list opens").trim_start();
        loop {
            if let Some(after) = rest.strip_prefix(close) {
                *rest = after;
                return items;
            }
            items.push(item(rest));
            *rest = rest.trim_start_matches([',', ' ']);
        }
    }

    fn assert_means(&self, theirs: &Tree, kind: &Type, version: i16, path: &str) {
        match (kind, self, theirs) {
            // Written differently by `Debug`; bytes equal is all there is to say.
            (Type::Uuid | Type::Bytes | Type::NullableBytes | Type::Records, ..) => {}
            (Type::Array(element) | Type::NullableArray(element), Tree::List(ours), Tree::List(theirs)) => {
                assert_eq!(ours.len(), theirs.len(), "{path}");
                for (ours, theirs) in ours.iter().zip(theirs) {
                    ours.assert_means(theirs, element, version, path);
                }
            }
            (
                Type::Structure(fields) | Type::NullableStructure(fields),
                Tree::Structure(ours),
                Tree::Structure(theirs),
            ) => {
                for field in fields.iter().filter(|field| field.is_in(version)) {
                    let path = format!("{path}.{}", field.name);
                    find(ours, field, &path).assert_means(find(theirs, field, &path), &field.kind, version, &path);
                }
            }
            _ => assert_eq!(self, theirs, "{path}"),
        }
    }
}

fn find<'t>(structure: &'t [(String, Tree)], field: &Field, path: &str) -> &'t Tree {
    // A name that is a keyword of Rust stands here as `r#name` and there as `_name`.
    let field_name = field.name.trim_start_matches("r#");
    let named = structure.iter().find(|(name, _)| name.trim_start_matches('_') == field_name);
    &named.unwrap_or_else(|| panic!("{path} has no such name")).1
}
