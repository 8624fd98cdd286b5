//! All that one core owns.

mod message;
mod seam;

pub use message::Message;
pub use seam::*;
