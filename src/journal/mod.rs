//! One core's write-ahead log.

/// All that one turn appended, to be written in one piece.
#[derive(Debug)]
pub struct JournalBlock {}
