//! How a command fails: with one message that says what happened and what to do next.

use std::fmt::Display;
use std::io;

use crate::error_code::ErrorCode;

#[derive(Debug)]
pub enum Failure {
    Failed(String),
    /// Whoever read our output wants no more of it, which is no mistake.
    BrokenPipe,
}

impl Failure {
    pub fn new(message: impl Display) -> Failure {
        Failure::Failed(message.to_string())
    }

    /// Standard output did not take what was written.
    pub fn of_output(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            _ => Failure::Failed(format!("cannot write to standard output: {error}")),
        }
    }

    pub fn message(&self) -> &str {
        match self {
            Failure::Failed(message) => message,
            Failure::BrokenPipe => "standard output is closed",
        }
    }
}

/// The code of a response; an unknown one counts as Kafka's own "unknown".
pub fn code_of(error_code: i16) -> ErrorCode {
    ErrorCode::from_code(error_code).unwrap_or(ErrorCode::UnknownServerError)
}

/// Name, number and the broker's own sentence, or ours where it sent none.
pub fn describe(code: ErrorCode, message: Option<&str>) -> String {
    match message {
        Some(message) if !message.is_empty() => format!("{message} ({}, {})", code.name(), code.code()),
        _ => code.to_string(),
    }
}
