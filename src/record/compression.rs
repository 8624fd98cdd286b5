//! The four codecs of Kafka, each with a hard limit on what it may produce: a small batch can hide gigabytes.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use super::BatchError;

/// How the records of a batch are compressed; the number is the codec in the batch's attributes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Compression {
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Compression {
    pub const ALL: [Compression; 4] = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// `None` for 0 (uncompressed) and for numbers Kafka does not define.
    pub fn from_codec(codec: u8) -> Option<Compression> {
        Compression::ALL.into_iter().find(|compression| *compression as u8 == codec)
    }

    /// Kafka's name, as in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// Compresses the records of one batch. `level` is the codec's own number where it has levels (KIP-390).
    pub(super) fn compress(self, body: &[u8], level: Option<i32>) -> Vec<u8> {
        match self {
            Compression::Gzip => {
                // 1 to 9; Kafka's own default, -1, leaves it to the codec.
                let level = level.and_then(|level| u32::try_from(level).ok()).unwrap_or(6);
                let level = flate2::Compression::new(level.min(9));
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing to memory does not fail")
            }
            Compression::Snappy => compress_xerial(body),
            Compression::Lz4 => {
                // Kafka's own reader knows independent blocks only. 64 KiB is what its writer uses.
                let info = lz4_flex::frame::FrameInfo::new()
                    .block_mode(lz4_flex::frame::BlockMode::Independent)
                    .block_size(lz4_flex::frame::BlockSize::Max64KB);
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(body).expect("writing to memory does not fail");
                encoder.finish().expect("writing to memory does not fail")
            }
            Compression::Zstd => {
                let level = level.unwrap_or(3).clamp(-131_072, 22);
                zstd::bulk::compress(body, level).expect("the bound of the output is reserved")
            }
        }
    }

    /// The records of one batch, at most `limit_bytes` of them.
    pub(super) fn decompress(self, body: &[u8], limit_bytes: usize) -> Result<Vec<u8>, BatchError> {
        match self {
            Compression::Gzip => read_limited(flate2::read::MultiGzDecoder::new(body), limit_bytes),
            Compression::Snappy => decompress_snappy(body, limit_bytes),
            Compression::Lz4 => read_limited(lz4_flex::frame::FrameDecoder::new(body), limit_bytes),
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(broken)?;
                read_limited(decoder, limit_bytes)
            }
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Compression {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Compression, Self::Err> {
        let named = Compression::ALL.into_iter().find(|compression| compression.name() == text);
        named.ok_or("a codec is gzip, snappy, lz4 or zstd")
    }
}

fn broken(error: impl fmt::Display) -> BatchError {
    BatchError::Decompression(error.to_string())
}

fn read_limited(decoder: impl Read, limit_bytes: usize) -> Result<Vec<u8>, BatchError> {
    let mut body = Vec::new();
    decoder.take((limit_bytes as u64).saturating_add(1)).read_to_end(&mut body).map_err(broken)?;
    if body.len() > limit_bytes { Err(BatchError::TooLarge { limit_bytes }) } else { Ok(body) }
}

/// Opens the framing of the Java snappy library: this, then two version numbers, then blocks of length and raw snappy.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

fn compress_xerial(body: &[u8]) -> Vec<u8> {
    let mut framed = [XERIAL_MAGIC, XERIAL_VERSIONS].concat();
    let mut encoder = snap::raw::Encoder::new();
    for block in body.chunks(XERIAL_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block).expect("a block is far below the limit of snappy");
        framed.extend((compressed.len() as u32).to_be_bytes());
        framed.extend(compressed);
    }
    framed
}

/// Java clients send the xerial framing, librdkafka and others one raw block.
fn decompress_snappy(body: &[u8], limit_bytes: usize) -> Result<Vec<u8>, BatchError> {
    let mut decompressed = Vec::new();
    if !body.starts_with(&XERIAL_MAGIC) {
        append_snappy_block(body, &mut decompressed, limit_bytes)?;
        return Ok(decompressed);
    }
    let mut rest =
        body.get(XERIAL_MAGIC.len() + XERIAL_VERSIONS.len()..).ok_or(broken("the snappy frame is cut short"))?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk().ok_or(broken("a snappy block's length is cut short"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let block = after.get(..length).ok_or(broken("a snappy block is longer than the batch"))?;
        append_snappy_block(block, &mut decompressed, limit_bytes)?;
        rest = &after[length..];
    }
    Ok(decompressed)
}

fn append_snappy_block(block: &[u8], target: &mut Vec<u8>, limit_bytes: usize) -> Result<(), BatchError> {
    let length = snap::raw::decompress_len(block).map_err(broken)?;
    if length > limit_bytes - target.len() {
        return Err(BatchError::TooLarge { limit_bytes });
    }
    // Snappy repeats at most 64 bytes per 3 of input: a claim beyond that is a lie, made to have memory reserved.
    if length > block.len().saturating_mul(64) {
        return Err(broken("a snappy block claims more than it can hold"));
    }
    let start = target.len();
    target.resize(start + length, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut target[start..]).map_err(broken)?;
    target.truncate(start + written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_read_back_and_codecs_match_kafka() {
        for (codec, name) in [(1, "gzip"), (2, "snappy"), (3, "lz4"), (4, "zstd")] {
            let compression: Compression = name.parse().unwrap();
            assert_eq!(compression.to_string(), name);
            assert_eq!(Compression::from_codec(codec), Some(compression));
        }
        assert_eq!(Compression::from_codec(0), None);
        assert_eq!(Compression::from_codec(5), None);
        assert!("brotli".parse::<Compression>().is_err());
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeroes = vec![0; 8 << 20];
        for compression in Compression::ALL {
            let bomb = compression.compress(&zeroes, None);
            assert_eq!(compression.decompress(&bomb, 1 << 20), Err(BatchError::TooLarge { limit_bytes: 1 << 20 }));
            assert_eq!(compression.decompress(&bomb, 8 << 20).as_ref(), Ok(&zeroes));
        }
    }

    #[test]
    fn raw_snappy_as_librdkafka_sends_it_is_read() {
        let raw = snap::raw::Encoder::new().compress_vec(b"without any framing").unwrap();
        assert_eq!(Compression::Snappy.decompress(&raw, 100).unwrap(), b"without any framing");
    }

    #[test]
    fn a_snappy_block_cannot_reserve_memory_by_claiming_it() {
        // A length of 2^32-1 and nothing behind it.
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(matches!(Compression::Snappy.decompress(&claim, usize::MAX), Err(BatchError::Decompression(_))));
    }

    #[test]
    fn every_level_of_kafka_is_accepted() {
        for (compression, levels) in [(Compression::Gzip, [-1, 1, 9]), (Compression::Zstd, [-131_072, 3, 22])] {
            for level in levels {
                let bytes = compression.compress(b"level", Some(level));
                assert_eq!(compression.decompress(&bytes, 5).unwrap(), b"level");
            }
        }
    }

    proptest! {
        #[test]
        fn every_codec_gives_back_what_it_took(body: Vec<u8>, repeat in 1usize..200) {
            let body = body.repeat(repeat);
            for compression in Compression::ALL {
                let compressed = compression.compress(&body, None);
                prop_assert_eq!(&compression.decompress(&compressed, body.len()).unwrap(), &body);
            }
        }

        #[test]
        fn hostile_bytes_never_panic(body: Vec<u8>, framed: bool) {
            let body = if framed { [&XERIAL_MAGIC[..], &XERIAL_VERSIONS, &body].concat() } else { body };
            for compression in Compression::ALL {
                if let Ok(decompressed) = compression.decompress(&body, 1 << 16) {
                    prop_assert!(decompressed.len() <= 1 << 16);
                }
            }
        }
    }
}
