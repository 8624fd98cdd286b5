//! The wire against others: every message and version must mean to another implementation what it means to us.

mod declared;
mod generate;
mod golden;
mod oracle;
