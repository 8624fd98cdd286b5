//! What the machine does with nothing of ours in the way: a loopback round trip, a durable write, an echo, a raw stream,
//! sequential direct I/O. Plain system calls, pinned like what they are compared with.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gannet::reactor::pin_to;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::Bench;
use crate::machine::own_cpu_ns;
use crate::report::median;

const PAGE_BYTES: usize = 4096;
/// What durable writes are tried on; as large as a journal file.
const FILE_BYTES: u64 = 64 << 20;

/// Memory that begins at a page boundary, as direct I/O wants it.
pub struct Pages {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Pages {
    pub fn new(length: usize) -> Pages {
        let memory = vec![7; length + PAGE_BYTES];
        let start = memory.as_ptr().align_offset(PAGE_BYTES);
        Pages { memory, start, length }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..][..self.length]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.length]
    }
}

fn median_us(mut samples: Vec<f64>) -> f64 {
    samples.retain(|sample| sample.is_finite());
    median(&samples)
}

/// Median of a blocking round trip of 100 bytes between the two cores, in microseconds; one `every` so often.
pub fn round_trip_us(bench: &Bench, every: Duration, lasts: Duration) -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let core = bench.broker_core;
    let echo = std::thread::spawn(move || -> io::Result<()> {
        pin_to(Some(core));
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut bytes = [0; 100];
        while stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&bytes)?;
        }
        Ok(())
    });
    pin_to(Some(bench.client_core));
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (mut samples, begin, mut bytes) = (Vec::new(), Instant::now(), [0; 100]);
    while begin.elapsed() < lasts {
        let sent = Instant::now();
        stream.write_all(&bytes)?;
        stream.read_exact(&mut bytes)?;
        samples.push(sent.elapsed().as_nanos() as f64 / 1000.0);
        std::thread::sleep(every.saturating_sub(sent.elapsed()));
    }
    drop(stream);
    echo.join().expect("no panic")?;
    Ok(median_us(samples))
}

/// A file of zeros on the device under measurement, open past the page cache.
fn zeroed(bench: &Bench, name: &str, bytes: u64, flags: i32) -> io::Result<File> {
    let path = bench.directory.path().join(name);
    if std::fs::metadata(&path).map_or(0, |metadata| metadata.len()) != bytes {
        let file = File::create(&path)?;
        let zeros = vec![0; 1 << 20];
        for at in (0..bytes).step_by(1 << 20) {
            file.write_all_at(&zeros, at)?;
        }
        file.sync_all()?;
    }
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT | flags).open(path)
}

/// Median of a durable write of 4 KiB in microseconds, by the better of two methods; one `every` so often.
pub fn durable_write_us(bench: &Bench, every: Duration, lasts: Duration) -> io::Result<f64> {
    pin_to(Some(bench.broker_core));
    let pages = Pages::new(PAGE_BYTES);
    let mut best = f64::INFINITY;
    for flags in [libc::O_DSYNC, 0] {
        let file = zeroed(bench, "floor-durable", FILE_BYTES, flags)?;
        let (mut samples, begin, mut at) = (Vec::new(), Instant::now(), 0);
        while begin.elapsed() < lasts / 2 {
            let write = Instant::now();
            file.write_all_at(pages.bytes(), at)?;
            if flags == 0 {
                file.sync_data()?;
            }
            samples.push(write.elapsed().as_nanos() as f64 / 1000.0);
            std::thread::sleep(every.saturating_sub(write.elapsed()));
            at = (at + PAGE_BYTES as u64) % FILE_BYTES;
        }
        best = best.min(median_us(samples));
    }
    Ok(best)
}

/// Bytes per second of durable writes of this size, one after the other in each of `depth` threads.
pub fn durable_stream(bench: &Bench, write_bytes: usize, depth: usize, lasts: Duration) -> io::Result<f64> {
    let write_bytes = write_bytes.next_multiple_of(PAGE_BYTES).max(PAGE_BYTES);
    let core = bench.broker_core;
    let files = (0..depth).map(|index| zeroed(bench, &format!("floor-stream-{index}"), FILE_BYTES, libc::O_DSYNC));
    let files = files.collect::<io::Result<Vec<File>>>()?;
    let start = Barrier::new(depth);
    let written = std::thread::scope(|scope| {
        let threads: Vec<_> = files
            .iter()
            .map(|file| {
                scope.spawn(|| -> io::Result<f64> {
                    pin_to(Some(core));
                    let pages = Pages::new(write_bytes);
                    start.wait();
                    let (begin, mut written, mut at) = (Instant::now(), 0u64, 0);
                    while begin.elapsed() < lasts {
                        file.write_all_at(pages.bytes(), at)?;
                        written += write_bytes as u64;
                        at = if at + 2 * write_bytes as u64 > FILE_BYTES { 0 } else { at + write_bytes as u64 };
                    }
                    Ok(written as f64 / begin.elapsed().as_secs_f64())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<io::Result<f64>>()
    });
    written
}

/// Bytes per second of reading these files whole, past the page cache, in pieces of this size, so many at a time.
pub fn read_stream(files: &[&Path], piece_bytes: usize, depth: usize) -> io::Result<f64> {
    let begin = Instant::now();
    let next = AtomicU64::new(0);
    let mut pieces = Vec::new();
    for path in files {
        let length = std::fs::metadata(path)?.len();
        pieces.extend((0..length).step_by(piece_bytes).map(|at| (*path, at)));
    }
    let read = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..depth)
            .map(|_| {
                scope.spawn(|| -> io::Result<u64> {
                    let (mut pages, mut read) = (Pages::new(piece_bytes), 0);
                    let mut open: Option<(&Path, File)> = None;
                    while let Some(&(path, at)) = pieces.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                        if open.as_ref().is_none_or(|(of, _)| *of != path) {
                            open = Some((path, OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path)?));
                        }
                        let (_, file) = open.as_ref().expect("just opened");
                        read += file.read_at(pages.bytes_mut(), at)? as u64;
                    }
                    Ok(read)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<io::Result<u64>>()
    })?;
    Ok(read as f64 / begin.elapsed().as_secs_f64())
}

/// A thread on the broker's core behind a loopback port. It ends when the last of its connections does.
pub struct Peer {
    pub port: u16,
    thread: Option<JoinHandle<io::Result<()>>>,
    cpu_ns: std::sync::Arc<AtomicU64>,
}

impl Peer {
    /// Sends back every byte that comes, by plain epoll.
    pub fn echo(bench: &Bench, connections: usize) -> io::Result<Peer> {
        Peer::start(
            bench,
            connections,
            |stream, buffer| match stream.read(buffer) {
                Ok(0) => Ok(false),
                Ok(count) => stream.write_all(&buffer[..count]).map(|()| true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
                Err(error) => Err(error),
            },
            EpollFlags::EPOLLIN,
        )
    }

    /// Sends as much as every connection takes, out of so much memory in turn: what fits the cache is sent faster.
    pub fn source(bench: &Bench, connections: usize, memory_bytes: usize) -> io::Result<Peer> {
        let (memory, mut at) = (vec![7; memory_bytes], 0);
        Peer::start(
            bench,
            connections,
            move |stream, buffer| match stream.write(&memory[at..memory_bytes.min(at + buffer.len())]) {
                Ok(count) => {
                    at = (at + count) % memory_bytes;
                    Ok(true)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
                Err(_) => Ok(false),
            },
            EpollFlags::EPOLLOUT,
        )
    }

    fn start(
        bench: &Bench,
        connections: usize,
        mut serve: impl FnMut(&mut TcpStream, &mut [u8]) -> io::Result<bool> + Send + 'static,
        interest: EpollFlags,
    ) -> io::Result<Peer> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let (core, cpu_ns) = (bench.broker_core, std::sync::Arc::new(AtomicU64::new(0)));
        let cpu = cpu_ns.clone();
        let thread = std::thread::spawn(move || -> io::Result<()> {
            pin_to(Some(core));
            let epoll = Epoll::new(EpollCreateFlags::empty())?;
            let mut streams = Vec::new();
            for index in 0..connections {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                epoll.add(&stream, EpollEvent::new(interest, index as u64))?;
                // Echoes are small: what does not fit at once would only block for a moment.
                stream.set_nonblocking(interest == EpollFlags::EPOLLOUT)?;
                streams.push(Some(stream));
            }
            let mut buffer = vec![0; 1 << 20];
            let mut events = vec![EpollEvent::empty(); connections];
            let mut turns = 0u64;
            while streams.iter().any(Option::is_some) {
                let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
                for event in &events[..count] {
                    let slot = &mut streams[event.data() as usize];
                    if let Some(stream) = slot
                        && !serve(stream, &mut buffer).unwrap_or(false)
                    {
                        *slot = None;
                    }
                }
                turns += 1;
                if turns.is_multiple_of(64) {
                    cpu.store(own_cpu_ns(), Ordering::Relaxed);
                }
            }
            Ok(())
        });
        Ok(Peer { port, thread: Some(thread), cpu_ns })
    }

    /// Its time on a processor so far.
    pub fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed)
    }

    /// Once its connections are closed.
    pub fn finish(mut self) -> io::Result<()> {
        self.thread.take().expect("once").join().expect("no panic")
    }
}

/// Both floors of a durable message, back to back, in microseconds.
pub fn round_trip_and_write_us(bench: &Bench, every: Duration) -> io::Result<f64> {
    let lasts = Duration::from_millis(500);
    Ok(round_trip_us(bench, every, lasts)? + durable_write_us(bench, every, lasts)?)
}
