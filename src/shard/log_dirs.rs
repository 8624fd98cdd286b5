//! DescribeLogDirs: what each log directory holds and how much room it has. The owners tell the sizes of their logs, the
//! machine tells the room.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::connection::Caller;
use super::inquiries::Told;
use super::{Answer, Effect, FileError, Question, Shard, ShardId, SpaceFound};
use crate::error_code::ErrorCode;
use crate::metadata::MetadataImage;
use crate::protocol::describe_log_dirs::*;
use crate::protocol::{DecodeError, Reader};
use crate::types::{PartitionId, Set, Time};

/// How large a log is, and where.
#[derive(Clone, Debug)]
pub struct LogSize {
    pub partition: PartitionId,
    pub directory: Arc<str>,
    /// Of its segments, with what is not written to them yet.
    pub bytes: u64,
}

pub(super) struct LogDirsTold {
    sizes: Vec<LogSize>,
    /// By log directory; `None` until the machine has told.
    space: Vec<Option<SpaceFound>>,
}

impl LogDirsTold {
    pub fn on_sizes(&mut self, sizes: Vec<LogSize>) {
        self.sizes.extend(sizes);
    }

    /// True if it was waited for.
    pub fn on_space(&mut self, log_dir: u16, space: &SpaceFound) -> bool {
        let slot = &mut self.space[usize::from(log_dir)];
        slot.is_none() && slot.replace(space.clone()).is_none()
    }
}

impl Shard {
    pub(super) fn on_describe_log_dirs(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = DescribeLogDirsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let wanted = request.topics.as_ref().map(|topics| {
            let known = topics.iter().filter_map(|topic| Some((self.image.topic(topic.topic)?.id, &topic.partitions)));
            let ids = known.flat_map(|(topic, indexes)| indexes.iter().map(move |&index| PartitionId { topic, index }));
            Arc::new(ids.collect::<Set<_>>())
        });
        // Each node tells its own, and clients add them up.
        let asked = if self.is_node() { self.id.0..self.id.0 + 1 } else { 0..self.shards };
        let questions = asked.map(|shard| (ShardId(shard), Question::Sizes(wanted.clone())));
        let log_dirs = self.config.log_dirs.len();
        let is_offline = |index: &usize| self.offline.has_log_dir(*index);
        let offline = || Some(Err(FileError::Failed("the log directory is offline".to_owned())));
        let space: Vec<_> = (0..log_dirs).map(|index| is_offline(&index).then(offline).flatten()).collect();
        let online: Vec<_> = (0..log_dirs).filter(|index| !is_offline(index)).collect();
        let told = LogDirsTold { sizes: Vec::new(), space };
        self.inquire(now, caller, Told::LogDirs(told), questions.collect(), online.len(), effects);
        effects.extend(online.into_iter().map(|index| Effect::Space { log_dir: index as u16 }));
        Ok(())
    }

    /// On the core that owns the logs.
    pub(super) fn sizes_of(&self, wanted: Option<Arc<Set<PartitionId>>>) -> Answer {
        let is_wanted = |id: &PartitionId| wanted.as_ref().is_none_or(|wanted| wanted.contains(id));
        let asked = self.partitions.values().filter(|partition| is_wanted(&partition.id));
        let sizes = asked.filter(|partition| partition.id != PartitionId::METADATA).map(|partition| LogSize {
            partition: partition.id,
            directory: partition.directory.clone(),
            bytes: partition.log.segments().iter().map(|segment| segment.size).sum(),
        });
        Answer::Sizes(sizes.collect())
    }
}

pub(super) fn response<'a>(
    told: &'a LogDirsTold,
    log_dirs: &'a [String],
    image: &'a MetadataImage,
) -> DescribeLogDirsResponse<'a> {
    let mut by_dir: BTreeMap<&str, BTreeMap<&str, Vec<DescribeLogDirsPartition>>> = BTreeMap::new();
    for size in &told.sizes {
        let Some(topic) = image.topic_by_id(size.partition.topic) else { continue };
        let log_dir = size.directory.rsplit_once('/').map_or("", |(log_dir, _)| log_dir);
        let partitions = by_dir.entry(log_dir).or_default().entry(&topic.name).or_default();
        partitions.push(DescribeLogDirsPartition {
            partition_index: size.partition.index,
            partition_size: i64::try_from(size.bytes).unwrap_or(i64::MAX),
            offset_lag: 0,
            is_future_key: false,
        });
    }
    let results = log_dirs.iter().zip(&told.space).map(|(log_dir, space)| {
        let space = space.as_ref().and_then(|space| space.as_ref().ok());
        let topics = by_dir.remove(&**log_dir).unwrap_or_default().into_iter().map(|(name, mut partitions)| {
            partitions.sort_unstable_by_key(|partition| partition.partition_index);
            DescribeLogDirsTopic { name, partitions }
        });
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        DescribeLogDirsResult {
            error_code: if space.is_some() { ErrorCode::None } else { ErrorCode::KafkaStorageError }.code(),
            log_dir,
            topics: topics.collect(),
            total_bytes: space.map_or(-1, |space| bytes(space.total_bytes)),
            usable_bytes: space.map_or(-1, |space| bytes(space.usable_bytes)),
            is_cordoned: false,
        }
    });
    DescribeLogDirsResponse { results: results.collect(), ..Default::default() }
}
