//! All client connections of one core: accept, receive, send, close, and the limits that keep a hostile peer cheap.
//! Owned by the core's reactor; it turns completions into events and never decides what a request means.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use bytes::{Bytes, BytesMut};
use io_uring::{opcode, squeue, types};

use super::accept::Listeners;
use super::admission::peer_of;
use super::connection::{Connection, Fault, OutgoingPool, Phase, Target};
use super::limits::NetLimits;
use super::ring::{BufferGroup, Completion, Ring, Token};
use crate::shard::{ConnectionId, Event};
use crate::types::{Deadline, Time};

/// Buffers that wait for bytes, shared by all connections of the core.
const RECEIVE_BUFFERS: u16 = 64;
const RECEIVE_BUFFER_BYTES: usize = 16 << 10;
/// How exactly idle and stalled connections are found.
const SWEEP_MS: u64 = 1000;

/// What happened at this core's sockets, counted since the start.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct NetCounters {
    pub accepted: u64,
    pub refused: u64,
    pub closed: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub sends: u64,
    pub hostile_frames: u64,
    pub closed_idle: u64,
    pub closed_stalled: u64,
    pub closed_overfull: u64,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

pub struct Net {
    listeners: Listeners,
    slots: Vec<Slot>,
    free: Vec<u32>,
    live: usize,
    group: BufferGroup,
    /// For bytes that came when no buffer of the group was free.
    spare: Vec<u8>,
    /// Of all connections.
    unsent_bytes: usize,
    limits: NetLimits,
    pool: OutgoingPool,
    /// Slots that got responses in this turn.
    noted: Vec<u32>,
    /// Slots whose reading was held back and may go on.
    resumable: Vec<u32>,
    /// Connections whose clients are over a quota, by the end of that; some may be gone.
    muted: BinaryHeap<Reverse<(Deadline, ConnectionId)>>,
    requests: Vec<BytesMut>,
    next_sweep: Deadline,
    pub counters: NetCounters,
}

impl Net {
    /// Listening starts with the first `turn`. The sockets are in the order of `listeners`.
    pub fn new(ring: &Ring, listeners: Vec<OwnedFd>, limits: NetLimits) -> io::Result<Net> {
        Ok(Net {
            listeners: Listeners::new(listeners),
            slots: Vec::new(),
            free: Vec::new(),
            live: 0,
            group: BufferGroup::register(ring, 0, RECEIVE_BUFFERS, RECEIVE_BUFFER_BYTES)?,
            spare: vec![0; RECEIVE_BUFFER_BYTES],
            unsent_bytes: 0,
            limits,
            pool: OutgoingPool::default(),
            noted: Vec::new(),
            resumable: Vec::new(),
            muted: BinaryHeap::new(),
            requests: Vec::new(),
            next_sweep: 0,
            counters: NetCounters::default(),
        })
    }

    /// No request waits for its response and no response waits to leave.
    pub fn is_quiet(&self) -> bool {
        self.slots.iter().filter_map(|slot| slot.connection.as_ref()).all(|connection| {
            connection.phase == Phase::Shut || connection.in_flight == 0 && connection.queued_bytes() == 0
        })
    }

    /// What waits at sockets that do not take it.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// Takes no more connections.
    pub fn stop_accepting(&mut self) {
        self.listeners.stop();
    }

    /// Ends every connection; the ring then returns what it holds of them.
    pub fn shut_all(&mut self, events: &mut Vec<Event>) {
        for slot in 0..self.slots.len() as u32 {
            if self.slots[slot as usize].connection.as_ref().is_some_and(|connection| connection.phase != Phase::Shut) {
                self.shut(slot, events);
            }
        }
    }

    /// The ring holds nothing of any socket.
    pub fn is_empty(&self) -> bool {
        self.live == 0 && self.listeners.is_disarmed()
    }

    /// Before the reactor waits: accepts are armed, held-back connections go on if requests are welcome, the overdue are closed.
    pub fn prepare(&mut self, ring: &mut Ring, now: Time, welcome: bool, events: &mut Vec<Event>) {
        self.listeners.arm(ring, now);
        self.unmute(now);
        if welcome {
            // Those that must still wait note themselves again.
            for slot in std::mem::take(&mut self.resumable) {
                self.resume(ring, slot, events);
            }
        }
        if now.monotonic_us >= self.next_sweep {
            self.sweep(now, events);
        }
    }

    /// When `prepare` has something to do that no completion announces.
    pub fn next_deadline(&self) -> Option<Deadline> {
        let sweep = (self.live > 0).then_some(self.next_sweep);
        let unmute = self.muted.peek().map(|Reverse((until, _))| *until);
        [self.listeners.next_deadline(), sweep, unmute].into_iter().flatten().min()
    }

    pub fn on_accept(
        &mut self,
        ring: &mut Ring,
        index: u32,
        completion: Completion,
        now: Time,
        events: &mut Vec<Event>,
    ) {
        if let Some(socket) = self.listeners.on_accept(index, completion, now, self.live) {
            self.open(ring, index, socket, now, events);
        }
    }

    fn open(&mut self, ring: &mut Ring, listener: u32, socket: OwnedFd, now: Time, events: &mut Vec<Event>) {
        let admitted = self.limits.admission.admit(&socket).filter(|_| self.listeners.is_accepting());
        let Some(admitted) = admitted else {
            self.counters.refused += 1;
            return;
        };
        self.counters.accepted += 1;
        let peer = peer_of(&socket).map(|peer| peer.to_string()).unwrap_or_default();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let id = ConnectionId { slot, generation: self.slots[slot as usize].generation };
        self.slots[slot as usize].connection = Some(Connection::new(id, socket, admitted, now.monotonic_us));
        self.live += 1;
        if self.live == 1 {
            self.next_sweep = now.after_ms(SWEEP_MS);
        }
        events.push(Event::Opened { connection: id, listener: listener as u16, peer });
        self.receive(ring, slot, events);
    }

    fn get(&mut self, slot: u32) -> &mut Connection {
        self.slots[slot as usize].connection.as_mut().expect("a slot lives until its last completion")
    }

    fn find(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let connection = self.slots.get_mut(id.slot as usize)?.connection.as_mut()?;
        (connection.id == id && connection.phase != Phase::Shut).then_some(connection)
    }

    /// Asks the kernel for this connection's next bytes, unless it must wait.
    fn receive(&mut self, ring: &mut Ring, slot: u32, events: &mut Vec<Event>) {
        if self.must_wait(slot) {
            return;
        }
        self.receive_at_once(slot, events);
        if self.must_wait(slot) {
            return;
        }
        let group = self.group.id();
        let connection = self.get(slot);
        connection.receiving = true;
        let fd = types::Fd(connection.socket.as_raw_fd());
        // With nothing known to wait, the first attempt would only fail: wait for the socket at once.
        let poll_first = if connection.more_waits { 0 } else { RECEIVE_POLL_FIRST };
        let entry = match connection.target() {
            Target::Group { length } => opcode::Recv::new(fd, std::ptr::null_mut(), length)
                .buf_group(group)
                .ioprio(poll_first)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
            Target::Frame { start, room } => opcode::Recv::new(fd, start, room.min(1 << 30) as u32)
                .flags(libc::MSG_WAITALL)
                .ioprio(poll_first)
                .build(),
        };
        // SAFETY: the frame's buffer and the socket stay with the connection, which is kept until this completes; the group
        // lives as long as the reactor.
        unsafe { ring.push(entry, Token::Receive(slot)) };
    }

    /// Whether nothing is to be received now; who waits for room is noted.
    fn must_wait(&mut self, slot: u32) -> bool {
        let Net { slots, limits, resumable, .. } = self;
        let connection = slots[slot as usize].connection.as_mut().expect("asked for by its own completion");
        if connection.receiving || connection.phase != Phase::Open {
            return true;
        }
        let has_room = connection.may_take(limits);
        if !has_room && connection.muted_until == 0 {
            resumable.push(slot);
        }
        !has_room
    }

    /// What is known to wait of a large request is taken without a turn of the ring.
    fn receive_at_once(&mut self, slot: u32, events: &mut Vec<Event>) {
        let connection = self.slots[slot as usize].connection.as_mut().expect("the caller found it");
        if !connection.more_waits {
            return;
        }
        let Target::Frame { start, room } = connection.target() else { return };
        // SAFETY: `target` gave `room` bytes of space.
        let count = unsafe { libc::recv(connection.socket.as_raw_fd(), start.cast(), room, libc::MSG_DONTWAIT) };
        // That there is nothing, an error and an end are met by the ring's receive, which comes next.
        if let Ok(count @ 1..) = usize::try_from(count) {
            connection.more_waits = count == room;
            self.counters.received_bytes += count as u64;
            let id = connection.id;
            self.requests.extend(connection.on_frame_bytes(count));
            self.emit(id, events);
        }
    }

    pub fn on_receive(
        &mut self,
        ring: &mut Ring,
        slot: u32,
        completion: Completion,
        now: Time,
        welcome: bool,
        events: &mut Vec<Event>,
    ) {
        if completion.result == -libc::ENOBUFS && welcome && self.get(slot).takes_any_buffer() {
            return self.on_no_buffer(ring, slot, now, events);
        }
        let Net { slots, group, limits, requests, counters, .. } = self;
        let connection = slots[slot as usize].connection.as_mut().expect("a slot lives until its last completion");
        connection.receiving = false;
        connection.more_waits = completion.socket_has_more();
        connection.active_us = now.monotonic_us;
        let count = completion.result.max(0) as usize;
        counters.received_bytes += count as u64;
        let outcome = match completion.buffer() {
            Some(buffer) => {
                let outcome = match connection.phase {
                    Phase::Open => connection.on_bytes(group.bytes(buffer, count), limits, requests),
                    _ => Ok(()),
                };
                group.give_back(buffer);
                outcome
            }
            None => {
                if count > 0 && connection.phase == Phase::Open {
                    requests.extend(connection.on_frame_bytes(count));
                }
                Ok(())
            }
        };
        let (id, phase) = (connection.id, connection.phase);
        self.emit(id, events);
        match outcome {
            _ if phase == Phase::Shut => self.release(slot),
            Err(fault) => self.on_fault(slot, fault, events),
            // Nothing more is read for now; the bytes wait in the socket.
            Ok(()) if completion.result == -libc::ENOBUFS => {
                self.get(slot).more_waits = true;
                self.resumable.push(slot);
            }
            Ok(()) if matches!(-completion.result, libc::EINTR | libc::EAGAIN) => self.resumable.push(slot),
            // What was asked before the peer left is still answered if it is already decided.
            Ok(()) if completion.result <= 0 && phase == Phase::Closing => {}
            Ok(()) if completion.result <= 0 => self.shut(slot, events),
            Ok(()) if welcome && !self.get(slot).has_rest() => self.receive(ring, slot, events),
            Ok(()) => self.resumable.push(slot),
        }
    }

    /// More sockets had bytes at once than there are buffers. Those that are free lie in the ring behind hundreds of such
    /// failures, so that to ask again would mostly fail again: the bytes are read here and now.
    fn on_no_buffer(&mut self, ring: &mut Ring, slot: u32, now: Time, events: &mut Vec<Event>) {
        let Net { slots, spare, limits, requests, counters, .. } = self;
        let connection = slots[slot as usize].connection.as_mut().expect("a slot lives until its last completion");
        connection.receiving = false;
        connection.active_us = now.monotonic_us;
        let (id, fd) = (connection.id, connection.socket.as_raw_fd());
        // SAFETY: the buffer is ours, of this length, and nobody else looks at it meanwhile.
        let count = unsafe { libc::recv(fd, spare.as_mut_ptr().cast(), spare.len(), libc::MSG_DONTWAIT) };
        let outcome = match count {
            1.. => {
                let bytes = &spare[..count as usize];
                counters.received_bytes += bytes.len() as u64;
                connection.more_waits = bytes.len() == spare.len();
                connection.on_bytes(bytes, limits, requests)
            }
            0 => return self.shut(slot, events),
            _ => match io::Error::last_os_error().kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {
                    connection.more_waits = false;
                    Ok(())
                }
                _ => return self.shut(slot, events),
            },
        };
        self.emit(id, events);
        match outcome {
            Err(fault) => self.on_fault(slot, fault, events),
            Ok(()) if self.get(slot).has_rest() => self.resumable.push(slot),
            Ok(()) => self.receive(ring, slot, events),
        }
    }

    fn emit(&mut self, connection: ConnectionId, events: &mut Vec<Event>) {
        events.extend(self.requests.drain(..).map(|frame| Event::Request { connection, frame }));
    }

    fn resume(&mut self, ring: &mut Ring, slot: u32, events: &mut Vec<Event>) {
        let Net { slots, limits, requests, .. } = self;
        // The slot may have a new tenant by now, which is none the worse for it.
        let Some(connection) = slots[slot as usize].connection.as_mut() else { return };
        // Whose mute ends is resumed then.
        if connection.phase != Phase::Open || connection.receiving || connection.muted_until > 0 {
            return;
        }
        let id = connection.id;
        if !connection.may_take(limits) {
            self.resumable.push(slot);
            return;
        }
        let outcome = if connection.has_rest() { connection.on_room(limits, requests) } else { Ok(()) };
        self.emit(id, events);
        match outcome {
            Err(fault) => self.on_fault(slot, fault, events),
            Ok(()) => self.receive(ring, slot, events),
        }
    }

    fn on_fault(&mut self, slot: u32, fault: Fault, events: &mut Vec<Event>) {
        let Fault::FrameLength(length) = fault;
        self.counters.hostile_frames += 1;
        let max = self.limits.request_bytes_max;
        tracing::warn!(
            "closed a connection: it announced a request of {length} bytes, allowed are 1 to {max} (socket.request.max.bytes). It may not speak Kafka's protocol, or speaks TLS to a plain listener"
        );
        self.shut(slot, events);
    }

    /// Effects of the shard.
    pub fn respond(&mut self, id: ConnectionId, response: Vec<Bytes>) {
        let Some(connection) = self.slots.get_mut(id.slot as usize).and_then(|slot| slot.connection.as_mut()) else {
            return;
        };
        if connection.id != id || connection.phase == Phase::Shut {
            return;
        }
        let before = connection.queued_bytes();
        connection.respond(response, &mut self.pool);
        self.unsent_bytes += connection.queued_bytes() - before;
        if !std::mem::replace(&mut connection.noted, true) {
            self.noted.push(id.slot);
        }
    }

    /// The connection is not read until then; a later end counts. What the kernel was already asked for may still come.
    pub fn mute(&mut self, id: ConnectionId, until: Deadline) {
        let Some(connection) = self.find(id).filter(|connection| connection.muted_until < until) else { return };
        connection.muted_until = until;
        self.muted.push(Reverse((until, id)));
    }

    fn unmute(&mut self, now: Time) {
        while let Some(&Reverse((until, id))) = self.muted.peek()
            && until <= now.monotonic_us
        {
            self.muted.pop();
            if let Some(connection) = self.find(id).filter(|connection| connection.muted_until == until) {
                connection.muted_until = 0;
                self.resumable.push(id.slot);
            }
        }
    }

    pub fn close(&mut self, id: ConnectionId) {
        let Some(connection) = self.find(id) else { return };
        connection.phase = Phase::Closing;
        if !std::mem::replace(&mut connection.noted, true) {
            self.noted.push(id.slot);
        }
    }

    /// At the end of a turn: one gathered send for each connection that got responses.
    pub fn flush(&mut self, ring: &mut Ring, now: Time, events: &mut Vec<Event>) {
        let mut noted = std::mem::take(&mut self.noted);
        for slot in noted.drain(..) {
            let Some(connection) = self.slots[slot as usize].connection.as_mut() else { continue };
            connection.noted = false;
            if connection.phase == Phase::Shut {
                continue;
            }
            if connection.queued_bytes() > self.limits.response_bytes_max {
                self.counters.closed_overfull += 1;
                tracing::warn!(
                    "closed a connection: {} bytes of responses wait for it, allowed are {}",
                    connection.queued_bytes(),
                    self.limits.response_bytes_max
                );
                self.shut(slot, events);
                continue;
            }
            if !connection.is_sending() {
                connection.active_us = now.monotonic_us;
                self.send(ring, slot, events);
            }
        }
        self.noted = noted;
    }

    /// Sends what waits; a connection that was only kept open for that is shut afterwards.
    fn send(&mut self, ring: &mut Ring, slot: u32, events: &mut Vec<Event>) {
        let connection = self.get(slot);
        let Some(message) = connection.gather() else {
            if connection.phase == Phase::Closing {
                self.shut(slot, events);
            }
            return;
        };
        let fd = types::Fd(connection.socket.as_raw_fd());
        let entry = opcode::SendMsg::new(fd, message).flags(libc::MSG_NOSIGNAL as u32).build();
        self.counters.sends += 1;
        // SAFETY: header, parts and chunks stay in the connection's boxed send state until this completes.
        unsafe { ring.push(entry, Token::Send(slot)) };
    }

    pub fn on_sent(&mut self, ring: &mut Ring, slot: u32, completion: Completion, now: Time, events: &mut Vec<Event>) {
        let Net { slots, pool, counters, unsent_bytes, .. } = self;
        let connection = slots[slot as usize].connection.as_mut().expect("a slot lives until its last completion");
        let count = completion.result.max(0) as usize;
        counters.sent_bytes += count as u64;
        if count > 0 {
            connection.active_us = now.monotonic_us;
        }
        let waiting = connection.on_sent(count, pool);
        *unsent_bytes -= count;
        match connection.phase {
            Phase::Shut => self.release(slot),
            _ if completion.result < 0 && !matches!(-completion.result, libc::EINTR | libc::EAGAIN) => {
                self.shut(slot, events)
            }
            Phase::Closing if !waiting => self.shut(slot, events),
            _ if waiting => self.send(ring, slot, events),
            _ => {}
        }
    }

    /// Ends a connection at once. Its slot is free when the kernel has returned what it holds.
    fn shut(&mut self, slot: u32, events: &mut Vec<Event>) {
        let connection = self.get(slot);
        assert!(connection.phase != Phase::Shut);
        connection.phase = Phase::Shut;
        // SAFETY: the descriptor is ours and open; pending operations on it end.
        unsafe { libc::shutdown(connection.socket.as_raw_fd(), libc::SHUT_RDWR) };
        events.push(Event::Closed { connection: connection.id });
        self.counters.closed += 1;
        self.release(slot);
    }

    fn release(&mut self, slot: u32) {
        let Net { slots, pool, unsent_bytes, .. } = self;
        let entry = &mut slots[slot as usize];
        let connection = entry.connection.as_mut().expect("released once");
        let before = connection.queued_bytes();
        connection.discard_outgoing(pool);
        *unsent_bytes -= before - connection.queued_bytes();
        if connection.receiving || connection.is_sending() {
            return;
        }
        entry.connection = None;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(slot);
        self.live -= 1;
    }

    /// Closes those that were idle or took nothing for too long.
    fn sweep(&mut self, now: Time, events: &mut Vec<Event>) {
        let is_pressed = self.unsent_bytes > self.limits.unsent_bytes_max;
        let pressed_ms = if is_pressed { self.limits.pressed_stall_ms } else { u64::MAX };
        let stalled_ms = self.limits.stalled_max_ms.min(pressed_ms);
        let (idle_us, stalled_us) = (self.limits.idle_max_ms.saturating_mul(1000), stalled_ms.saturating_mul(1000));
        for slot in 0..self.slots.len() as u32 {
            let Some(connection) = self.slots[slot as usize].connection.as_ref() else { continue };
            let quiet_us = now.monotonic_us.saturating_sub(connection.active_us);
            if connection.phase == Phase::Shut {
                continue;
            }
            if connection.queued_bytes() > 0 && quiet_us >= stalled_us {
                self.counters.closed_stalled += 1;
                self.shut(slot, events);
            } else if connection.in_flight == 0 && connection.queued_bytes() == 0 && quiet_us >= idle_us {
                self.counters.closed_idle += 1;
                self.shut(slot, events);
            }
        }
        self.next_sweep = now.after_ms(SWEEP_MS.min(self.limits.stalled_max_ms).min(self.limits.idle_max_ms).max(1));
    }
}

/// `IORING_RECVSEND_POLL_FIRST`.
const RECEIVE_POLL_FIRST: u16 = 1;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    /// A storm: every member of many groups speaks at one moment. Each socket whose bytes found no buffer used to be asked
    /// again behind all the others, a few dozen of thousands with success each time around.
    #[test]
    fn requests_that_come_at_once_are_all_read_however_few_the_buffers() {
        let connections = 3 * usize::from(RECEIVE_BUFFERS);
        let mut ring = Ring::new(1024).unwrap();
        let mut net = Net::new(&ring, vec![], NetLimits::default()).unwrap();
        let (now, mut events, mut completions) = (Time::default(), Vec::new(), Vec::new());
        let clients: Vec<UnixStream> = (0..connections)
            .map(|_| {
                let (mut client, server) = UnixStream::pair().unwrap();
                client.write_all(&[0, 0, 0, 2, 7, 7]).unwrap();
                net.open(&mut ring, 0, server.into(), now, &mut events);
                client
            })
            .collect();
        ring.wait(Some(Duration::from_secs(1)));
        ring.take(2 * connections, &mut completions);
        assert_eq!(completions.len(), connections);
        assert!(completions.iter().any(|completion| completion.result == -libc::ENOBUFS));
        for completion in completions.drain(..) {
            let Token::Receive(slot) = completion.token else { panic!("{completion:?}") };
            net.on_receive(&mut ring, slot, completion, now, true, &mut events);
        }
        let requests = events.iter().filter(|event| matches!(event, Event::Request { .. })).count();
        assert_eq!(requests, connections);
        drop(clients);
        net.shut_all(&mut events);
        while !net.is_empty() {
            ring.wait(Some(Duration::from_secs(1)));
            ring.take(2 * connections, &mut completions);
            for completion in completions.drain(..) {
                let Token::Receive(slot) = completion.token else { panic!("{completion:?}") };
                net.on_receive(&mut ring, slot, completion, now, true, &mut events);
            }
        }
    }
}
