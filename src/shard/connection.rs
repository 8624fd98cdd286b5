//! Connections as the shard sees them: a queue of owed responses, which leave in the order of their requests.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{ConnectionId, Effect, Shard, Ticket};
use crate::protocol::{self, Writer};

/// Whom a response is owed to, and in which form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub connection: ConnectionId,
    /// Counts the requests of the connection.
    pub sequence: u64,
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    /// How long the response tells the client to hold back (KIP-219).
    pub throttle_time_ms: i32,
}

#[derive(Debug)]
pub(super) struct Connection {
    /// Index into `listeners`: decides which address the connection is told.
    pub listener: u16,
    /// Where the client is, as Kafka writes it: `/127.0.0.1`.
    pub peer: Arc<str>,
    /// Of its last request that a quota had to see.
    pub client_id: Option<Arc<str>>,
    /// Fetches that wait for their owners.
    pub fetches: Vec<Ticket>,
    /// Responses owed, oldest first; `None` while the answer is being made.
    owed: VecDeque<Option<Vec<Bytes>>>,
    /// Sequence of the oldest owed response.
    first: u64,
}

/// Small responses share a buffer, so that few of them allocate. One that its client does not take keeps all of it, which
/// is why it is no larger.
#[derive(Default)]
pub(super) struct ResponseRoom(BytesMut);

impl ResponseRoom {
    const BYTES: usize = 8 << 10;
    /// With less left another buffer is begun: most responses fit.
    const LEFT_BYTES_MIN: usize = 256;

    fn take(&mut self) -> BytesMut {
        match self.0.capacity() {
            ResponseRoom::LEFT_BYTES_MIN.. => std::mem::take(&mut self.0),
            _ => BytesMut::with_capacity(ResponseRoom::BYTES),
        }
    }
}

impl Connection {
    pub fn new(listener: u16, peer: &str) -> Connection {
        Connection {
            listener,
            peer: format!("/{peer}").into(),
            client_id: None,
            fetches: Vec::new(),
            owed: VecDeque::new(),
            first: 0,
        }
    }

    /// A request arrived; returns its sequence.
    pub fn on_request(&mut self) -> u64 {
        self.owed.push_back(None);
        self.first + self.owed.len() as u64 - 1
    }
}

impl Shard {
    /// Writes the response's header, lets `body` write the rest, and sends it as soon as it is its turn.
    pub(super) fn respond(&mut self, caller: Caller, effects: &mut Vec<Effect>, body: impl FnOnce(&mut Writer)) {
        let room = self.response_room.take();
        let mut writer = protocol::response_writer_in(room, caller.api_key, caller.api_version, caller.correlation_id);
        writer.set_throttle_time(caller.throttle_time_ms);
        body(&mut writer);
        let (response, rest) = writer.finish_with_rest();
        self.response_room.0 = rest;
        self.finish(caller, response, effects);
    }

    /// The request is done. An empty response is none (acks=0), but counts as the request's end.
    pub(super) fn finish(&mut self, caller: Caller, response: Vec<Bytes>, effects: &mut Vec<Effect>) {
        let Some(connection) = self.connections.get_mut(&caller.connection) else { return };
        let Some(index) = caller.sequence.checked_sub(connection.first) else { return };
        let slot = connection.owed.get_mut(index as usize).expect("every request has a slot until it is answered");
        *slot = Some(response);
        while let Some(Some(_)) = connection.owed.front() {
            let response = connection.owed.pop_front().flatten().expect("just seen");
            connection.first += 1;
            effects.push(Effect::Respond { connection: caller.connection, response });
        }
    }

    /// The client broke the protocol or cannot be told otherwise (acks=0): the connection ends.
    pub(super) fn close(&mut self, connection: ConnectionId, effects: &mut Vec<Effect>) {
        if let Some(closed) = self.connections.remove(&connection) {
            self.forget_fetches(connection, closed, effects);
            effects.push(Effect::Close { connection });
        }
    }
}
