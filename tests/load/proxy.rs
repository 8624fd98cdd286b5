//! A proxy between a client and one broker that does one thing wrong, once, and passes everything else on. Its threads end
//! with their connections.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gannet::protocol::{Message, ProduceRequest, decode_header, encode_request};
use gannet::record::{BatchBuilder, Record, records};

/// Frames that are waited for before a fault, so that it falls into the middle of a run.
const FRAMES_BEFORE: usize = 10;

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The first record of a batch is not passed on, though the broker acknowledges the batch.
    Lose,
    Duplicate,
    /// Two neighbours of a batch change places.
    Reorder,
    /// A byte of a value changes; the batch's own checksum is put right.
    Corrupt,
    /// For a while no answer passes, so long after the first records came.
    Stall {
        after: Duration,
        lasts: Duration,
    },
    /// Every answer takes longer.
    Delay(Duration),
}

pub struct Proxy {
    listener: Arc<TcpListener>,
}

impl Proxy {
    pub fn listen() -> Proxy {
        Proxy { listener: Arc::new(TcpListener::bind("127.0.0.1:0").expect("a port")) }
    }

    pub fn address(&self) -> String {
        self.listener.local_addr().expect("an address").to_string()
    }

    pub fn start(&self, port: u16, fault: Fault) {
        let (listener, is_done) = (self.listener.clone(), Arc::new(AtomicBool::new(false)));
        let begin = Arc::new(OnceLock::new());
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(broker) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let (from, to) = (client.try_clone().expect("a handle"), broker.try_clone().expect("a handle"));
                let (is_done, began, begin) = (is_done.clone(), begin.clone(), begin.clone());
                std::thread::spawn(move || requests(from, to, fault, &is_done, &began));
                std::thread::spawn(move || responses(broker, client, fault, &begin));
            }
        });
    }
}

/// One frame without its length.
fn frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

fn pass(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    stream.write_all(&[&(frame.len() as u32).to_be_bytes()[..], frame].concat())
}

fn responses(mut from: TcpStream, mut to: TcpStream, fault: Fault, begin: &OnceLock<Instant>) {
    while let Ok(frame) = frame(&mut from) {
        match fault {
            Fault::Stall { after, lasts } => {
                let into = begin.get().map_or(Duration::ZERO, Instant::elapsed);
                if into >= after && into < after + lasts {
                    std::thread::sleep(after + lasts - into);
                }
            }
            Fault::Delay(delay) => std::thread::sleep(delay),
            _ => {}
        }
        if pass(&mut to, &frame).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn requests(mut from: TcpStream, mut to: TcpStream, fault: Fault, is_done: &AtomicBool, begin: &OnceLock<Instant>) {
    let mut frames = 0;
    while let Ok(mut frame) = frame(&mut from) {
        frames += 1;
        let is_produce = frame.starts_with(&[0, 0]);
        if is_produce {
            begin.get_or_init(Instant::now);
        }
        if frames > FRAMES_BEFORE
            && is_produce
            && !is_done.load(Ordering::Relaxed)
            && let Some(bent) = bend(&frame, fault)
        {
            is_done.store(true, Ordering::Relaxed);
            frame = bent;
        }
        if pass(&mut to, &frame).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// The produce request with its fault; `None` if it has no batch of enough records.
fn bend(frame: &[u8], fault: Fault) -> Option<Vec<u8>> {
    let (header, mut reader) = decode_header(frame).expect("the client's frames read");
    let mut request = ProduceRequest::decode_message(&mut reader, header.api_version).expect("a produce request");
    let data = request.topic_data.first_mut()?.partition_data.first_mut()?;
    let all: Vec<Record> = records(data.records?, 1 << 24).ok()?.collect::<Result<_, _>>().ok()?;
    if all.len() < 3 {
        return None;
    }
    let mut values: Vec<Vec<u8>> = all.iter().map(|record| record.value.clone().unwrap_or_default().to_vec()).collect();
    match fault {
        Fault::Lose => drop(values.remove(0)),
        Fault::Duplicate => values.insert(1, values[0].clone()),
        Fault::Reorder => values.swap(0, 1),
        Fault::Corrupt => values[0][50] ^= 1,
        Fault::Stall { .. } | Fault::Delay(_) => return None,
    }
    let mut builder = BatchBuilder::new();
    values.iter().for_each(|value| builder.push(all[0].timestamp, None, Some(value)));
    let batch = builder.build();
    data.records = Some(&batch);
    let pieces = encode_request(&request, header.api_version, header.correlation_id, header.client_id);
    Some(pieces.concat()[4..].to_vec())
}
