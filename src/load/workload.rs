//! What records are made of: how large, with which key, holding what. Each producer owns one `RecordMaker`, which draws
//! from its own seed.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::random::{Random, Zipf};
use super::units;

/// Payload is cut out of a pool of this size, so that making a record costs one copy.
const POOL_BYTES: usize = 4 << 20;
const RECORD_BYTES_MAX: usize = 64 << 20;

/// How large values are.
#[derive(Clone, PartialEq, Debug)]
pub enum Sizes {
    Fixed(usize),
    Uniform(usize, usize),
    Normal(usize, usize),
    /// Sizes with their weights, summed up.
    Weighted(Vec<(usize, f64)>),
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        let wrong = || {
            format!("'{text}' is no record size: write 1k, uniform:100:2k, normal:MEAN:DEVIATION or mix:100=90,10k=10")
        };
        let size = |text: &str| units::bytes(text).ok().filter(|size| *size <= RECORD_BYTES_MAX).ok_or_else(wrong);
        let (kind, rest) = text.split_once(':').unwrap_or(("fixed", text));
        let pair = || rest.split_once(':').ok_or_else(wrong).and_then(|(a, b)| Ok((size(a)?, size(b)?)));
        match kind {
            "fixed" => Ok(Sizes::Fixed(size(rest)?)),
            "uniform" => match pair()? {
                (min, max) if min <= max => Ok(Sizes::Uniform(min, max)),
                _ => Err(wrong()),
            },
            "normal" => pair().map(|(mean, deviation)| Sizes::Normal(mean, deviation)),
            "mix" => {
                let mut sum = 0.0;
                let mut parts = Vec::new();
                for part in rest.split(',') {
                    let (bytes, weight) = part.split_once('=').ok_or_else(wrong)?;
                    sum += weight.parse().ok().filter(|weight: &f64| (0.0..1e12).contains(weight)).ok_or_else(wrong)?;
                    parts.push((size(bytes)?, sum));
                }
                if sum > 0.0 { Ok(Sizes::Weighted(parts)) } else { Err(wrong()) }
            }
            _ => Err(wrong()),
        }
    }
}

/// As it is written on the command line.
impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |bytes: &usize| units::size(*bytes);
        match self {
            Sizes::Fixed(bytes) => f.write_str(&size(bytes)),
            Sizes::Uniform(min, max) => write!(f, "uniform:{}:{}", size(min), size(max)),
            Sizes::Normal(mean, deviation) => write!(f, "normal:{}:{}", size(mean), size(deviation)),
            Sizes::Weighted(parts) => {
                let mut before = 0.0;
                for (index, (bytes, sum)) in parts.iter().enumerate() {
                    write!(f, "{}{}={}", if index == 0 { "mix:" } else { "," }, size(bytes), sum - before)?;
                    before = *sum;
                }
                Ok(())
            }
        }
    }
}

impl Sizes {
    fn draw(&self, random: &mut Random) -> usize {
        match self {
            Sizes::Fixed(size) => *size,
            Sizes::Uniform(min, max) => min + random.below((max - min + 1) as u64) as usize,
            Sizes::Normal(mean, deviation) => {
                let size = *mean as f64 + random.normal() * *deviation as f64;
                (size.round().max(0.0) as usize).min(RECORD_BYTES_MAX)
            }
            Sizes::Weighted(parts) => {
                let at = random.unit() * parts.last().map_or(0.0, |(_, sum)| *sum);
                parts.iter().find(|(_, sum)| at < *sum).or(parts.last()).map_or(0, |(size, _)| *size)
            }
        }
    }

    /// Of what is likely: four deviations above a normal distribution's mean.
    pub fn largest(&self) -> usize {
        match self {
            Sizes::Fixed(size) | Sizes::Uniform(_, size) => *size,
            Sizes::Normal(mean, deviation) => mean + 4 * deviation,
            Sizes::Weighted(parts) => parts.iter().map(|(size, _)| *size).max().unwrap_or(0),
        }
    }

    pub fn smallest(&self) -> usize {
        match self {
            Sizes::Fixed(size) | Sizes::Uniform(size, _) => *size,
            Sizes::Normal(mean, deviation) => mean.saturating_sub(4 * deviation),
            Sizes::Weighted(parts) => parts.iter().map(|(size, _)| *size).min().unwrap_or(0),
        }
    }
}

/// What values hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    Random,
    /// So many times smaller once compressed.
    Compressible(u32),
    File(PathBuf),
}

impl FromStr for Payload {
    type Err = String;

    fn from_str(text: &str) -> Result<Payload, String> {
        match text.split_once(':').unwrap_or((text, "")) {
            ("random", "") => Ok(Payload::Random),
            ("compressible", "") => Ok(Payload::Compressible(4)),
            ("compressible", ratio) => {
                let ratio = ratio.parse().ok().filter(|ratio| (1..=1000).contains(ratio));
                ratio.map(Payload::Compressible).ok_or_else(|| format!("'{text}': a ratio is 1 to 1000"))
            }
            ("file", path) if !path.is_empty() => Ok(Payload::File(path.into())),
            _ => Err(format!("'{text}' is no payload: write random, compressible:RATIO or file:PATH")),
        }
    }
}

/// As it is written on the command line.
impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Payload::Random => f.write_str("random"),
            Payload::Compressible(ratio) => write!(f, "compressible:{ratio}"),
            Payload::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl Payload {
    /// The bytes that values are cut out of.
    pub fn pool(&self, seed: u64) -> Result<Arc<[u8]>, String> {
        let mut random = Random::new(seed, u64::MAX);
        let pool: Vec<u8> = match self {
            Payload::Random => (0..POOL_BYTES / 8).flat_map(|_| random.next_u64().to_le_bytes()).collect(),
            Payload::Compressible(ratio) => {
                // Of every 64 bytes the first are random and the rest repeat what every codec knows.
                let fresh = (64 / *ratio as usize).max(1);
                let cell = |random: &mut Random| {
                    let mut cell = [b' '; 64];
                    cell[..fresh].iter_mut().for_each(|byte| *byte = random.next_u64() as u8);
                    cell
                };
                (0..POOL_BYTES / 64).flat_map(|_| cell(&mut random)).collect()
            }
            Payload::File(path) => {
                use std::io::Read;
                let open = std::fs::File::open(path);
                let mut bytes = Vec::new();
                let read = open.and_then(|file| file.take(1 << 30).read_to_end(&mut bytes));
                read.map_err(|error| format!("cannot read the payload of {}: {error}", path.display()))?;
                bytes
            }
        };
        if pool.is_empty() { Err("the payload file is empty".into()) } else { Ok(pool.into()) }
    }
}

/// Which key a record has.
#[derive(Clone, PartialEq, Debug)]
pub enum Keys {
    None,
    Uniform(u64),
    Zipf(u64, f64),
    /// This part of the records share one key, the rest are spread over a million.
    Hot(f64),
}

const HOT_OTHERS: u64 = 1_000_000;

impl FromStr for Keys {
    type Err = String;

    fn from_str(text: &str) -> Result<Keys, String> {
        let wrong =
            || format!("'{text}' is no distribution of keys: write none, uniform:N, zipf:N:EXPONENT or hot:0.2");
        let items = |text: &str| {
            let items = units::count(text).ok().map(|items| items as u64);
            items.filter(|items| (1..=1 << 32).contains(items)).ok_or_else(wrong)
        };
        match text.split(':').collect::<Vec<_>>()[..] {
            ["none"] => Ok(Keys::None),
            ["uniform", n] => items(n).map(Keys::Uniform),
            ["zipf", n, exponent] => {
                let exponent = exponent.parse().ok().filter(|exponent| (0.01..=20.0).contains(exponent));
                Ok(Keys::Zipf(items(n)?, exponent.ok_or_else(wrong)?))
            }
            ["hot", part] => {
                let part = part.parse().ok().filter(|part| (0.0..=1.0).contains(part));
                part.map(Keys::Hot).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

/// As it is written on the command line.
impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keys::None => f.write_str("none"),
            Keys::Uniform(items) => write!(f, "uniform:{items}"),
            Keys::Zipf(items, exponent) => write!(f, "zipf:{items}:{exponent}"),
            Keys::Hot(part) => write!(f, "hot:{part}"),
        }
    }
}

/// Makes one record after another in buffers of its own.
#[derive(Debug)]
pub struct RecordMaker {
    random: Random,
    sizes: Sizes,
    keys: Keys,
    zipf: Option<Zipf>,
    pool: Arc<[u8]>,
    cursor: usize,
    key: [u8; 8],
    value: Vec<u8>,
}

impl RecordMaker {
    pub fn new(seed: u64, producer: usize, sizes: Sizes, keys: Keys, pool: Arc<[u8]>) -> RecordMaker {
        let mut random = Random::new(seed, producer as u64);
        let zipf = match keys {
            Keys::Zipf(items, exponent) => Some(Zipf::new(items, exponent)),
            _ => None,
        };
        let cursor = random.below(pool.len() as u64) as usize;
        RecordMaker { random, sizes, keys, zipf, pool, cursor, key: [0; 8], value: Vec::new() }
    }

    /// Draws the next record; `key` and `value` then hold it.
    pub fn next(&mut self) {
        let rank = match (&self.keys, &self.zipf) {
            (Keys::None, _) => None,
            (Keys::Uniform(items), _) => Some(self.random.below(*items)),
            (Keys::Zipf(..), zipf) => zipf.as_ref().map(|zipf| zipf.draw(&mut self.random)),
            (Keys::Hot(part), _) if self.random.unit() < *part => Some(0),
            (Keys::Hot(_), _) => Some(1 + self.random.below(HOT_OTHERS)),
        };
        if let Some(rank) = rank {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            for (place, digit) in self.key.iter_mut().enumerate() {
                *digit = DIGITS[(rank >> (28 - 4 * place) & 15) as usize];
            }
        }
        let size = self.sizes.draw(&mut self.random);
        self.value.clear();
        while self.value.len() < size {
            let take = (size - self.value.len()).min(self.pool.len() - self.cursor);
            self.value.extend_from_slice(&self.pool[self.cursor..self.cursor + take]);
            self.cursor = (self.cursor + take) % self.pool.len();
        }
    }

    pub fn key(&self) -> Option<&[u8]> {
        (self.keys != Keys::None).then_some(&self.key)
    }

    pub fn value(&self) -> &[u8] {
        &self.value
    }

    pub fn value_mut(&mut self) -> &mut [u8] {
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maker(sizes: &str, keys: &str, payload: &str) -> RecordMaker {
        let pool = payload.parse::<Payload>().unwrap().pool(1).unwrap();
        RecordMaker::new(1, 0, sizes.parse().unwrap(), keys.parse().unwrap(), pool)
    }

    fn drawn(maker: &mut RecordMaker, records: usize) -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
        let mut draw = || {
            maker.next();
            (maker.key().map(<[u8]>::to_vec), maker.value().to_vec())
        };
        (0..records).map(|_| draw()).collect()
    }

    #[test]
    fn what_is_told_reads_back_as_what_was_asked() {
        for text in ["1k", "100", "uniform:100:2k", "normal:1k:10", "mix:100=90,10k=10"] {
            assert_eq!(text.parse::<Sizes>().unwrap().to_string(), text);
        }
        for text in ["random", "compressible:4", "file:/a/b"] {
            assert_eq!(text.parse::<Payload>().unwrap().to_string(), text);
        }
        for text in ["none", "uniform:10", "zipf:1000:1.1", "hot:0.2"] {
            assert_eq!(text.parse::<Keys>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_seed_makes_the_same_records_again() {
        let draw = || drawn(&mut maker("uniform:10:100", "uniform:50", "random"), 100);
        assert_eq!(draw(), draw());
    }

    #[test]
    fn sizes_keep_to_their_distribution() {
        let sizes = |text: &str| -> Vec<usize> {
            drawn(&mut maker(text, "none", "random"), 4000).iter().map(|(_, value)| value.len()).collect()
        };
        let mean = |sizes: &[usize]| sizes.iter().sum::<usize>() as f64 / sizes.len() as f64;
        assert!(sizes("1k").iter().all(|size| *size == 1024));
        let uniform = sizes("uniform:100:200");
        assert!(uniform.iter().all(|size| (100..=200).contains(size)) && (mean(&uniform) - 150.0).abs() < 3.0);
        assert!((mean(&sizes("normal:1000:100")) - 1000.0).abs() < 10.0);
        let mixed = sizes("mix:100=90,10k=10");
        assert!((mixed.iter().filter(|size| **size == 100).count() as f64 / 4000.0 - 0.9).abs() < 0.03);
        assert_eq!(
            (Sizes::from_str("mix:100=90,10k=10").unwrap().largest(), mixed.iter().max()),
            (10240, Some(&10240))
        );
    }

    #[test]
    fn keys_keep_to_their_distribution() {
        let keys = |text: &str| drawn(&mut maker("1", text, "random"), 5000).into_iter().map(|(key, _)| key);
        assert!(keys("none").all(|key| key.is_none()));
        let hot = keys("hot:0.3").filter(|key| key.as_deref() == Some(b"00000000")).count();
        assert!((hot as f64 / 5000.0 - 0.3).abs() < 0.03, "{hot}");
        let distinct: std::collections::BTreeSet<_> = keys("uniform:100").collect();
        assert_eq!(distinct.len(), 100);
        assert!(keys("zipf:1k:1.1").filter(|key| key.as_deref() == Some(b"00000000")).count() > 400);
    }

    #[test]
    fn a_compressible_payload_compresses_about_as_far_as_it_says() {
        let pool = Payload::Compressible(4).pool(1).unwrap();
        let compressed = zstd::bulk::compress(&pool[..1 << 20], 3).unwrap();
        let ratio = (1 << 20) as f64 / compressed.len() as f64;
        assert!((2.5..6.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in ["", "uniform:2:1", "mix:", "mix:1=0", "normal:1", "100m"] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
        for wrong in ["", "uniform:0", "zipf:10", "zipf:10:0", "hot:2"] {
            assert!(wrong.parse::<Keys>().is_err(), "{wrong}");
        }
        for wrong in ["", "file:", "compressible:0"] {
            assert!(wrong.parse::<Payload>().is_err(), "{wrong}");
        }
    }
}
