//! A log with a role.
