//! What administrators ask of partitions, on both sides: the core of the client asks the owners and answers when all have
//! told. One file per verb holds what is asked and what is made of it.

use super::connection::Caller;
use super::delete_records::{self, RecordsDeleted};
use super::describe_producers::{self, ProducersTold};
use super::log_dirs::{self, LogDirsTold};
use super::{Answer, Effect, Message, Question, Shard, ShardId, Ticket, Timer};
use crate::types::{Map, Time};

#[derive(Default)]
pub(super) struct Inquiries {
    pending: Map<Ticket, Inquiry>,
    pub deletions: delete_records::Deletions,
}

struct Inquiry {
    caller: Caller,
    /// Answers that have not come yet.
    outstanding: usize,
    told: Told,
}

/// What the answers so far say.
pub(super) enum Told {
    RecordsDeleted(RecordsDeleted),
    Producers(ProducersTold),
    LogDirs(LogDirsTold),
}

impl Shard {
    /// Asks the owners. `measured` are answers that come from this core's machine and not from a core.
    pub(super) fn inquire(
        &mut self,
        now: Time,
        caller: Caller,
        told: Told,
        questions: Vec<(ShardId, Question)>,
        measured: usize,
        effects: &mut Vec<Effect>,
    ) -> Ticket {
        let ticket = self.token();
        let outstanding = questions.len() + measured;
        self.inquiries.pending.insert(ticket, Inquiry { caller, outstanding, told });
        for (owner, question) in questions {
            if owner == self.id {
                self.on_ask(now, owner, ticket, question, effects);
            } else {
                effects.push(Effect::Send { to: owner, message: Message::Ask { ticket, question } });
            }
        }
        if outstanding == 0 {
            self.end_inquiry(ticket, effects);
        }
        ticket
    }

    /// If the answers take longer than this, what is there by then has to do.
    pub(super) fn limit_inquiry(&mut self, now: Time, ticket: Ticket, timeout_ms: i32) {
        if self.inquiries.pending.contains_key(&ticket) {
            let timeout_ms = u64::try_from(timeout_ms).unwrap_or(0);
            self.set_timer(now.after_ms(timeout_ms), Timer::Inquiry { ticket });
        }
    }

    pub(super) fn on_ask(
        &mut self,
        now: Time,
        from: ShardId,
        ticket: Ticket,
        question: Question,
        effects: &mut Vec<Effect>,
    ) {
        match question {
            Question::DeleteRecords(parts) => self.delete_records_of(now, from, ticket, parts, effects),
            Question::Producers(parts) => {
                let answer = self.producers_of(parts);
                self.tell(from, ticket, answer, effects);
            }
            Question::Sizes(wanted) => {
                let answer = self.sizes_of(wanted);
                self.tell(from, ticket, answer, effects);
            }
        }
    }

    pub(super) fn tell(&mut self, to: ShardId, ticket: Ticket, answer: Answer, effects: &mut Vec<Effect>) {
        if to == self.id {
            self.on_told(ticket, answer, effects);
        } else {
            effects.push(Effect::Send { to, message: Message::Told { ticket, answer } });
        }
    }

    pub(super) fn on_told(&mut self, ticket: Ticket, answer: Answer, effects: &mut Vec<Effect>) {
        let Some(inquiry) = self.inquiries.pending.get_mut(&ticket) else { return };
        match (&mut inquiry.told, answer) {
            (Told::RecordsDeleted(told), Answer::LowWatermarks(answers)) => told.on_told(answers),
            (Told::Producers(told), Answer::Producers(answers)) => told.on_told(answers),
            (Told::LogDirs(told), Answer::Sizes(sizes)) => told.on_sizes(sizes),
            _ => panic!("a core answers what it was asked"),
        }
        inquiry.outstanding -= 1;
        if inquiry.outstanding == 0 {
            self.end_inquiry(ticket, effects);
        }
    }

    /// How much room a log directory has, or why nobody can say.
    pub(super) fn on_space(&mut self, log_dir: u16, space: super::SpaceFound, effects: &mut Vec<Effect>) {
        let mut done = Vec::new();
        for (ticket, inquiry) in &mut self.inquiries.pending {
            if let Told::LogDirs(told) = &mut inquiry.told
                && told.on_space(log_dir, &space)
            {
                inquiry.outstanding -= 1;
                done.extend((inquiry.outstanding == 0).then_some(*ticket));
            }
        }
        done.sort_unstable();
        for ticket in done {
            self.end_inquiry(ticket, effects);
        }
    }

    /// All have answered, or the time is over.
    pub(super) fn end_inquiry(&mut self, ticket: Ticket, effects: &mut Vec<Effect>) {
        let Some(Inquiry { caller, told, .. }) = self.inquiries.pending.remove(&ticket) else { return };
        let version = caller.api_version;
        match &told {
            Told::RecordsDeleted(told) => {
                self.respond(caller, effects, |writer| delete_records::response(told).encode(writer, version));
            }
            Told::Producers(told) => {
                self.respond(caller, effects, |writer| describe_producers::response(told).encode(writer, version));
            }
            Told::LogDirs(told) => {
                let (config, image) = (self.config.clone(), self.image.clone());
                self.respond(caller, effects, |writer| {
                    log_dirs::response(told, &config.log_dirs, &image).encode(writer, version);
                });
            }
        }
    }
}
