//! The lines to produce: read in large pieces by a thread of their own, which waits for a permit before each.

use std::io::Read;
use std::sync::mpsc::{self, Sender};
use std::thread;

use super::pipeline::Happening;

/// Pieces under way at once.
const PERMITS: usize = 4;
const PIECE_BYTES: usize = 256 * 1024;
/// A longer line would be no record that any broker takes.
const LINE_BYTES_MAX: usize = 256 << 20;

/// Gives the reading side leave to read on.
#[derive(Debug)]
pub struct Input {
    permits: Sender<()>,
}

impl Input {
    /// Starts to read. Whole lines arrive as `Input`, the last one perhaps without its end, then `InputEnded`.
    pub fn start(source: impl Read + Send + 'static, sender: Sender<Happening>) -> Input {
        let (permits, wait) = mpsc::channel();
        for _ in 0..PERMITS {
            permits.send(()).expect("the receiver is here");
        }
        thread::spawn(move || {
            let mut lines = Lines { source, buffer: Vec::new() };
            while wait.recv().is_ok() {
                let happening = match lines.next() {
                    Ok(Some(piece)) => Happening::Input(piece),
                    Ok(None) => Happening::InputEnded(Ok(())),
                    Err(reason) => Happening::InputEnded(Err(reason)),
                };
                let is_end = matches!(happening, Happening::InputEnded(_));
                if sender.send(happening).is_err() || is_end {
                    return;
                }
            }
        });
        Input { permits }
    }

    /// To be called once per piece, when it has been taken in.
    pub fn permit(&self) {
        // The reading thread may have ended.
        let _ = self.permits.send(());
    }
}

struct Lines<R> {
    source: R,
    /// The beginning of a line whose end has not been read.
    buffer: Vec<u8>,
}

impl<R: Read> Lines<R> {
    /// As many whole lines as are there, at least one; what follows the last line end comes last.
    fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            let start = self.buffer.len();
            self.buffer.resize(start + PIECE_BYTES, 0);
            let read = loop {
                match self.source.read(&mut self.buffer[start..]) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    other => break other.map_err(|error| format!("cannot read the input: {error}"))?,
                }
            };
            self.buffer.truncate(start + read);
            if read == 0 {
                let rest = std::mem::take(&mut self.buffer);
                return Ok((!rest.is_empty()).then_some(rest));
            }
            if let Some(end) = self.buffer[start..].iter().rposition(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(start + end + 1);
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(format!("a line of the input is longer than {LINE_BYTES_MAX} bytes"));
            }
        }
    }
}

/// The lines of a piece, without their ends.
pub fn lines(piece: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = piece.strip_suffix(b"\n").unwrap_or(piece);
    whole.split(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte string per read.
    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            target[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    #[test]
    fn lines_come_whole_and_as_soon_as_they_are_there() {
        let mut input = Lines { source: Pieces(vec![b"a\nb", b"c", b"d\n\ne"]), buffer: Vec::new() };
        let pieces: Vec<Vec<u8>> = std::iter::from_fn(|| input.next().unwrap()).collect();
        assert_eq!(pieces, [b"a\n".to_vec(), b"bcd\n\n".to_vec(), b"e".to_vec()]);
        let all: Vec<&[u8]> = pieces.iter().flat_map(|piece| lines(piece)).collect();
        assert_eq!(all, [&b"a"[..], b"bcd", b"", b"e"]);
    }

    #[test]
    fn an_empty_input_has_no_line() {
        assert_eq!(Lines { source: Pieces(vec![]), buffer: Vec::new() }.next(), Ok(None));
    }
}
