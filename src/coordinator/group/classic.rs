//! Groups of the classic protocol: members assign among themselves, the coordinator keeps them in step.

#[derive(Debug)]
pub struct ClassicGroup {}
