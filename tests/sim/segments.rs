//! What Kafka's own dump tool would check of the files after a stop in order: whole batches that adjoin, exact lengths,
//! index entries that point at what they say.

use gannet::record;

use crate::disk::{base_offset, parent};
use crate::world::World;

pub fn check(world: &World) {
    let logs: Vec<&String> = world.disk.paths().filter(|path| path.ends_with(".log")).collect();
    let mut previous: Option<(&str, i64)> = None;
    for path in logs {
        let directory = parent(path);
        let base = base_offset(path);
        let next = previous.filter(|(before, _)| *before == directory).map(|(_, end)| end);
        let compacted = world.model.compacted.is_some_and(|name| directory.contains(&format!("/{name}-")))
            || directory.contains("/__consumer_offsets-");
        let damaged = world.model.topics.iter().any(|(_, topic)| {
            topic.partitions.iter().enumerate().any(|(index, partition)| {
                directory.ends_with(&format!("/{}-{index}", topic.name))
                    && partition.rotten.iter().any(|(from, _)| *from == base)
            })
        });
        if damaged {
            previous = None;
            continue;
        }
        assert!(next.is_none_or(|end| end == base), "{path} begins at {base}, {next:?} comes next");
        let bytes = &world.disk.file(path).expect("listed").data;
        let mut end = base;
        let mut batches = Vec::new();
        for batch in record::batches(bytes) {
            let (at, header) = batch.unwrap_or_else(|error| panic!("{path} of {} bytes: {error}", bytes.len()));
            assert!(record::check_crc(&bytes[at..at + header.size()]), "{path} at {at}");
            assert!(header.base_offset >= end, "{path} at {at}: {} instead of {end}", header.base_offset);
            assert!(header.base_offset == end || compacted, "{path} at {at}: {} instead of {end}", header.base_offset);
            end = header.last_offset() + 1;
            batches.push((at, header));
        }
        previous = Some((directory, end));
        let beside = |extension: &str| world.disk.file(&path.replace(".log", extension)).map(|file| &file.data);
        let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("4 bytes"));
        for entry in beside(".index").map_or(&[][..], |data| data).chunks(8) {
            let (relative, position) = (word(&entry[..4]), word(&entry[4..]));
            let batch = batches.iter().find(|(at, _)| *at as u32 == position);
            let (_, header) = batch.unwrap_or_else(|| panic!("{path}: the index names {position}, no batch is there"));
            assert!(header.last_offset() == base + i64::from(relative), "{path}: {relative} at {position}");
        }
        let mut last = None;
        for entry in beside(".timeindex").map_or(&[][..], |data| data).chunks(12) {
            let time = i64::from_be_bytes(entry[..8].try_into().expect("8 bytes"));
            let offset = base + i64::from(word(&entry[8..]));
            assert!(last < Some((time, offset)), "{path}: the time index goes back");
            last = Some((time, offset));
            let holds = |(_, header): &&(usize, record::BatchHeader)| header.last_offset() == offset;
            let (_, header) = batches.iter().find(holds).unwrap_or_else(|| panic!("{path}: {offset} ends no batch"));
            assert!(header.max_timestamp == time, "{path}: {time} at {offset}");
        }
        let largest = batches.iter().map(|(_, header)| header.max_timestamp).max();
        assert!(
            last.is_none() || last.map(|(time, _)| time) == largest,
            "{path}: the time index ends with {last:?}, the largest time is {largest:?}"
        );
    }
}
