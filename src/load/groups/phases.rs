//! What is done to the groups, phase by phase, and what each phase found.

use std::time::Duration;

use super::super::run::cpu_s;
use super::arguments::PhaseName;
use super::results::Phase;
use super::samples::Samples;
use super::storm::Storm;

/// How long a phase goes on once its groups are stable, so that what was held up comes out.
const AFTER_NS: u64 = 1_000_000_000;

/// How long things last and may last.
#[derive(Clone, Debug)]
pub struct Course {
    pub duration: Duration,
    pub patience: Duration,
    /// How many groups, from the first on, are disturbed.
    pub disturbed: usize,
    pub broker_pid: Option<u32>,
}

/// Seconds on processors of a process of this machine so far.
fn cpu_of(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    Some((ticks(11)? + ticks(12)?) / per_second as f64)
}

/// A process that can be looked at, or why not.
pub fn check_pid(pid: u32) -> Result<(), String> {
    cpu_of(pid)
        .map(|_| ())
        .ok_or_else(|| format!("--broker-pid {pid}: no such process can be seen in /proc/{pid}/stat"))
}

/// Runs one phase. `Err` means that nothing can go on; what was seen until then is in `found`.
pub fn run(storm: &mut Storm, course: &Course, name: PhaseName, found: &mut Vec<Phase>) -> Result<(), String> {
    storm.take_produced();
    storm.world.samples = Samples::default();
    let disturbs = matches!(name, PhaseName::Death | PhaseName::Leave | PhaseName::Rebalance);
    storm.world.is_disturbed.iter_mut().take(course.disturbed).for_each(|is_disturbed| *is_disturbed = disturbs);
    let began_ns = storm.now_ns();
    let (cpu, broker_cpu) = (cpu_s(), course.broker_pid.and_then(cpu_of));
    let limit_ns = began_ns + course.patience.as_nanos() as u64;
    let outcome = match name {
        PhaseName::Join => join(storm, began_ns, limit_ns),
        PhaseName::Steady => storm.run_for(course.duration.as_nanos() as u64),
        PhaseName::Death | PhaseName::Leave => lose_one(storm, course, name, began_ns, limit_ns),
        PhaseName::Rebalance => rebalance(storm, course, began_ns),
        PhaseName::End => end(storm, limit_ns),
    };
    storm.take_produced();
    let broker_cpu_s = course.broker_pid.and_then(cpu_of).zip(broker_cpu).map(|(upto, from)| upto - from);
    let mut phase = storm.world.samples.phase(name.text());
    phase.seconds = (storm.now_ns() - began_ns) as f64 / 1e9;
    phase.broker_cpu_s = broker_cpu_s;
    phase.generator_cpu_s = cpu_s() - cpu;
    if name != PhaseName::End {
        phase.unstable = storm.unstable.len() as u64;
    }
    found.push(phase);
    outcome?;
    storm.world.is_disturbed.fill(false);
    if matches!(name, PhaseName::Death | PhaseName::Leave) {
        bring_back(storm, course)?;
    }
    Ok(())
}

fn join(storm: &mut Storm, began_ns: u64, limit_ns: u64) -> Result<(), String> {
    (0..storm.participants.len()).for_each(|index| storm.join(index));
    storm.run_until(limit_ns, |storm| storm.unstable.is_empty())?;
    for since_ns in storm.groups.iter().filter_map(|group| group.stable_since_ns) {
        storm.world.samples.stable.saturating_record(since_ns - began_ns);
    }
    Ok(())
}

fn lose_one(storm: &mut Storm, course: &Course, name: PhaseName, began_ns: u64, limit_ns: u64) -> Result<(), String> {
    let mut own = Vec::new();
    for group in 0..course.disturbed {
        let member = storm.groups[group].members[0];
        own.push(storm.participants[member].machine.assignment().clone());
        if let Some(consumption) = storm.world.consumption.get_mut(group) {
            consumption.reset(began_ns);
        }
        match name {
            PhaseName::Death => storm.die(member),
            _ => storm.leave(member),
        }
    }
    let disturbed = course.disturbed;
    storm.run_until(limit_ns, |storm| storm.unstable.range(..disturbed).next().is_none())?;
    for since_ns in storm.groups[..disturbed].iter().filter_map(|group| group.stable_since_ns) {
        storm.world.samples.stable.saturating_record(since_ns.saturating_sub(began_ns));
    }
    storm.run_for(AFTER_NS)?;
    let now_ns = storm.now_ns();
    let world = &mut storm.world;
    for (consumption, own) in world.consumption.iter().zip(&own) {
        for (partition, gap_ns) in consumption.gaps_ns(now_ns).enumerate() {
            let is_own = own.iter().any(|assigned| assigned.partition == partition as i32);
            let samples = match is_own {
                true => &mut world.samples.without_consumption,
                false => &mut world.samples.without_consumption_others,
            };
            samples.saturating_record(gap_ns);
        }
    }
    Ok(())
}

/// Who died or left is a member again before the next phase.
fn bring_back(storm: &mut Storm, course: &Course) -> Result<(), String> {
    for group in 0..course.disturbed {
        storm.join(storm.groups[group].members[0]);
    }
    let limit_ns = storm.now_ns() + course.patience.as_nanos() as u64;
    match storm.run_until(limit_ns, |storm| storm.unstable.is_empty())? {
        true => Ok(()),
        false => Err(format!("{} groups were not stable again within {:?}", storm.unstable.len(), course.patience)),
    }
}

fn rebalance(storm: &mut Storm, course: &Course, began_ns: u64) -> Result<(), String> {
    let end_ns = began_ns + course.duration.as_nanos() as u64;
    for consumption in storm.world.consumption.iter_mut().take(course.disturbed) {
        consumption.reset(began_ns);
    }
    let mut is_back = true;
    while storm.now_ns() < end_ns || !is_back {
        let round_ns = storm.now_ns();
        for group in 0..course.disturbed {
            let member = storm.groups[group].members[0];
            if is_back { storm.leave(member) } else { storm.join(member) }
        }
        is_back = !is_back;
        let disturbed = course.disturbed;
        let limit_ns = round_ns + course.patience.as_nanos() as u64;
        let has_left = move |storm: &Storm| {
            is_back || (0..disturbed).all(|group| storm.participants[storm.groups[group].members[0]].has_left)
        };
        let is_stable =
            storm.run_until(limit_ns, |storm| has_left(storm) && storm.unstable.range(..disturbed).next().is_none())?;
        for since_ns in storm.groups[..disturbed].iter().filter_map(|group| group.stable_since_ns) {
            storm.world.samples.stable.saturating_record(since_ns.saturating_sub(round_ns));
        }
        if !is_stable || disturbed == 0 {
            break;
        }
    }
    let now_ns = storm.now_ns();
    for consumption in storm.world.consumption.iter().take(course.disturbed) {
        for gap_ns in consumption.gaps_ns(now_ns) {
            storm.world.samples.without_consumption_others.saturating_record(gap_ns);
        }
    }
    Ok(())
}

fn end(storm: &mut Storm, limit_ns: u64) -> Result<(), String> {
    let members: Vec<usize> = (0..storm.participants.len()).filter(|index| storm.participants[*index].is_in).collect();
    members.iter().for_each(|index| storm.leave(*index));
    let is_over = storm.run_until(limit_ns, |storm| storm.participants.iter().all(|participant| !participant.is_in))?;
    match is_over {
        true => Ok(()),
        false => {
            let left = storm.participants.iter().filter(|participant| participant.is_in).count();
            Err(format!("{left} members could not leave in time"))
        }
    }
}
