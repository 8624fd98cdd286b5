//! Devices that are full, and devices that fail. A limit on file sizes stands for a full device: it needs no privilege, it
//! can be lifted while the broker runs, and the journal, which was written in full at the start, lies below it.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::fixture::{Broker, PATIENCE, free_port, serve};

const FILE_BYTES_MAX: u64 = 8 << 20;

/// No file of this process may grow beyond the limit, until `lift`.
fn limit_file_sizes(command: &mut Command) {
    // SAFETY: between fork and exec only these two system calls are made.
    unsafe {
        command.pre_exec(|| {
            signal(Signal::SIGXFSZ, SigHandler::SigIgn)?;
            Ok(setrlimit(Resource::RLIMIT_FSIZE, FILE_BYTES_MAX, RLIM_INFINITY)?)
        });
    }
}

fn lift(pid: u32) {
    let limit = libc::rlimit64 { rlim_cur: RLIM_INFINITY, rlim_max: RLIM_INFINITY };
    // SAFETY: `limit` lives across the call and is only read by it.
    let result = unsafe { libc::prlimit64(pid as i32, libc::RLIMIT_FSIZE, &limit, std::ptr::null_mut()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Messages that are sent when the device is known to be full.
const LATE: usize = 10;

#[test]
fn a_full_device_refuses_records_serves_the_rest_and_takes_records_again_when_space_returns() {
    let broker = Broker::start_as(&["gannet.writeback.interval.ms=50"], limit_file_sizes);
    broker.create_topic("full", 1);
    broker.create_topic("small", 1);
    let mut config = broker.client();
    config.set("message.timeout.ms", "0").set("enable.idempotence", "true").set("linger.ms", "1");
    let producer: BaseProducer = config.create().expect("a producer");
    let payload = "z".repeat(100_000);
    let messages = 2 * FILE_BYTES_MAX as usize / payload.len();
    let send = |count| {
        for _ in 0..count {
            producer.send(BaseRecord::<(), str>::to("full").payload(&payload)).expect("queued");
        }
    };
    send(messages);
    wait_until("the device is never full", || {
        producer.poll(Duration::ZERO);
        broker.log().contains("no space left")
    });
    send(LATE);
    assert!(!broker.read_all("full", 0).is_empty(), "reads go on");
    broker.gannet(&["topics", "delete", "small"]);
    broker.create_topic("another", 1);
    producer.poll(Duration::ZERO);
    assert!(producer.in_flight_count() >= LATE as i32, "what came after the limit is not acknowledged");
    lift(broker.pid());
    producer.flush(PATIENCE).expect("the client's retries succeed once there is space");
    assert_eq!(broker.read_all("full", 0).len(), messages + LATE);
}

#[test]
fn a_failing_durable_write_ends_the_process_and_nothing_false_was_acknowledged() {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("not run: strace, which makes the write fail, is not installed");
        return;
    }
    let keep = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let port = free_port();
    let serve = serve(keep.path(), port, &["gannet.cores=1".to_owned()]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=pwritev2", "-e", "inject=pwritev2:error=EIO:when=40+", "-o", "/dev/null"]);
    strace.arg(serve.get_program()).args(serve.get_args());
    let mut broker = Broker::start_command(keep.path(), port, strace);
    broker.create_topic("failing", 1);
    let producer: BaseProducer = broker.client().set("message.timeout.ms", "10000").create().expect("a producer");
    let mut acknowledged = 0;
    while broker.is_running() {
        producer.send(BaseRecord::<(), str>::to("failing").payload("r")).expect("queued");
        if producer.flush(Duration::from_millis(500)).is_err() {
            break;
        }
        acknowledged += 1;
    }
    assert_eq!(broker.wait().code(), Some(1), "{}", broker.log());
    assert!(broker.log().contains("journal-0-0"), "{}", broker.log());
    assert!(acknowledged > 0);
    let again = Broker::start_in(keep.path(), &[], None);
    assert!(again.read_all("failing", 0).len() >= acknowledged);
}
