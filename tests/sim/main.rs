//! The deterministic simulator: real shards and real frames, a simulated disk, mesh and clock, faults out of one seed.
//! `SIM_SEED=n cargo test --test sim one -- --nocapture` replays one seed with its trace; `SIM_SEEDS=n` runs more.

mod accumulating;
mod admin;
mod chance;
mod classic_member;
mod client;
mod connection;
mod consumer;
mod consumer_member;
mod disk;
mod faults;
mod fetching;
mod groups;
mod keeper;
mod membership;
mod model;
mod overseer;
mod perform;
mod producer;
mod segments;
mod start;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use accumulating::Accumulating;
use admin::Admin;
use classic_member::ClassicMember;
use consumer::Consumer;
use consumer_member::ConsumerMember;
use faults::Mutation;
use fetching::Fetching;
use groups::{GROUPS, Protocol, Told};
use keeper::Keeper;
use model::Retention;
use overseer::Overseer;
use producer::Producer;
use world::World;

#[derive(PartialEq, Debug)]
struct Outcome {
    hash: u64,
    counts: BTreeMap<&'static str, u64>,
}

/// A node lives through its faults, comes to rest, stops, starts again and shows everything it was ever told.
fn run(seed: u64, mutation: Option<Mutation>, printed: bool) -> Outcome {
    let mut world = World::new(seed, mutation, printed);
    world.start();
    let (deletes, quotas, cuts) = (world.faults.deletes, world.faults.quotas, world.faults.cuts);
    world.add_client(|ctx| Box::new(Admin::new(ctx, deletes, quotas, cuts)));
    for id in 0..world.chance.between(1, 4) {
        let large = world.faults.large_records;
        world.add_client(|ctx| Box::new(Producer::new(id + 1, ctx, large)));
    }
    for _ in 0..world.chance.between(1, 4) {
        world.add_client(|ctx| Box::new(Consumer::new(ctx)));
    }
    for id in 0..world.chance.between(0, 2) {
        let large = world.faults.large_records;
        world.add_client(|ctx| Box::new(Accumulating::new(100 + id, ctx, large)));
    }
    for _ in 0..world.chance.between(0, 2) {
        world.add_client(|ctx| Box::new(Fetching::new(ctx)));
    }
    add_groups(&mut world);
    world.schedule_fault();
    let safety_us = world.chance.between(200_000, 1_200_000);
    world.run_until(safety_us);

    world.settling = true;
    world.repair();
    settle(&mut world, "its clients");
    // Looked at once more, now that everybody is where it wants to be.
    world.model.groups.told = None;
    settle(&mut world, "its groups");
    for client in 0..world.clients.len() {
        world.drop_client(client);
    }
    let at_rest = world.model.groups.told.take();
    if world.chance.one_in(2) {
        stop(&mut world)
    } else {
        crash(&mut world)
    }
    world.start();
    let reader = world.add_client(|ctx| Box::new(Consumer::of_everything(ctx)));
    let overseer = world.add_client(|_| Box::new(Overseer::that_only_tells()));
    settle(&mut world, "the last reader");
    compare_groups(&mut world, at_rest);
    world.model.check_order();
    let compacted_away = world.model.check_compaction();
    world.drop_client(reader);
    world.drop_client(overseer);
    if let Some(Retention { ms: 0.., bytes: -1 }) = world.model.retention {
        // Long enough for everything to be past its time, closed or not.
        world.run_until(world.now + 10_000_000);
        stop(&mut world);
        world.check_that_all_is_gone();
    } else {
        stop(&mut world);
    }
    let (acknowledged, read, events) = (world.model.acknowledged, world.model.read, world.events);
    world.counts.extend(std::mem::take(&mut world.model.counts));
    world.counts.extend([
        ("records acknowledged", acknowledged),
        ("records read", read),
        ("records compacted away", compacted_away),
        ("records deleted from the beginning", world.model.cuts),
        ("events", events),
    ]);
    world.counts.extend(std::mem::take(&mut world.model.groups.counts));
    Outcome { hash: world.trace.hash, counts: world.counts }
}

/// Up to two groups, of one protocol or of both, with up to three members each.
fn add_groups(world: &mut World) {
    world.model.groups.by_id = world.faults.deletes;
    let first = world.chance.below(GROUPS.len() as u64) as usize;
    let count = world.chance.below(3) as usize;
    let session_ms = world.config.group.consumer_session_timeout_ms as u64;
    for (name, protocols) in (first..first + count).map(|place| GROUPS[place % GROUPS.len()]) {
        for number in 0..world.chance.between(1, 3) {
            let (protocol, is_pure) = (world.chance.pick(protocols), protocols.len() == 1);
            let instance = (is_pure && world.chance.one_in(4)).then(|| format!("instance-{number}"));
            world.add_client(|ctx| match protocol {
                Protocol::Classic => Box::new(ClassicMember::new(ctx, name, instance, is_pure)),
                Protocol::Consumer => Box::new(ConsumerMember::new(ctx, name, instance, is_pure, session_ms)),
            });
        }
    }
    if world.chance.one_in(3) {
        world.add_client(|ctx| Box::new(Keeper::new(ctx)));
    }
    if count > 0 {
        world.add_client(|_| Box::new(Overseer::new()));
    }
}

/// What the log says of the groups is what they were before: members, assignments, epochs and offsets. Members that nobody
/// speaks for are gone when their sessions end, so it has to be seen in time.
fn compare_groups(world: &mut World, at_rest: Option<Told>) {
    let (Some((began, _, before)), Some((_, ended, after))) = (at_rest, world.model.groups.told.take()) else { return };
    if ended < began + 180_000 {
        world.count("groups compared after a start");
        for (what, before) in before {
            let after = after.get(&what).expect("the same was asked");
            assert!(*after == before, "{what} was\n{before}\nand is\n{after}");
        }
    }
}

fn stop(world: &mut World) {
    world.stays_down = true;
    world.begin_stop();
    while !world.cores.is_empty() {
        world.step(u64::MAX);
    }
    world.stays_down = false;
}

fn crash(world: &mut World) {
    world.stays_down = true;
    world.crash(false);
    world.stays_down = false;
}

/// Nobody waits for anything any more.
fn settle(world: &mut World, who: &str) {
    let began = world.now;
    loop {
        world.run_until(world.now + 20_000);
        let unsettled: Vec<_> = (0..world.clients.len())
            .filter_map(|client| {
                let settled = world.ask_client(client, |client, ctx| (client.is_settled(ctx), client.name()))?;
                (!settled.0).then_some((client, settled.1))
            })
            .collect();
        // A while longer, so that every fetch that should have been answered is seen to be.
        if unsettled.is_empty() && world.now > began + 200_000 {
            return;
        }
        let problem = &world.model.groups.problem;
        assert!(
            world.now < began + 60_000_000,
            "{who}: after a minute of peace {unsettled:?} are not settled; {problem:?}"
        );
    }
}

/// What must have happened somewhere in so many seeds, or the checks of it mean nothing.
const COVERED: &[&str] = &[
    "crashes",
    "crashes within a rebalance",
    "crashes in a swap, step 0",
    "crashes in a swap, step 1",
    "crashes in a swap, step 2",
    "crashes in a swap, step 3",
    "records deleted from the beginning",
    "generations",
    "partitions taken over",
    "revocations",
    "commits of offsets",
    "commits of fenced members",
    "members given up",
    "members that outlived the node",
    "offsets taken back",
    "offsets that expired",
    "groups deleted",
    "groups compared after a start",
];

fn seeds() -> u64 {
    std::env::var("SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(300)
}

fn failure(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default()
}

#[test]
fn what_was_acknowledged_is_there_whatever_happens() {
    let first = std::env::var("SIM_FIRST").ok().and_then(|first| first.parse().ok()).unwrap_or(0);
    let (mut failed, mut total) = (Vec::new(), BTreeMap::<_, u64>::new());
    for seed in first..first + seeds() {
        match catch_unwind(AssertUnwindSafe(|| (run(seed, None, false), run(seed, None, false)))) {
            Ok((once, again)) => {
                assert_eq!(once, again, "seed {seed} runs in two ways");
                once.counts.into_iter().for_each(|(what, count)| *total.entry(what).or_default() += count);
            }
            Err(panic) => {
                let text = failure(panic);
                println!("SIM_SEED={seed}: {text}");
                failed.push(seed);
            }
        }
    }
    println!("Outcome {total:?}");
    if seeds() >= 300 {
        let unseen: Vec<_> = COVERED.iter().filter(|what| total.get(**what).is_none_or(|count| *count == 0)).collect();
        assert!(unseen.is_empty(), "{unseen:?} never happened");
    }
    assert!(failed.is_empty(), "{} seeds failed; SIM_SEED=n cargo test --test sim one -- --nocapture", failed.len());
}

#[test]
fn one_seed_is_replayed_with_its_trace() {
    let Some(seed) = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()) else { return };
    println!("{:?}", run(seed, None, true));
}

/// Guards the guards: a world that misbehaves is found out, each time within so many seeds.
#[test]
fn a_world_that_lies_is_found_out() {
    const SEEDS: u64 = 400;
    let mut unseen = Vec::new();
    for mutation in Mutation::ALL {
        let found = (0..SEEDS).find_map(|seed| {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, Some(*mutation), false)));
            outcome.err().map(|panic| (seed, failure(panic)))
        });
        match found {
            Some((seed, text)) => println!("{mutation:?} is found by seed {seed}: {text}"),
            None => unseen.push(mutation),
        }
    }
    assert!(unseen.is_empty(), "{unseen:?} were not noticed in {SEEDS} seeds");
}
