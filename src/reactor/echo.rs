//! A shard for the reactor's own tests: it answers each request with its bytes, after a durable commit where the request asks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::decide::Decide;
use crate::metrics::Metrics;
use crate::shard::{ConnectionId, Effect, Event};
use crate::types::{Deadline, Time};

/// What the first byte of a request asks for.
pub const ECHO: u8 = b'e';
/// No response at all, as with acks=0.
pub const SILENT: u8 = b's';
/// A response and the end of the connection.
pub const CLOSE: u8 = b'c';
/// Never an answer, until the stop.
pub const PARK: u8 = b'p';

#[derive(Default)]
pub struct Echo {
    pub opened: usize,
    pub closed: usize,
    parked: VecDeque<(ConnectionId, BytesMut)>,
    metrics: Metrics,
}

fn answer(connection: ConnectionId, frame: BytesMut) -> Effect {
    let length = Bytes::copy_from_slice(&(frame.len() as u32).to_be_bytes());
    Effect::Respond { connection, response: vec![length, frame.freeze()] }
}

impl Echo {
    fn answer_request(&mut self, connection: ConnectionId, frame: BytesMut, effects: &mut Vec<Effect>) {
        match frame[0] {
            SILENT => effects.push(Effect::Respond { connection, response: Vec::new() }),
            PARK => self.parked.push_back((connection, frame)),
            CLOSE => effects.extend([answer(connection, frame), Effect::Close { connection }]),
            _ => effects.push(answer(connection, frame)),
        }
    }
}

impl Decide for Echo {
    fn step(&mut self, _now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Opened { .. } => self.opened += 1,
            Event::Closed { .. } => self.closed += 1,
            Event::Request { connection, frame } => {
                self.metrics.requests.count(0);
                self.answer_request(connection, frame, effects);
            }
            event => panic!("an echo is not told {event:?}"),
        }
    }

    fn end_turn(&mut self, _now: Time, _effects: &mut Vec<Effect>) {}

    fn next_deadline(&self) -> Option<Deadline> {
        None
    }

    fn accepts_requests(&self) -> bool {
        true
    }

    fn begin_stop(&mut self, _now: Time, effects: &mut Vec<Effect>) {
        effects.extend(self.parked.drain(..).map(|(connection, frame)| answer(connection, frame)));
    }

    fn drained(&self) -> bool {
        self.parked.is_empty()
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
