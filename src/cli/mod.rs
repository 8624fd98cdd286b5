//! The command lines: each command has its file, this one only tells them apart. Exit codes: 0 done, 1 failed (with one
//! message that names the next step), 2 wrong usage.

mod configs;
mod connection;
mod consume;
mod dump;
mod failure;
mod groups;
mod input;
mod pipeline;
mod produce;
mod quotas;
mod serve;
mod time;
mod topics;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use connection::Address;
use failure::Failure;

use crate::load::{self, LoadArguments};

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
    /// Create, list, describe and delete topics.
    Topics(topics::TopicsArguments),
    /// See and change settings of topics, brokers, groups.
    Configs(configs::ConfigsArguments),
    /// See and change what clients may take.
    Quotas(quotas::QuotasArguments),
    /// List, describe, reset and delete groups.
    Groups(groups::GroupsArguments),
    /// Produce the lines of standard input, or of a file.
    Produce(produce::ProduceArguments),
    /// Print the records of a topic as they come, until Ctrl-C.
    Consume(consume::ConsumeArguments),
    /// Put load on any Kafka-compatible cluster and measure it.
    Load(Box<LoadArguments>),
    /// Look into the files of a log directory.
    Log(dump::LogArguments),
}

/// Where the cluster is: shared by every command that talks to one.
#[derive(Args, Debug)]
struct ClusterArguments {
    /// Brokers to ask first, HOST:PORT[,HOST:PORT…].
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:9092")]
    bootstrap_server: Vec<Address>,
}

pub fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command {
        Command::Serve(serve) => serve.run().map_err(Failure::Failed),
        Command::Topics(arguments) => topics::run(arguments),
        Command::Configs(arguments) => configs::run(arguments),
        Command::Quotas(arguments) => quotas::run(arguments),
        Command::Groups(arguments) => groups::run(arguments),
        Command::Produce(arguments) => produce::run(arguments),
        Command::Consume(arguments) => consume::run(arguments),
        Command::Load(arguments) => return load::run(*arguments),
        Command::Log(arguments) => dump::run(arguments),
    };
    match outcome {
        Ok(()) | Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => {
            eprintln!("gannet: {message}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_lines_are_consistent() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
    }
}
