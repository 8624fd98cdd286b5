//! The command lines. Each command has its file; this one only tells them apart.

mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A Kafka-compatible broker for bare-metal Linux: thread per core, io_uring, durable by default.
#[derive(Parser)]
#[command(name = "gannet", version, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker.
    Serve(serve::Serve),
}

pub fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command {
        Command::Serve(serve) => serve.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("gannet: {problem}");
            ExitCode::FAILURE
        }
    }
}
