//! Workload files in YAML: options by their names, clients' settings under `producer` and `consumer`, or OpenMessaging's
//! names. What the command line says comes before what the file says.

use std::collections::BTreeMap;
use std::path::Path;

use clap::{CommandFactory, Parser};
use serde_json::Value;

use super::arguments::LoadOptions;
use crate::config::nearest;

/// The options once more, so that a file's are read by the same rules.
#[derive(Parser)]
#[command(name = "gannet load", args_override_self = true, disable_version_flag = true)]
struct Line {
    #[command(flatten)]
    options: LoadOptions,
}

/// OpenMessaging's names for what an option says, and how its value is written there.
const OPEN_MESSAGING: &[(&str, &str)] =
    &[("topics", "topics"), ("partitionsPerTopic", "partitions"), ("messageSize", "record-size")];

/// The options, with those of the workload file behind them if there is one.
pub fn merged(options: LoadOptions) -> Result<LoadOptions, String> {
    let Some(path) = &options.workload else { return Ok(options) };
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let typed = std::env::args().skip_while(|argument| argument != "load").skip(1).collect();
    merge(&text, path, typed)
}

fn merge(text: &str, path: &Path, typed: Vec<String>) -> Result<LoadOptions, String> {
    let wrong = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
    let fields: BTreeMap<String, Value> = serde_saphyr::from_str(text).map_err(|error| wrong(&error))?;
    let mut line = vec!["gannet load".to_owned()];
    for argument in arguments(&fields).map_err(|reason| wrong(&reason))? {
        // A rate and a ramp exclude each other: the one that was typed stays.
        let is_replaced =
            |name: &str| argument.starts_with(name) && typed.iter().any(|typed| typed.starts_with("--ra"));
        if !is_replaced("--rate=") && !is_replaced("--ramp=") {
            line.push(argument);
        }
    }
    line.extend(typed);
    Ok(Line::try_parse_from(line).map_err(|error| wrong(&error.render()))?.options)
}

fn arguments(fields: &BTreeMap<String, Value>) -> Result<Vec<String>, String> {
    let command = Line::command();
    let known: Vec<&str> = command.get_arguments().filter_map(|argument| argument.get_long()).collect();
    let mut arguments = Vec::new();
    for (key, value) in fields {
        let translated = OPEN_MESSAGING.iter().find(|(theirs, _)| theirs == key).map(|(_, ours)| *ours);
        match (translated.unwrap_or(key), value) {
            ("producer" | "consumer", Value::Object(settings)) => {
                for (setting, value) in settings {
                    arguments.push(format!("--{key}-prop={setting}={}", scalar(key, value)?));
                }
            }
            (option, value) if known.contains(&option) && option != "workload" => {
                match (value, is_flag(&command, option)) {
                    (Value::Bool(true), true) => arguments.push(format!("--{option}")),
                    (Value::Bool(false), true) => {}
                    (Value::Array(values), _) => {
                        for value in values {
                            arguments.push(format!("--{option}={}", scalar(key, value)?));
                        }
                    }
                    (value, _) => arguments.push(format!("--{option}={}", scalar(key, value)?)),
                }
                if key == "partitionsPerTopic" {
                    arguments.push("--create".into());
                }
            }
            (option, value) => arguments.extend(of_open_messaging(fields, option, value, &known)?),
        }
    }
    Ok(arguments)
}

fn is_flag(command: &clap::Command, option: &str) -> bool {
    let found = command.get_arguments().find(|argument| argument.get_long() == Some(option));
    found.is_some_and(|argument| !argument.get_action().takes_values())
}

/// What needs more than another name.
fn of_open_messaging(
    fields: &BTreeMap<String, Value>,
    key: &str,
    value: &Value,
    known: &[&str],
) -> Result<Vec<String>, String> {
    let number = |key: &str| fields.get(key).and_then(Value::as_f64);
    let topics = number("topics").unwrap_or(1.0);
    let one = |text: String| Ok(vec![text]);
    let is_zero = value.as_f64() == Some(0.0);
    match key {
        // What the workload is called, what only says how payload is made or cached, how a rate is searched, and what belongs
        // to a rate that climbs.
        "name" | "randomizedPayloadPoolSize" | "randomBytesRatio" | "acceptableBacklog" => Ok(vec![]),
        "producerStartRate" | "producerIncrementSeconds" => Ok(vec![]),
        "producerRate" if number("producerIncrementRate").is_some_and(|step| step > 0.0) => climbing(fields),
        // The rate that it would search for is the one that is reached.
        "producerRate" if is_zero => one("--rate=max".into()),
        "producerRate" => one(format!("--rate={}", scalar(key, value)?)),
        "producerIncrementRate" => Ok(vec![]),
        "producerPauseBeforeDrain" | "producerPauseDuringDrain" if is_zero => Ok(vec![]),
        "producerPauseBeforeDrain" | "producerPauseDuringDrain" => {
            Err(format!("{key}: {value}: there is no drain here"))
        }
        "messageRateReceivedForSubscription" if value.as_f64() == Some(100.0) => Ok(vec![]),
        "messageRateReceivedForSubscription" => {
            Err(format!("{key}: {value}: a Kafka consumer receives every record, 100"))
        }
        "producersPerTopic" => one(format!("--producers={}", number(key).unwrap_or(1.0) * topics)),
        "consumerPerSubscription" => one(format!("--consumers={}", number(key).unwrap_or(1.0) * topics)),
        "subscriptionsPerTopic" if value.as_f64() == Some(1.0) => Ok(vec![]),
        "subscriptionsPerTopic" if value.as_f64() == Some(0.0) => one("--consumers=0".into()),
        "subscriptionsPerTopic" => Err(format!("subscriptionsPerTopic: {value}: one subscription is read, or none")),
        "consumerBacklogSizeGB" if is_zero => Ok(vec![]),
        "consumerBacklogSizeGB" => {
            Err("consumerBacklogSizeGB: a backlog is built by one run with --consumers 0 and read \
                                        by another with --producers 0 --from-beginning"
                .into())
        }
        "testDurationMinutes" => one(format!("--duration={}m", scalar(key, value)?)),
        "warmupDurationMinutes" => one(format!("--warm-up={}m", scalar(key, value)?)),
        "payloadFile" => one(format!("--payload=file:{}", scalar(key, value)?)),
        "useRandomizedPayloads" => match number("randomBytesRatio").filter(|ratio| (0.001..0.999).contains(ratio)) {
            Some(ratio) if value == &Value::Bool(true) => one(format!("--payload=compressible:{:.0}", 1.0 / ratio)),
            _ => Ok(vec![]),
        },
        "keyDistributor" => match value.as_str() {
            Some("NO_KEY") => one("--keys=none".into()),
            // Both choose among ten thousand keys.
            Some("KEY_ROUND_ROBIN" | "RANDOM_NANO") => one("--keys=uniform:10k".into()),
            _ => Err(format!("keyDistributor: {value}: it is NO_KEY, KEY_ROUND_ROBIN or RANDOM_NANO")),
        },
        _ => {
            let near = nearest(key, known.iter().copied());
            let near = near.map_or("see gannet load --help".into(), |near| format!("did you mean {near}?"));
            Err(format!("{key} is no option of a workload; {near}"))
        }
    }
}

/// A rate that is raised step by step: from `producerStartRate` to `producerRate`.
fn climbing(fields: &BTreeMap<String, Value>) -> Result<Vec<String>, String> {
    let field = |name: &str, default: u64| scalar(name, fields.get(name).unwrap_or(&Value::from(default)));
    let (from, to, step) =
        (field("producerStartRate", 10_000)?, field("producerRate", 0)?, field("producerIncrementRate", 0)?);
    let seconds = field("producerIncrementSeconds", 60)?;
    Ok(vec![format!("--ramp={from}:{to}:{step}"), format!("--step-duration={seconds}s")])
}

/// Published workloads leave some values open: of `${name:-15}` it is the 15.
fn scalar(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => {
            let open = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
            match open.map(|open| open.split_once(":-")) {
                None => Ok(text.clone()),
                Some(Some((_, default))) => Ok(default.to_owned()),
                Some(None) => Err(format!("{key}: {text} is left open, and no value is given for that")),
            }
        }
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        other => Err(format!("{key}: {other} is not one value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::schedule::Rate;
    use crate::load::workload::{Keys, Payload, Sizes};
    use std::time::Duration;

    fn read(text: &str, typed: &[&str]) -> Result<LoadOptions, String> {
        merge(text, Path::new("w.yaml"), typed.iter().map(|text| text.to_string()).collect())
    }

    #[test]
    fn a_file_says_what_the_command_line_could_say() {
        let text = "rate: 5k\nrecord-size: 100\nkeys: zipf:1k:1.1\nverify: true\nspin: false\n\
                    producer:\n  linger.ms: 7\n  acks: all\nconsumer: {fetch.min.bytes: 64k}\n\
                    topic-config: [flush.messages=1, retention.ms=1000]\n";
        let options = read(text, &["--record-size", "200", "--producer-prop", "linger.ms=9"]).unwrap();
        assert_eq!(options.rate, Rate::PerSecond(5000.0));
        assert_eq!((options.record_size, options.keys), (Sizes::Fixed(200), Keys::Zipf(1000, 1.1)));
        assert!(options.verify && !options.spin);
        let last = options.producer_prop.iter().rfind(|(key, _)| key == "linger.ms").unwrap();
        assert_eq!((last.1.as_str(), options.topic_config.len()), ("9", 2));
        assert_eq!(options.consumer_prop, [("fetch.min.bytes".to_owned(), "64k".to_owned())]);
    }

    #[test]
    fn an_open_messaging_workload_is_understood() {
        let text = "name: simple\ntopics: 2\npartitionsPerTopic: 16\nkeyDistributor: \"NO_KEY\"\nmessageSize: 1024\n\
                    useRandomizedPayloads: true\nrandomBytesRatio: 0.5\nrandomizedPayloadPoolSize: 1000\n\
                    subscriptionsPerTopic: 1\nconsumerPerSubscription: 3\nproducersPerTopic: 4\nproducerRate: 50000\n\
                    consumerBacklogSizeGB: 0\ntestDurationMinutes: 15\nwarmupDurationMinutes: 1\n";
        let options = read(text, &[]).unwrap();
        assert_eq!((options.topics, options.partitions, options.create), (2, Some(16), true));
        assert_eq!((options.producers, options.consumers), (8, 6));
        assert_eq!((options.rate.clone(), options.payload.clone()), (Rate::PerSecond(50e3), Payload::Compressible(2)));
        assert_eq!(options.duration, Duration::from_secs(900));
    }

    #[test]
    fn an_open_messaging_workload_whose_rate_climbs_is_a_ramp() {
        let text = "name: incremental\ntopics: 1\npartitionsPerTopic: 1\nkeyDistributor: KEY_ROUND_ROBIN\nmessageSize: 1024\n\
                    subscriptionsPerTopic: 1\nconsumerPerSubscription: 1\nproducersPerTopic: 1\nproducerStartRate: 100\n\
                    producerRate: 1000\nproducerIncrementRate: 100\nproducerIncrementSeconds: 30\n\
                    messageRateReceivedForSubscription: 100\nproducerPauseBeforeDrain: 0\nacceptableBacklog: 5000\n\
                    consumerBacklogSizeGB: 0\ntestDurationMinutes: ${ombTestDuration:-2}\n";
        let options = read(text, &[]).unwrap();
        let Some(Rate::Steps(steps)) = &options.ramp else { panic!("{:?}", options.ramp) };
        assert_eq!((steps.len(), steps[0], options.step_duration), (10, 100.0, Duration::from_secs(30)));
        assert_eq!((options.duration, options.keys), (Duration::from_secs(120), Keys::Uniform(10_000)));
        assert_eq!(read("producerRate: 0", &[]).unwrap().rate, Rate::Max);
    }

    #[test]
    fn a_ramp_that_is_typed_replaces_the_file_s_rate() {
        assert_eq!(read("rate: 5k", &["--ramp", "1:2:1"]).unwrap().ramp, Some(Rate::Steps(vec![1.0, 2.0])));
    }

    #[test]
    fn a_wrong_file_says_what_is_wrong_and_where() {
        for (text, told) in [
            ("rte: 5", "did you mean rate?"),
            ("rate: fast", "is no rate"),
            ("rate: [", "w.yaml"),
            ("rate: {a: 1}", "is not one value"),
            ("subscriptionsPerTopic: 3", "one subscription"),
            ("testDurationMinutes: ${minutes}", "left open"),
            ("consumerBacklogSizeGB: 32", "--from-beginning"),
            ("producerPauseBeforeDrain: 5", "no drain"),
            ("- a", "w.yaml"),
        ] {
            let reason = read(text, &[]).unwrap_err();
            assert!(reason.contains(told), "{text}: {reason}");
        }
    }
}
