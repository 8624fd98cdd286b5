//! What cores say to each other: owned values, moved.

#[derive(Debug)]
pub enum Message {}
