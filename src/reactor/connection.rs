//! One client connection: bytes in become whole requests, responses become one gathered send. Owned by `net`; it decides
//! what to receive next and never touches the ring itself.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};

use super::admission::Admitted;
use super::limits::NetLimits;
use crate::shard::ConnectionId;
use crate::types::Deadline;

/// A request longer than this gets a buffer that grows as its bytes arrive: a length is only a claim.
const FRAME_START_BYTES: usize = 256 << 10;
/// Whose last request was longer than this is asked for the next one's length alone, so that its bytes go where they stay.
const LARGE_FRAME_BYTES: usize = 8 << 10;
const LENGTH_BYTES: u32 = 4;
/// What one gathered send takes at most; the kernel's own limit.
const CHUNKS_PER_SEND: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Open,
    /// No more requests; close when the queued responses have left.
    Closing,
    /// Shut down; waits for the kernel to return what it holds.
    Shut,
}

/// Why a connection was ended by this side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A request's length is zero, negative or above `socket.request.max.bytes`.
    FrameLength(i32),
}

pub struct Connection {
    pub id: ConnectionId,
    pub socket: OwnedFd,
    _admitted: Admitted,
    pub phase: Phase,
    /// Requests given to the shard whose responses have not left yet.
    pub in_flight: u32,
    /// Last time bytes moved in either direction, in `Time::monotonic_us`.
    pub active_us: u64,
    /// A receive is in the kernel.
    pub receiving: bool,
    /// Bytes beyond the last receive are known to wait in the socket.
    pub more_waits: bool,
    /// Nothing is taken from it before then; 0 if it may be.
    pub muted_until: Deadline,
    /// Already noted as having responses to send.
    pub noted: bool,
    /// Received and not yet cut into requests: part of a length, or requests beyond the limit in flight.
    rest: BytesMut,
    /// The last request was a large one.
    sends_large: bool,
    /// A request of this length, of which a part has arrived.
    frame: Option<(BytesMut, usize)>,
    /// Present only while something waits to be sent.
    outgoing: Option<Box<Outgoing>>,
}

/// Responses on their way. Boxed, because the kernel holds its address during a send.
struct Outgoing {
    chunks: VecDeque<Chunk>,
    queued_bytes: usize,
    /// A send is in the kernel; `parts` and `header` belong to it.
    sending: bool,
    parts: Vec<libc::iovec>,
    header: libc::msghdr,
}

struct Chunk {
    bytes: Bytes,
    /// With this chunk a response is complete.
    last: bool,
}

/// Where the next bytes go.
pub enum Target {
    /// Any buffer of the group; of it so many bytes, or with 0 all.
    Group { length: u32 },
    /// Straight into the request whose length is known.
    Frame { start: *mut u8, room: usize },
}

impl Connection {
    pub fn new(id: ConnectionId, socket: OwnedFd, admitted: Admitted, now_us: u64) -> Connection {
        Connection {
            id,
            socket,
            _admitted: admitted,
            phase: Phase::Open,
            in_flight: 0,
            active_us: now_us,
            receiving: false,
            more_waits: true,
            muted_until: 0,
            noted: false,
            rest: BytesMut::new(),
            sends_large: false,
            frame: None,
            outgoing: None,
        }
    }

    /// Whether more requests may be taken from this connection now.
    pub fn may_take(&self, limits: &NetLimits) -> bool {
        self.phase == Phase::Open
            && self.muted_until == 0
            && self.in_flight < limits.requests_in_flight_max
            && self.queued_bytes() < limits.response_pause_bytes
    }

    /// Requests are held back that arrived whole.
    pub fn has_rest(&self) -> bool {
        self.rest.len() >= 4
    }

    /// What comes next may go anywhere: no request is under way that has a buffer of its own.
    pub fn takes_any_buffer(&self) -> bool {
        self.phase == Phase::Open && self.frame.is_none()
    }

    /// Bytes arrived in a shared buffer: cuts out every whole request, each into a buffer of its own.
    pub fn on_bytes(&mut self, bytes: &[u8], limits: &NetLimits, requests: &mut Vec<BytesMut>) -> Result<(), Fault> {
        assert!(self.frame.is_none(), "a frame under way receives straight into itself");
        if self.rest.is_empty() {
            let used = self.cut(bytes, limits, requests)?;
            self.rest.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.rest.extend_from_slice(bytes);
        self.on_room(limits, requests)
    }

    /// Requests may be taken again: goes on with what was held back.
    pub fn on_room(&mut self, limits: &NetLimits, requests: &mut Vec<BytesMut>) -> Result<(), Fault> {
        let mut rest = std::mem::take(&mut self.rest);
        let used = self.cut(&rest, limits, requests)?;
        // A short rest moves into a small buffer, so that an idle connection holds next to nothing.
        self.rest = match rest.len() - used {
            0 => BytesMut::new(),
            1..=64 => BytesMut::from(&rest[used..]),
            _ => rest.split_off(used),
        };
        Ok(())
    }

    fn cut(&mut self, bytes: &[u8], limits: &NetLimits, requests: &mut Vec<BytesMut>) -> Result<usize, Fault> {
        let mut used = 0;
        while self.may_take(limits) {
            let Some((length, body)) = bytes[used..].split_first_chunk::<4>() else { break };
            let length = i32::from_be_bytes(*length);
            let size = usize::try_from(length).ok().filter(|size| (1..=limits.request_bytes_max).contains(size));
            let size = size.ok_or(Fault::FrameLength(length))?;
            self.sends_large = size > LARGE_FRAME_BYTES;
            if let Some(body) = body.get(..size) {
                requests.push(BytesMut::from(body));
                self.in_flight += 1;
                used += 4 + size;
            } else {
                let mut frame = BytesMut::with_capacity(size.min(FRAME_START_BYTES));
                frame.extend_from_slice(body);
                self.frame = Some((frame, size));
                used = bytes.len();
                break;
            }
        }
        Ok(used)
    }

    /// Where to receive next. The place stays valid until `on_frame_bytes`, or until the connection is dropped.
    pub fn target(&mut self) -> Target {
        let Some((frame, size)) = &mut self.frame else {
            let length = if self.sends_large && self.rest.is_empty() { LENGTH_BYTES } else { 0 };
            return Target::Group { length };
        };
        if frame.len() == frame.capacity() {
            frame.reserve(frame.len().min(*size - frame.len()));
        }
        let room = (frame.capacity() - frame.len()).min(*size - frame.len());
        assert!(room > 0, "a whole frame was handed over");
        Target::Frame { start: frame.spare_capacity_mut().as_mut_ptr().cast(), room }
    }

    /// The kernel wrote `count` bytes where `target` said; returns the request if it is whole.
    pub fn on_frame_bytes(&mut self, count: usize) -> Option<BytesMut> {
        let (mut frame, size) = self.frame.take().expect("only a frame under way receives into itself");
        assert!(frame.len() + count <= size.min(frame.capacity()));
        // SAFETY: the kernel initialised `count` bytes behind the current length, within the capacity.
        unsafe { frame.set_len(frame.len() + count) };
        if frame.len() < size {
            self.frame = Some((frame, size));
            return None;
        }
        self.in_flight += 1;
        Some(frame)
    }

    pub fn queued_bytes(&self) -> usize {
        self.outgoing.as_ref().map_or(0, |outgoing| outgoing.queued_bytes)
    }

    pub fn is_sending(&self) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.sending)
    }

    /// Queues one response; without chunks, the request was one that gets none.
    pub fn respond(&mut self, response: Vec<Bytes>, pool: &mut OutgoingPool) {
        let count = response.iter().filter(|bytes| !bytes.is_empty()).count();
        if count == 0 {
            self.in_flight = self.in_flight.saturating_sub(1);
            return;
        }
        let outgoing = self.outgoing.get_or_insert_with(|| pool.0.pop().unwrap_or_default());
        for (index, bytes) in response.into_iter().filter(|bytes| !bytes.is_empty()).enumerate() {
            outgoing.queued_bytes += bytes.len();
            outgoing.chunks.push_back(Chunk { bytes, last: index + 1 == count });
        }
    }

    /// Gathers what waits into one message, which stays valid until `on_sent`. None if nothing waits or a send is under way.
    pub fn gather(&mut self) -> Option<*const libc::msghdr> {
        let outgoing = self.outgoing.as_mut().filter(|outgoing| !outgoing.sending)?;
        outgoing.parts.clear();
        outgoing.parts.extend(
            outgoing.chunks.iter().take(CHUNKS_PER_SEND).map(|chunk| libc::iovec {
                iov_base: chunk.bytes.as_ptr().cast_mut().cast(),
                iov_len: chunk.bytes.len(),
            }),
        );
        outgoing.header.msg_iov = outgoing.parts.as_mut_ptr();
        outgoing.header.msg_iovlen = outgoing.parts.len() as _;
        outgoing.sending = true;
        Some(&raw const outgoing.header)
    }

    /// The send ended; `count` bytes left. Returns whether more waits.
    pub fn on_sent(&mut self, count: usize, pool: &mut OutgoingPool) -> bool {
        let outgoing = self.outgoing.as_mut().expect("a send was under way");
        assert!(outgoing.sending && count <= outgoing.queued_bytes);
        outgoing.sending = false;
        outgoing.queued_bytes -= count;
        let mut left = count;
        while left > 0 {
            let chunk = outgoing.chunks.front_mut().expect("no more left than was queued");
            if left < chunk.bytes.len() {
                let _ = chunk.bytes.split_to(left);
                break;
            }
            left -= chunk.bytes.len();
            self.in_flight = self.in_flight.saturating_sub(u32::from(chunk.last));
            outgoing.chunks.pop_front();
        }
        if !outgoing.chunks.is_empty() {
            return true;
        }
        let empty = self.outgoing.take().expect("looked at just now");
        pool.give_back(empty);
        false
    }

    /// Forgets what waits to be sent, once the kernel holds none of it.
    pub fn discard_outgoing(&mut self, pool: &mut OutgoingPool) {
        if let Some(mut outgoing) = self.outgoing.take_if(|outgoing| !outgoing.sending) {
            outgoing.chunks.clear();
            outgoing.queued_bytes = 0;
            pool.give_back(outgoing);
        }
    }
}

/// Empty send states for reuse: there are as many as connections that send at the same time, not as connections.
#[derive(Default)]
pub struct OutgoingPool(#[allow(clippy::vec_box, reason = "their addresses must stay")] Vec<Box<Outgoing>>);

impl OutgoingPool {
    const KEPT_MAX: usize = 256;

    fn give_back(&mut self, outgoing: Box<Outgoing>) {
        if self.0.len() < OutgoingPool::KEPT_MAX {
            self.0.push(outgoing);
        }
    }
}

impl Default for Outgoing {
    fn default() -> Outgoing {
        Outgoing {
            chunks: VecDeque::new(),
            queued_bytes: 0,
            sending: false,
            parts: Vec::new(),
            // SAFETY: all of a msghdr's fields may be zero.
            header: unsafe { std::mem::zeroed() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let socket = std::fs::File::open("/dev/null").expect("it is everywhere").into();
        let admitted = limits().admission.admit(&socket).expect("there is room");
        Connection::new(ConnectionId { slot: 0, generation: 0 }, socket, admitted, 0)
    }

    fn limits() -> NetLimits {
        NetLimits { request_bytes_max: 1 << 20, requests_in_flight_max: 3, ..NetLimits::default() }
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes()[..], body].concat()
    }

    #[test]
    fn requests_are_whole_however_the_bytes_are_cut() {
        let stream: Vec<u8> = [framed(b"first"), framed(b"the second"), framed(b"3")].concat();
        for piece in 1..stream.len() {
            let (mut connection, mut requests) = (connection(), Vec::new());
            for mut bytes in stream.chunks(piece) {
                while let Target::Frame { start, room } = connection.target() {
                    let count = room.min(bytes.len());
                    // SAFETY: `target` gave `room` bytes of space.
                    unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), count) };
                    requests.extend(connection.on_frame_bytes(count));
                    bytes = &bytes[count..];
                    if bytes.is_empty() {
                        break;
                    }
                }
                if !bytes.is_empty() {
                    connection.on_bytes(bytes, &limits(), &mut requests).expect("good lengths");
                }
            }
            assert_eq!(requests, [&b"first"[..], b"the second", b"3"], "in pieces of {piece}");
        }
    }

    #[test]
    fn requests_beyond_the_limit_in_flight_wait_until_responses_have_left() {
        let stream: Vec<u8> = (0..5u8).flat_map(|i| framed(&[i])).collect();
        let (mut connection, mut requests, mut pool) = (connection(), Vec::new(), OutgoingPool::default());
        connection.on_bytes(&stream, &limits(), &mut requests).expect("good lengths");
        assert_eq!(requests, [&[0u8][..], &[1], &[2]]);
        assert!(connection.has_rest() && !connection.may_take(&limits()));
        connection.respond(Vec::new(), &mut pool);
        connection.respond(vec![Bytes::from_static(b"answer")], &mut pool);
        connection.on_room(&limits(), &mut requests).expect("good lengths");
        assert_eq!(requests.len(), 4, "the request without a response makes room, the unsent response does not");
        connection.gather().expect("something to send");
        assert!(!connection.on_sent(6, &mut pool));
        connection.on_room(&limits(), &mut requests).expect("good lengths");
        assert_eq!(requests[4], [4][..]);
        assert!(!connection.has_rest());
    }

    #[test]
    fn a_hostile_length_is_a_fault_before_anything_is_allocated() {
        for length in [0, -1, i32::MIN, i32::MAX, (1 << 20) + 1] {
            let fault = connection().on_bytes(&length.to_be_bytes(), &limits(), &mut Vec::new());
            assert_eq!(fault, Err(Fault::FrameLength(length)));
        }
    }

    #[test]
    fn a_claimed_length_reserves_little_until_its_bytes_arrive() {
        let mut connection = connection();
        connection.on_bytes(&(1i32 << 20).to_be_bytes(), &limits(), &mut Vec::new()).expect("an allowed length");
        let mut received = 0;
        while received < 1 << 20 {
            let Target::Frame { start, room } = connection.target() else { panic!("a frame is under way") };
            assert!(room <= FRAME_START_BYTES.max(received));
            received += room;
            // SAFETY: `target` gave `room` bytes of space.
            unsafe { start.write_bytes(7, room) };
            assert_eq!(connection.on_frame_bytes(room).is_some(), received == 1 << 20);
        }
    }

    #[test]
    fn after_a_large_request_the_length_of_the_next_one_is_asked_for_alone() {
        let (mut connection, mut requests) = (connection(), Vec::new());
        for (request_bytes, asked_after) in [(100_000, LENGTH_BYTES), (5, 0)] {
            connection.on_bytes(&(request_bytes as i32).to_be_bytes(), &limits(), &mut requests).expect("allowed");
            let Target::Frame { start, room } = connection.target() else { panic!("a frame is under way") };
            assert_eq!(room, request_bytes, "straight into its place");
            // SAFETY: `target` gave `room` bytes of space.
            unsafe { start.write_bytes(7, room) };
            assert!(connection.on_frame_bytes(room).is_some());
            assert!(matches!(connection.target(), Target::Group { length } if length == asked_after));
        }
    }

    #[test]
    fn a_partial_send_goes_on_where_it_stopped() {
        let (mut connection, mut pool) = (connection(), OutgoingPool::default());
        connection.in_flight = 2;
        connection.respond(vec![Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"two")], &mut pool);
        connection.respond(vec![Bytes::from_static(b"three")], &mut pool);
        let parts = |connection: &mut Connection| {
            let header = connection.gather().expect("something to send");
            // SAFETY: valid until `on_sent`.
            unsafe { (*header).msg_iovlen }
        };
        assert_eq!(parts(&mut connection), 3);
        assert!(connection.gather().is_none(), "one send at a time");
        assert!(connection.on_sent(4, &mut pool));
        assert_eq!((connection.in_flight, parts(&mut connection)), (2, 2));
        assert!(connection.on_sent(2, &mut pool));
        assert_eq!((connection.in_flight, parts(&mut connection)), (1, 1));
        assert!(!connection.on_sent(5, &mut pool));
        assert_eq!((connection.in_flight, connection.queued_bytes()), (0, 0));
    }
}
