//! Whatever members do and whenever the partition restarts: what the log says is what the groups are, an offset that was
//! acknowledged stays, and one partition is never assigned to two members of one generation.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::fixture::*;
use super::*;
use crate::types::Offset;

#[derive(Clone, Debug)]
enum Step {
    /// A new member asks for its id, and joins with it.
    Enter {
        group: usize,
        instance: Option<usize>,
    },
    Rejoin {
        member: usize,
    },
    Sync {
        member: usize,
    },
    Heartbeat {
        member: usize,
    },
    Leave {
        member: usize,
    },
    Commit {
        member: usize,
    },
    Pass {
        ms: u64,
    },
    Delete {
        group: usize,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let member = 0..6usize;
    let step = prop_oneof![
        3 => (0..2usize, prop::option::of(0..2usize)).prop_map(|(group, instance)| Step::Enter { group, instance }),
        3 => member.clone().prop_map(|member| Step::Rejoin { member }),
        6 => member.clone().prop_map(|member| Step::Sync { member }),
        2 => member.clone().prop_map(|member| Step::Heartbeat { member }),
        1 => member.clone().prop_map(|member| Step::Leave { member }),
        4 => member.prop_map(|member| Step::Commit { member }),
        4 => prop_oneof![Just(0u64), Just(100), Just(3_000), Just(11_000), Just(61_000), Just(90_000_000)]
            .prop_map(|ms| Step::Pass { ms }),
        1 => (0..2usize).prop_map(|group| Step::Delete { group }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..120)
}

const GROUPS: [&str; 2] = ["g", "h"];

/// What a client knows of itself.
#[derive(Clone, Debug)]
struct Known {
    group: &'static str,
    id: MemberId,
    instance: Option<usize>,
    generation: i32,
    leads: Vec<MemberId>,
    joining: Option<GroupTicket>,
    syncing: Option<GroupTicket>,
}

#[derive(Default)]
struct Clients {
    known: Vec<Known>,
    /// By group and generation: who was assigned the one partition there is.
    owners: BTreeMap<(&'static str, i32), MemberId>,
    committed: BTreeMap<&'static str, Offset>,
    next_offset: Offset,
}

impl Clients {
    fn hear(&mut self, partition: &mut Partition) {
        for known in &mut self.known {
            if let Some(ticket) = known.joining.filter(|ticket| !partition.waits(*ticket)) {
                known.joining = None;
                let reply = partition.joined(ticket);
                if reply.error_code == ErrorCode::None {
                    (known.id, known.generation) = (reply.member, reply.generation);
                    known.leads = reply.members.into_iter().map(|row| row.member).collect();
                }
            }
            if let Some(ticket) = known.syncing.filter(|ticket| !partition.waits(*ticket)) {
                known.syncing = None;
                let reply = partition.synced(ticket);
                if reply.error_code == ErrorCode::None && !reply.assignment.is_empty() {
                    let owner = self.owners.entry((known.group, known.generation)).or_insert(known.id.clone());
                    // A static member that came back has what it had, under another id.
                    let same = *owner == known.id || known.instance.is_some();
                    assert!(same, "{owner} and {} both own it in generation {}", known.id, known.generation);
                }
            }
        }
    }

    fn enter(&mut self, partition: &mut Partition, group: &'static str, instance: Option<usize>) {
        let mut request = join_request(group, "");
        request.instance = instance.map(|instance| format!("i-{instance}").into());
        let ticket = partition.ask(GroupRequest::Join(request));
        let mut known = Known {
            group,
            id: "".into(),
            instance,
            generation: -1,
            leads: Vec::new(),
            joining: Some(ticket),
            syncing: None,
        };
        if instance.is_none() {
            let told = partition.joined(ticket);
            known.joining = Some(partition.ask(join(group, &told.member)));
            known.id = told.member;
        }
        self.known.push(known);
    }

    fn act(&mut self, partition: &mut Partition, step: &Step) {
        let members = self.known.len();
        let chosen = |member: &usize| (members > 0).then(|| member % members);
        match step {
            Step::Enter { group, instance } => self.enter(partition, GROUPS[*group], *instance),
            Step::Rejoin { member } => {
                let Some(index) = chosen(member) else { return };
                let known = &mut self.known[index];
                if known.joining.is_none() && known.syncing.is_none() {
                    let mut request = join_request(known.group, &known.id);
                    request.instance = known.instance.map(|instance| format!("i-{instance}").into());
                    known.joining = Some(partition.ask(GroupRequest::Join(request)));
                }
            }
            Step::Sync { member } => {
                let Some(index) = chosen(member) else { return };
                let known = &mut self.known[index];
                if known.joining.is_none() && known.syncing.is_none() {
                    let assignments: Vec<(&str, String)> =
                        known.leads.iter().take(1).map(|id| (&**id, "orders-0".to_owned())).collect();
                    known.syncing = Some(partition.ask(sync(known.group, &known.id, known.generation, &assignments)));
                }
            }
            Step::Heartbeat { member } => {
                let Some(index) = chosen(member) else { return };
                let known = &self.known[index];
                partition.heartbeat(known.group, &known.id, known.generation);
            }
            Step::Leave { member } => {
                let Some(index) = chosen(member) else { return };
                let known = &self.known[index];
                partition.answer(leave(known.group, &known.id));
            }
            Step::Commit { member } => {
                let Some(index) = chosen(member) else { return };
                let known = &self.known[index];
                self.next_offset += 1;
                let outcome = partition.commit(known.group, &known.id, known.generation, self.next_offset);
                if outcome == ErrorCode::None {
                    self.committed.insert(known.group, self.next_offset);
                }
            }
            Step::Pass { ms } => {
                partition.pass_ms(*ms);
                // A group that was forgotten with its last offset counts its generations anew.
                self.owners.retain(|(group, _), _| partition.groups.groups.contains_key(*group));
            }
            Step::Delete { group } => {
                let group = GROUPS[*group];
                let reply = partition.answer(GroupRequest::Delete { group: group.into() });
                if reply == GroupReply::Delete(ErrorCode::None) {
                    self.committed.remove(group);
                    self.owners.retain(|(of, _), _| *of != group);
                }
            }
            Step::Restart => {
                // Nobody hears any more of what waits.
                partition.restart();
                for known in &mut self.known {
                    (known.joining, known.syncing) = (None, None);
                }
            }
        }
    }
}

/// What a restart must find again: every offset, and every group that is at rest.
fn lasting(partition: &Partition) -> (String, Vec<String>) {
    let groups = partition.groups.groups.iter();
    let at_rest = groups.filter_map(|(id, group)| match group {
        Group::Classic(group) => match group.state {
            ClassicState::Empty if group.generation == 0 => None,
            ClassicState::Stable | ClassicState::Empty => Some(format!(
                "{id} {:?} {} {:?} {:?} {:?}",
                group.state,
                group.generation,
                group.protocol,
                group.leader,
                group.members.iter().map(|(id, row)| (id, &row.assignment, &row.instance)).collect::<Vec<_>>()
            )),
            ClassicState::PreparingRebalance | ClassicState::CompletingRebalance => None,
        },
        Group::Consumer(_) => None,
    });
    (format!("{:?}", partition.groups.offsets), at_rest.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn what_the_log_says_is_what_the_groups_are(steps in steps()) {
        let mut partition = Partition::with(|config| config.offsets_retention_minutes = 60 * 24 * 365);
        let mut clients = Clients::default();
        for step in &steps {
            clients.act(&mut partition, step);
            clients.hear(&mut partition);
            for (group, offset) in clients.committed.clone() {
                prop_assert_eq!(partition.offset(group), offset, "after {:?}", step);
            }
            let before = lasting(&partition);
            let mut replayed = Groups::new(Arc::default(), 9);
            for record in &partition.log {
                replayed.replay(record);
            }
            std::mem::swap(&mut partition.groups, &mut replayed);
            let after = lasting(&partition);
            std::mem::swap(&mut partition.groups, &mut replayed);
            prop_assert_eq!(&before.0, &after.0);
            for group in &before.1 {
                prop_assert!(after.1.contains(group), "{} is not in {:?}", group, after.1);
            }
        }
    }
}
