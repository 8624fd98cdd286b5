//! Keys of Kafka's that have no effect here, with the reason or the replacement: a `server.properties` that holds them
//! starts this broker all the same, with one line each.

struct Group {
    /// Why, as the end of the sentence "… has no effect: ".
    note: &'static str,
    /// Families of names that Kafka leaves open.
    prefixes: &'static [&'static str],
    names: &'static [&'static str],
}

/// Why the key of this name has no effect; `None` if Kafka does not know it either.
pub fn ignored(name: &str) -> Option<&'static str> {
    let named = GROUPS.iter().find(|group| group.names.contains(&name));
    let in_family = || GROUPS.iter().find(|group| group.prefixes.iter().any(|prefix| name.starts_with(prefix)));
    named.or_else(in_family).map(|group| group.note)
}

pub fn names() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|group| group.names).copied()
}

#[rustfmt::skip]
const GROUPS: &[Group] = &[
    Group {
        note: "there is no ZooKeeper; what it kept is in the metadata log of the brokers themselves",
        prefixes: &["zookeeper."],
        names: &[
            "zookeeper.clientCnxnSocket", "zookeeper.connect", "zookeeper.connection.timeout.ms",
            "zookeeper.max.in.flight.requests", "zookeeper.metadata.migration.enable",
            "zookeeper.metadata.migration.min.batch.size", "zookeeper.session.timeout.ms", "zookeeper.set.acl",
            "zookeeper.ssl.client.enable", "zookeeper.sync.time.ms",
        ],
    },
    Group {
        note: "the metadata quorum is part of every broker: it needs no roles, voters or listeners of its own",
        prefixes: &[],
        names: &[
            "broker.heartbeat.interval.ms", "broker.id.generation.enable", "broker.session.timeout.ms",
            "control.plane.listener.name", "controller.performance.always.log.threshold.ms",
            "controller.performance.sample.period.ms", "controller.quorum.append.linger.ms",
            "controller.quorum.auto.join.enable", "controller.quorum.bootstrap.servers",
            "controller.quorum.election.backoff.max.ms", "controller.quorum.election.timeout.ms",
            "controller.quorum.fetch.max.bytes", "controller.quorum.fetch.snapshot.max.bytes",
            "controller.quorum.fetch.timeout.ms", "controller.quorum.request.timeout.ms",
            "controller.quorum.retry.backoff.ms", "controller.quorum.voters", "controller.socket.timeout.ms",
            "early.start.listeners", "initial.broker.registration.timeout.ms", "process.roles",
            "reserved.broker.max.id", "server.max.startup.time.ms",
        ],
    },
    Group {
        note: "the metadata log is kept with the other logs and compacted by itself",
        prefixes: &[],
        names: &[
            "internal.metadata.delete.delay.millis", "internal.metadata.log.segment.bytes",
            "internal.metadata.max.batch.size.in.bytes", "metadata.log.dir",
            "metadata.log.max.record.bytes.between.snapshots", "metadata.log.max.snapshot.interval.ms",
            "metadata.log.segment.bytes", "metadata.log.segment.ms", "metadata.max.idle.interval.ms",
            "metadata.max.retention.bytes", "metadata.max.retention.ms",
        ],
    },
    Group {
        note: "one thread a core does all: set gannet.cores",
        prefixes: &[],
        names: &[
            "background.threads", "group.coordinator.background.threads", "group.coordinator.threads",
            "num.io.threads", "num.network.threads", "num.recovery.threads.per.data.dir",
            "num.replica.alter.log.dirs.threads", "queued.max.requests", "share.coordinator.threads",
        ],
    },
    Group {
        note: "memory for requests is part of gannet.memory.bytes",
        prefixes: &[],
        names: &[
            "queued.max.request.bytes",
        ],
    },
    Group {
        note: "the journal makes every acknowledged record durable and restarts read it: there is nothing to check-point by a timer",
        prefixes: &[],
        names: &[
            "log.flush.offset.checkpoint.interval.ms", "log.flush.start.offset.checkpoint.interval.ms",
            "log.initial.task.delay.ms", "replica.high.watermark.checkpoint.interval.ms",
        ],
    },
    Group {
        note: "compaction takes a share of each core by itself",
        prefixes: &[],
        names: &[
            "log.cleaner.enable", "log.cleaner.io.buffer.load.factor", "log.cleaner.io.buffer.size", "log.cleaner.threads",
        ],
    },
    Group {
        note: "a failed log directory is offline at once, and nobody else has to agree",
        prefixes: &[],
        names: &[
            "log.dir.failure.timeout.ms",
        ],
    },
    Group {
        note: "new partitions go to the log directory with the most free space",
        prefixes: &[],
        names: &[
            "cordoned.log.dirs",
        ],
    },
    Group {
        note: "replication between brokers is not offered yet",
        prefixes: &[],
        names: &[
            "alter.log.dirs.replication.quota.window.num", "alter.log.dirs.replication.quota.window.size.seconds",
            "auto.leader.rebalance.enable", "controlled.shutdown.enable", "controlled.shutdown.max.retries",
            "controlled.shutdown.retry.backoff.ms", "follower.fetch.last.tiered.offset.enable",
            "inter.broker.listener.name", "leader.imbalance.check.interval.seconds",
            "leader.imbalance.per.broker.percentage", "num.replica.fetchers", "replica.fetch.backoff.ms",
            "replica.fetch.max.bytes", "replica.fetch.min.bytes", "replica.fetch.response.max.bytes",
            "replica.fetch.wait.max.ms", "replica.lag.time.max.ms", "replica.selector.class",
            "replica.socket.receive.buffer.bytes", "replica.socket.timeout.ms", "unclean.leader.election.interval.ms",
        ],
    },
    Group {
        note: "it belongs to how Kafka's own coordinator is built: here each core coordinates its groups, and a commit is answered as soon as it is durable",
        prefixes: &["group.coordinator."],
        names: &[
            "group.consumer.assignor.offload.enable", "group.consumer.max.assignment.interval.ms",
            "group.consumer.min.assignment.interval.ms", "group.coordinator.append.linger.ms",
            "group.coordinator.cached.buffer.max.bytes", "group.coordinator.rebalance.protocols",
            "offsets.commit.required.acks", "offsets.commit.timeout.ms", "offsets.load.buffer.size",
            "offsets.topic.compression.codec",
        ],
    },
    Group {
        note: "a group's patterns are matched with the topics' names whenever topics have come or gone",
        prefixes: &[],
        names: &["group.consumer.regex.refresh.interval.ms"],
    },
    Group {
        note: "share and streams groups are not offered yet",
        prefixes: &["group."],
        names: &[
            "group.share.assignment.interval.ms", "group.share.assignors", "group.share.delivery.count.limit",
            "group.share.heartbeat.interval.ms", "group.share.initialize.retry.interval.ms",
            "group.share.max.assignment.interval.ms", "group.share.max.delivery.count.limit",
            "group.share.max.heartbeat.interval.ms", "group.share.max.partition.max.record.locks",
            "group.share.max.record.lock.duration.ms", "group.share.max.session.timeout.ms",
            "group.share.max.share.sessions", "group.share.max.size", "group.share.min.assignment.interval.ms",
            "group.share.min.delivery.count.limit", "group.share.min.heartbeat.interval.ms",
            "group.share.min.partition.max.record.locks", "group.share.min.record.lock.duration.ms",
            "group.share.min.session.timeout.ms", "group.share.partition.max.record.locks",
            "group.share.persister.class.name", "group.share.record.lock.duration.ms",
            "group.share.session.timeout.ms", "group.streams.assignment.interval.ms",
            "group.streams.heartbeat.interval.ms", "group.streams.initial.rebalance.delay.ms",
            "group.streams.max.assignment.interval.ms", "group.streams.max.heartbeat.interval.ms",
            "group.streams.max.session.timeout.ms", "group.streams.max.size", "group.streams.max.standby.replicas",
            "group.streams.min.assignment.interval.ms", "group.streams.min.heartbeat.interval.ms",
            "group.streams.min.session.timeout.ms", "group.streams.num.standby.replicas",
            "group.streams.session.timeout.ms",
        ],
    },
    Group {
        note: "transactions are not offered yet",
        prefixes: &[],
        names: &[
            "add.partitions.to.txn.retry.backoff.max.ms", "add.partitions.to.txn.retry.backoff.ms",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms", "transaction.max.timeout.ms",
            "transaction.partition.verification.enable", "transaction.remove.expired.transaction.cleanup.interval.ms",
            "transaction.state.log.load.buffer.size", "transaction.state.log.min.isr",
            "transaction.state.log.num.partitions", "transaction.state.log.replication.factor",
            "transaction.state.log.segment.bytes", "transaction.two.phase.commit.enable",
            "transactional.id.expiration.ms",
        ],
    },
    Group {
        note: "share groups are not offered yet",
        prefixes: &[],
        names: &[
            "share.coordinator.append.linger.ms", "share.coordinator.cached.buffer.max.bytes",
            "share.coordinator.cold.partition.snapshot.interval.ms", "share.coordinator.load.buffer.size",
            "share.coordinator.snapshot.update.records.per.snapshot",
            "share.coordinator.state.topic.compression.codec", "share.coordinator.state.topic.min.isr",
            "share.coordinator.state.topic.num.partitions", "share.coordinator.state.topic.prune.interval.ms",
            "share.coordinator.state.topic.replication.factor", "share.coordinator.state.topic.segment.bytes",
            "share.coordinator.write.timeout.ms", "share.fetch.purgatory.purge.interval.requests",
        ],
    },
    Group {
        note: "tiered storage is not offered",
        prefixes: &["rsm.config.", "rlmm.config."],
        names: &[
            "remote.fetch.max.wait.ms", "remote.list.offsets.request.timeout.ms",
            "remote.log.index.file.cache.total.size.bytes", "remote.log.index.file.cache.ttl.ms",
            "remote.log.manager.copier.thread.pool.size", "remote.log.manager.copy.max.bytes.per.second",
            "remote.log.manager.copy.quota.window.num", "remote.log.manager.copy.quota.window.size.seconds",
            "remote.log.manager.expiration.thread.pool.size", "remote.log.manager.fetch.max.bytes.per.second",
            "remote.log.manager.fetch.quota.window.num", "remote.log.manager.fetch.quota.window.size.seconds",
            "remote.log.manager.follower.thread.pool.size", "remote.log.manager.task.interval.ms",
            "remote.log.manager.task.retry.backoff.max.ms", "remote.log.manager.task.retry.backoff.ms",
            "remote.log.manager.task.retry.jitter", "remote.log.manager.thread.pool.size",
            "remote.log.metadata.custom.metadata.max.bytes", "remote.log.metadata.manager.class.name",
            "remote.log.metadata.manager.class.path", "remote.log.metadata.manager.impl.prefix",
            "remote.log.metadata.manager.listener.name", "remote.log.reader.max.pending.tasks",
            "remote.log.reader.threads", "remote.log.storage.manager.class.name",
            "remote.log.storage.manager.class.path", "remote.log.storage.manager.impl.prefix",
            "remote.log.storage.system.enable",
        ],
    },
    Group {
        note: "TLS is not offered yet: only PLAINTEXT listeners are opened",
        prefixes: &["listener.name."],
        names: &[
            "password.encoder.cipher.algorithm", "password.encoder.iterations", "password.encoder.key.length",
            "password.encoder.keyfactory.algorithm", "password.encoder.old.secret", "password.encoder.secret",
            "security.inter.broker.protocol", "security.providers", "ssl.allow.dn.changes", "ssl.allow.san.changes",
            "ssl.cipher.suites", "ssl.client.auth", "ssl.enabled.protocols", "ssl.endpoint.identification.algorithm",
            "ssl.engine.factory.class", "ssl.key.password", "ssl.keymanager.algorithm",
            "ssl.keystore.certificate.chain", "ssl.keystore.key", "ssl.keystore.location", "ssl.keystore.password",
            "ssl.keystore.type", "ssl.principal.mapping.rules", "ssl.protocol", "ssl.provider",
            "ssl.secure.random.implementation", "ssl.trustmanager.algorithm", "ssl.truststore.certificates",
            "ssl.truststore.location", "ssl.truststore.password", "ssl.truststore.type",
        ],
    },
    Group {
        note: "SASL is not offered yet: clients are not authenticated",
        prefixes: &[],
        names: &[
            "connection.failed.authentication.delay.ms", "connections.max.reauth.ms", "principal.builder.class",
            "sasl.client.callback.handler.class", "sasl.enabled.mechanisms", "sasl.jaas.config",
            "sasl.kerberos.kinit.cmd", "sasl.kerberos.min.time.before.relogin",
            "sasl.kerberos.principal.to.local.rules", "sasl.kerberos.service.name",
            "sasl.kerberos.ticket.renew.jitter", "sasl.kerberos.ticket.renew.window.factor",
            "sasl.login.callback.handler.class", "sasl.login.class", "sasl.login.connect.timeout.ms",
            "sasl.login.read.timeout.ms", "sasl.login.refresh.buffer.seconds", "sasl.login.refresh.min.period.seconds",
            "sasl.login.refresh.window.factor", "sasl.login.refresh.window.jitter", "sasl.login.retry.backoff.max.ms",
            "sasl.login.retry.backoff.ms", "sasl.mechanism.controller.protocol",
            "sasl.mechanism.inter.broker.protocol", "sasl.oauthbearer.assertion.algorithm",
            "sasl.oauthbearer.assertion.claim.aud", "sasl.oauthbearer.assertion.claim.exp.seconds",
            "sasl.oauthbearer.assertion.claim.iss", "sasl.oauthbearer.assertion.claim.jti.include",
            "sasl.oauthbearer.assertion.claim.nbf.seconds", "sasl.oauthbearer.assertion.claim.sub",
            "sasl.oauthbearer.assertion.file", "sasl.oauthbearer.assertion.private.key.file",
            "sasl.oauthbearer.assertion.private.key.passphrase", "sasl.oauthbearer.assertion.template.file",
            "sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.credentials.client.secret",
            "sasl.oauthbearer.clock.skew.seconds", "sasl.oauthbearer.expected.audience",
            "sasl.oauthbearer.expected.issuer", "sasl.oauthbearer.jwks.endpoint.refresh.ms",
            "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
            "sasl.oauthbearer.jwks.endpoint.url", "sasl.oauthbearer.jwt.retriever.class",
            "sasl.oauthbearer.jwt.validator.class", "sasl.oauthbearer.scope", "sasl.oauthbearer.scope.claim.name",
            "sasl.oauthbearer.sub.claim.name", "sasl.oauthbearer.token.endpoint.url",
            "sasl.server.callback.handler.class", "sasl.server.max.receive.size",
        ],
    },
    Group {
        note: "access control is not offered yet: every client that connects may do everything",
        prefixes: &[],
        names: &[
            "allow.everyone.if.no.acl.found", "authorizer.class.name", "super.users",
        ],
    },
    Group {
        note: "delegation tokens are not offered",
        prefixes: &[],
        names: &[
            "delegation.token.expiry.check.interval.ms", "delegation.token.expiry.time.ms",
            "delegation.token.master.key", "delegation.token.max.lifetime.ms", "delegation.token.secret.key",
        ],
    },
    Group {
        note: "quotas are for users, client ids and addresses; set them with AlterClientQuotas",
        prefixes: &[],
        names: &[
            "client.quota.callback.class", "controller.quota.window.num", "controller.quota.window.size.seconds",
            "max.connection.creation.rate", "quota.consumer.default", "quota.producer.default",
            "replication.quota.window.num", "replication.quota.window.size.seconds",
        ],
    },
    Group {
        note: "there is no JVM to load classes into",
        prefixes: &["config.providers."],
        names: &[
            "alter.config.policy.class.name", "auto.include.jmx.reporter", "config.providers",
            "create.topic.policy.class.name", "kafka.metrics.polling.interval.secs", "kafka.metrics.reporters",
            "metric.reporters", "metrics.num.samples", "metrics.recording.level", "metrics.sample.window.ms",
        ],
    },
    Group {
        note: "limits on connections count all addresses alike",
        prefixes: &[],
        names: &[
            "max.connections.per.ip.overrides",
        ],
    },
    Group {
        note: "requests that wait are dropped the moment they are answered",
        prefixes: &[],
        names: &[
            "delete.records.purgatory.purge.interval.requests", "fetch.purgatory.purge.interval.requests",
            "producer.purgatory.purge.interval.requests",
        ],
    },
    Group {
        note: "client metrics are not collected yet",
        prefixes: &[],
        names: &[
            "telemetry.max.bytes",
        ],
    },
    Group {
        note: "an idle producer is forgotten when its time is up, without a timer of its own",
        prefixes: &[],
        names: &[
            "producer.id.expiration.check.interval.ms",
        ],
    },
    Group {
        note: "connections between brokers are not offered yet",
        prefixes: &[],
        names: &[
            "request.timeout.ms", "socket.connection.setup.timeout.max.ms", "socket.connection.setup.timeout.ms",
        ],
    },
    Group {
        note: "only stable versions are offered",
        prefixes: &[],
        names: &[
            "unstable.api.versions.enable", "unstable.feature.versions.enable",
        ],
    },
    Group {
        note: "the message format is always version 2",
        prefixes: &[],
        names: &[
            "log.message.downconversion.enable", "log.message.format.version",
        ],
    },
    Group {
        note: "features follow the metadata log, not a setting",
        prefixes: &[],
        names: &[
            "inter.broker.protocol.version",
        ],
    },
    Group {
        note: "it was replaced by log.message.timestamp.before.max.ms and log.message.timestamp.after.max.ms",
        prefixes: &[],
        names: &[
            "log.message.timestamp.difference.max.ms",
        ],
    },
    Group {
        note: "it was replaced by listeners and advertised.listeners",
        prefixes: &[],
        names: &[
            "advertised.host.name", "advertised.port", "host.name", "port",
        ],
    },
    Group {
        note: "it belongs to one vendor's distribution",
        prefixes: &["confluent."],
        names: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_without_effect_has_one_reason() {
        let mut all: Vec<_> = names().collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "a key stands in two groups");
        assert!(ignored("zookeeper.connect").unwrap().contains("no ZooKeeper"));
        assert!(ignored("num.io.threads").unwrap().contains("gannet.cores"));
        assert!(ignored("listener.name.external.ssl.keystore.location").unwrap().contains("TLS"));
        assert_eq!(ignored("nonsense"), None);
    }
}
