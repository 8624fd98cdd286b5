//! A message to another core and its answer: between spinning threads, between spinning reactors, between sleeping ones.
//! The figures are of one round trip, which is two hops.

mod rig;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use gannet::reactor::{CommitMethod, Doorbell, mesh, pin_to};
use gannet::shard::{Effect, Event, Message};
use gannet::types::ShardId;
use rig::{Player, Rig, Settings};

/// Sends a ball to the other core, or sends back what comes.
struct Ball {
    peer: ShardId,
    serves: bool,
}

fn throw(to: ShardId) -> Effect {
    Effect::Send { to, message: Message::ImageApplied { version: 1 } }
}

impl Player for Ball {
    fn begin(&mut self, effects: &mut Vec<Effect>) {
        effects.push(throw(self.peer));
    }

    fn on_event(&mut self, event: Event, effects: &mut Vec<Effect>) -> bool {
        assert!(matches!(event, Event::Message { .. }));
        if !self.serves {
            effects.push(throw(self.peer));
        }
        self.serves
    }
}

fn threads(criterion: &mut Criterion) {
    let doorbells: Vec<Doorbell> = (0..2).map(|_| Doorbell::new().expect("an eventfd")).collect();
    let mut mailboxes = mesh::<u64>(&doorbells, 1024);
    let (mut theirs, mut ours) = (mailboxes.pop().expect("two"), mailboxes.pop().expect("two"));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin_to(Some(1));
            let mut taken = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                theirs.take(16, &mut taken);
                taken.drain(..).for_each(|(from, ball)| theirs.send(from, ball));
                theirs.flush();
            }
        });
        let mut taken = Vec::new();
        criterion.bench_function("mesh_hop/threads spinning", |bencher| {
            pin_to(Some(0));
            bencher.iter(|| {
                ours.send(ShardId(1), 1);
                ours.flush();
                while taken.is_empty() {
                    ours.take(16, &mut taken);
                }
                taken.clear();
            });
        });
        ended.store(true, Ordering::Relaxed);
    });
}

fn reactors(criterion: &mut Criterion) {
    for (name, spin_us) in [("mesh_hop/reactors spinning", 1_000), ("mesh_hop/reactors asleep, by doorbell", 0)] {
        let players = vec![Ball { peer: ShardId(1), serves: true }, Ball { peer: ShardId(0), serves: false }];
        let settings = Settings { journal: Vec::new(), commit_method: CommitMethod::RingDsync, spin_us };
        let rig = Rig::start(players, settings);
        criterion.bench_function(name, |bencher| bencher.iter_custom(|rounds| rig.play(rounds)));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    targets = threads, reactors
}
criterion_main!(benches);
