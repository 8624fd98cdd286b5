// What Kafka's own admin client asks of the broker under test beyond describing it.

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.FeatureUpdate.UpgradeType;
import org.apache.kafka.clients.admin.FinalizedVersionRange;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.errors.InvalidUpdateVersionException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.UnknownMemberIdException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.quota.ClientQuotaFilterComponent;

class Administration {
    static void alter(ConfigResource resource, OpType kind, String key, String value, boolean validateOnly) throws Exception {
        Map<ConfigResource, Collection<AlterConfigOp>> change = Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry(key, value), kind)));
        Compat.get(Compat.admin.incrementalAlterConfigs(change, new AlterConfigsOptions().validateOnly(validateOnly)).all());
    }

    static void alter(ConfigResource resource, OpType kind, String key, String value) throws Exception {
        alter(resource, kind, key, value, false);
    }

    static Config config(ConfigResource resource) throws Exception {
        return Compat.get(Compat.admin.describeConfigs(List.of(resource)).all()).get(resource);
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    /** Kafka's own brokers apply a change a moment after they took it. */
    static void until(String what, Condition condition) throws Exception {
        for (int i = 0; !condition.holds(); i++) {
            Compat.same(i < 50, true, what);
            Thread.sleep(100);
        }
    }

    static boolean comesFrom(ConfigResource resource, String key, String value, ConfigSource source) throws Exception {
        ConfigEntry entry = config(resource).get(key);
        return entry != null && entry.source() == source && (value == null || entry.value().equals(value));
    }

    /** Sets, sees with its source, and takes back. */
    static void setAndTakeBack(ConfigResource resource, String key, String value, ConfigSource source) throws Exception {
        alter(resource, OpType.SET, key, value);
        until(key + " of " + resource + " is set", () -> comesFrom(resource, key, value, source));
        if (!resource.name().isEmpty()) {
            Compat.same(Compat.get(Compat.admin.listConfigResources(Set.of(resource.type()), new ListConfigResourcesOptions()).all()).contains(resource), true, resource + " is listed");
        }
        alter(resource, OpType.DELETE, key, "");
        until(key + " of " + resource + " is taken back", () -> !comesFrom(resource, key, null, source));
    }

    static String settings() throws Exception {
        String name = Compat.create(Compat.topic("settings"));
        String node = Compat.get(Compat.admin.describeCluster().nodes()).iterator().next().idString();
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, name), brokers = new ConfigResource(ConfigResource.Type.BROKER, ""), broker = new ConfigResource(ConfigResource.Type.BROKER, node);
        setAndTakeBack(topic, "retention.ms", "86400000", ConfigSource.DYNAMIC_TOPIC_CONFIG);
        alter(topic, OpType.APPEND, "cleanup.policy", "compact");
        until("two policies", () -> Set.of(config(topic).get("cleanup.policy").value().split(",")).equals(Set.of("delete", "compact")));
        alter(topic, OpType.SUBTRACT, "cleanup.policy", "delete");
        until("one policy", () -> config(topic).get("cleanup.policy").value().equals("compact"));
        alter(topic, OpType.SET, "retention.ms", "1000", true);
        Compat.same(config(topic).get("retention.ms").source() == ConfigSource.DYNAMIC_TOPIC_CONFIG, false, "retention.ms was only checked");
        setAndTakeBack(brokers, "log.cleaner.threads", "2", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG);
        setAndTakeBack(broker, "log.cleaner.threads", "2", ConfigSource.DYNAMIC_BROKER_CONFIG);
        ConfigResource group = new ConfigResource(ConfigResource.Type.GROUP, Compat.topic("settings-group")), metrics = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, Compat.topic("settings-metrics"));
        setAndTakeBack(group, "consumer.session.timeout.ms", "50000", ConfigSource.DYNAMIC_GROUP_CONFIG);
        setAndTakeBack(metrics, "metrics", "org.apache.kafka.consumer.", ConfigSource.DYNAMIC_CLIENT_METRICS_CONFIG);
        refuse(topic, "segment.bytes", "1", InvalidConfigurationException.class);
        refuse(topic, "no.such.key", "1", InvalidConfigurationException.class);
        refuse(brokers, "node.id", "7", InvalidRequestException.class);
        refuse(group, "consumer.session.timeout.ms", "1", InvalidConfigurationException.class);
        refuse(metrics, "interval.ms", "1", InvalidRequestException.class);
        Map<String, FinalizedVersionRange> features = Compat.get(Compat.admin.describeFeatures().featureMetadata()).finalizedFeatures();
        short level = features.get("group.version").maxVersionLevel();
        updateFeature(level, UpgradeType.UPGRADE, false);
        updateFeature(level, UpgradeType.UPGRADE, true);
        Compat.refused(InvalidUpdateVersionException.class, () -> updateFeature((short) 99, UpgradeType.UPGRADE, false));
        return features.keySet().stream().sorted().collect(Collectors.joining(", "));
    }

    static void refuse(ConfigResource resource, String key, String value, Class<? extends Throwable> wanted) throws Exception {
        Compat.refused(wanted, () -> {
            alter(resource, OpType.SET, key, value);
            return "";
        });
    }

    static String updateFeature(short level, UpgradeType type, boolean validateOnly) throws Exception {
        Compat.get(Compat.admin.updateFeatures(Map.of("group.version", new FeatureUpdate(level, type)), new UpdateFeaturesOptions().validateOnly(validateOnly)).all());
        return "";
    }

    static String deleteRecords() throws Exception {
        String name = Compat.create(Compat.topic("records"));
        TopicPartition at = new TopicPartition(name, 0);
        Compat.produce(name, 0, Compat.records(10));
        Compat.same(Compat.get(Compat.admin.deleteRecords(Map.of(at, RecordsToDelete.beforeOffset(4))).lowWatermarks().get(at)).lowWatermark(), 4L, "low watermark");
        Compat.same(Compat.get(Compat.admin.listOffsets(Map.of(at, OffsetSpec.earliest())).all()).get(at).offset(), 4L, "the new start");
        Compat.refused(OffsetOutOfRangeException.class, () -> "" + Compat.get(Compat.admin.deleteRecords(Map.of(at, RecordsToDelete.beforeOffset(11))).all()));
        Compat.same(Compat.get(Compat.admin.deleteRecords(Map.of(at, RecordsToDelete.beforeOffset(-1))).lowWatermarks().get(at)).lowWatermark(), 10L, "low watermark of all");
        return "";
    }

    static String logDirs() throws Exception {
        String name = Compat.create(Compat.topic("dirs"));
        Compat.produce(name, 0, Compat.records(100));
        int node = Compat.get(Compat.admin.describeCluster().nodes()).iterator().next().id();
        var found = Compat.get(Compat.admin.describeLogDirs(List.of(node)).allDescriptions()).get(node);
        TopicPartition at = new TopicPartition(name, 0);
        long size = found.values().stream().map(directory -> directory.replicaInfos().get(at)).filter(info -> info != null).mapToLong(info -> info.size()).sum();
        Compat.same(size > 1000, true, "size " + size);
        Compat.same(found.values().stream().allMatch(directory -> directory.totalBytes().orElse(0) > 0 && directory.usableBytes().orElse(0) > 0), true, "room");
        List<ProducerState> producers = Compat.get(Compat.admin.describeProducers(List.of(at)).all()).get(at).activeProducers();
        Compat.same(producers.size(), 1, "producers");
        Compat.same(producers.get(0).lastSequence(), 99, "the producer's last sequence");
        return found.size() + " directory";
    }

    static long committed(String group, TopicPartition at) throws Exception {
        OffsetAndMetadata found = Compat.get(Compat.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(at);
        return found == null ? -1 : found.offset();
    }

    static ConsumerGroupDescription described(String group) throws Exception {
        return Compat.get(Compat.admin.describeConsumerGroups(List.of(group)).all()).get(group);
    }

    /** Of both protocols: list, describe, alter offsets, delete offsets, delete, each refused while a member lives. */
    static String groups() throws Exception {
        for (String protocol : List.of("classic", "consumer")) {
            String name = Compat.create(Compat.topic("grouped-" + protocol)), group = Compat.topic("group-" + protocol);
            TopicPartition at = new TopicPartition(name, 0);
            Compat.produce(name, 0, Compat.records(10));
            try (KafkaConsumer<byte[], byte[]> consumer = Compat.consumer(name, 0, "group.id", group, "group.protocol", protocol, "auto.offset.reset", "earliest", "client.id", "reader")) {
                consumer.unsubscribe();
                consumer.subscribe(List.of(name));
                Compat.same(Compat.poll(consumer, 10, 40).size(), 10, "records consumed");
                consumer.commitSync();
                ConsumerGroupDescription found = described(group);
                MemberDescription member = found.members().iterator().next();
                Compat.same(List.of(found.groupState(), found.type().toString(), found.members().size(), member.host(), member.clientId(), member.assignment().topicPartitions()),
                    List.of(GroupState.STABLE, protocol.equals("classic") ? "Classic" : "Consumer", 1, "/127.0.0.1", "reader", Set.of(at)), "description");
                Compat.refused(UnknownMemberIdException.class, () -> "" + Compat.get(Compat.admin.alterConsumerGroupOffsets(group, Map.of(at, new OffsetAndMetadata(3))).all()));
                Compat.refused(GroupNotEmptyException.class, () -> "" + Compat.get(Compat.admin.deleteConsumerGroups(List.of(group)).all()));
                Compat.refused(GroupSubscribedToTopicException.class, () -> "" + Compat.get(Compat.admin.deleteConsumerGroupOffsets(group, Set.of(at)).all()));
                Compat.get(Compat.admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all());
                Compat.same(described(group).members().size(), 0, "members after their removal");
            }
            GroupListing listed = Compat.get(Compat.admin.listGroups().all()).stream().filter(one -> one.groupId().equals(group)).findFirst().orElseThrow();
            Compat.same(listed.groupState().orElseThrow() + " " + listed.type().orElseThrow(), "Empty " + (protocol.equals("classic") ? "Classic" : "Consumer"), "listed as");
            Compat.same(committed(group, at), 10L, "committed");
            Compat.get(Compat.admin.alterConsumerGroupOffsets(group, Map.of(at, new OffsetAndMetadata(3))).all());
            Compat.same(committed(group, at), 3L, "committed after the change");
            Compat.get(Compat.admin.deleteConsumerGroupOffsets(group, Set.of(at)).all());
            Compat.same(committed(group, at), -1L, "committed after the deletion");
            Compat.get(Compat.admin.alterConsumerGroupOffsets(group, Map.of(at, new OffsetAndMetadata(5))).all());
            Compat.get(Compat.admin.deleteConsumerGroups(List.of(group)).all());
            Compat.refused(GroupIdNotFoundException.class, () -> "" + described(group));
            Compat.refused(GroupIdNotFoundException.class, () -> "" + Compat.get(Compat.admin.deleteConsumerGroups(List.of(group)).all()));
        }
        return "classic and consumer";
    }

    static String quotas() throws Exception {
        ClientQuotaEntity entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, Compat.topic("limited")));
        ClientQuotaFilter filter = ClientQuotaFilter.containsOnly(List.of(ClientQuotaFilterComponent.ofEntity(ClientQuotaEntity.CLIENT_ID, Compat.topic("limited"))));
        for (Double rate : new Double[] {1e6, null}) {
            Compat.get(Compat.admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", rate))))).all());
            Map<String, Double> wanted = rate == null ? Map.of() : Map.of("producer_byte_rate", rate);
            until("quotas " + wanted, () -> Compat.get(Compat.admin.describeClientQuotas(filter).entities()).getOrDefault(entity, Map.of()).equals(wanted));
        }
        Compat.refused(InvalidRequestException.class,
            () -> "" + Compat.get(Compat.admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity, List.of(new ClientQuotaAlteration.Op("no_such_quota", 1.0))))).all()));
        return "";
    }
}
