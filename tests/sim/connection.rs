//! One connection of a client that is made of the machines in `gannet::client`: what `load` and `cli` do with a socket, done
//! with the world's wire.

use gannet::client::{Cluster, Response, Session};
use gannet::protocol::{Message, MetadataRequest, MetadataResponse};
use gannet::types::Time;

use crate::client::{Action, Ctx};

enum State {
    Down,
    /// The wire is asked for, or the versions are.
    Opening,
    Ready,
}

pub struct Connection {
    session: Session,
    state: State,
    not_before: u64,
    /// When metadata was asked for that has not come.
    metadata_asked_at: Option<u64>,
    metadata_not_before: u64,
}

impl Connection {
    pub fn new() -> Connection {
        Connection {
            session: Session::new("sim"),
            state: State::Down,
            not_before: 0,
            metadata_asked_at: None,
            metadata_not_before: 0,
        }
    }

    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Connects where there is no connection and it is time.
    pub fn connect(&mut self, ctx: &mut Ctx) {
        if matches!(self.state, State::Down) && self.not_before <= ctx.now {
            self.state = State::Opening;
            ctx.actions.push(Action::Connect);
        }
    }

    pub fn on_connected(&mut self, ctx: &mut Ctx) {
        self.session = Session::new("sim");
        let frame = self.session.hello().concat();
        ctx.actions.push(Action::Send(frame.into()));
    }

    pub fn on_closed(&mut self, ctx: &mut Ctx) {
        self.state = State::Down;
        self.metadata_asked_at = None;
        self.not_before = ctx.now + ctx.chance.between(1_000, 30_000);
    }

    pub fn send<'m, M: Message<'m>>(&mut self, ctx: &mut Ctx, request: &M, is_answered: bool) {
        let session = &mut self.session;
        let pieces = if is_answered { session.request(request) } else { session.request_unanswered(request) };
        let frame = pieces.expect("our own broker offers what our own client asks for").concat();
        ctx.actions.push(Action::Send(frame.into()));
    }

    /// The answer to a request, if it is not the one to `hello`.
    pub fn on_frame(&mut self, frame: &[u8]) -> Option<Response> {
        let frame = frame.to_vec().into();
        if self.is_ready() {
            return Some(self.session.on_response(frame).expect("answers come in the order of the requests"));
        }
        assert_eq!(self.session.on_hello(frame), Ok(None), "our own broker says its versions at once");
        self.state = State::Ready;
        None
    }

    /// At most one question at a time, and a pause between two.
    pub fn ask_metadata(&mut self, ctx: &mut Ctx) {
        if self.is_ready() && self.metadata_asked_at.is_none() && self.metadata_not_before <= ctx.now {
            self.metadata_asked_at = Some(ctx.now);
            self.metadata_not_before = ctx.now + 10_000;
            self.send(ctx, &MetadataRequest { topics: None, ..Default::default() }, true);
        }
    }

    /// As a client with one connection sees it, which has everything from the node that it is connected to, whoever leads.
    pub fn on_metadata(&mut self, response: &Response) -> Cluster {
        self.metadata_asked_at = None;
        let mut cluster = Cluster::of(&response.decode::<MetadataResponse>().expect("a Metadata response reads"));
        let node = *cluster.brokers.keys().next().expect("the node knows itself");
        for partition in cluster.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            partition.leader = partition.leader.map(|_| node);
        }
        cluster
    }

    /// When `connect` or, if it is wanted, `ask_metadata` has something to do.
    pub fn next_deadline(&self, wants_metadata: bool) -> Option<u64> {
        match self.state {
            State::Down => Some(self.not_before),
            State::Ready if wants_metadata && self.metadata_asked_at.is_none() => Some(self.metadata_not_before),
            _ => None,
        }
    }
}

pub fn time(ctx: &Ctx) -> Time {
    Time { monotonic_us: ctx.now, wall_ms: ctx.wall_ms() }
}
