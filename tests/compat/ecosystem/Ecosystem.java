// A Streams word count, and the few things that the rows of the ecosystem ask of a broker. Each command prints JSON lines.
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.StateRestoreListener;

public class Ecosystem {
    static final String BOOTSTRAP = System.getenv("COMPAT_BOOTSTRAP");
    static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] a) throws Exception {
        switch (a[0]) {
            case "streams" -> streams(a[1], a[2], a[3], a[4]);
            case "create" -> create(a[1], Integer.parseInt(a[2]), Arrays.copyOfRange(a, 3, a.length));
            case "produce" -> produce(a[1], a[2], Integer.parseInt(a[3]), Integer.parseInt(a[4]), Long.parseLong(a[5]));
            case "consume" -> consume(a[1], a[2], Integer.parseInt(a[3]));
            case "table" -> table(a[1]);
            case "digest" -> digest(a[1]);
            case "topics" -> topics(a[1]);
            case "committed" -> committed(a[1]);
            case "delete-group" -> deleteGroup(a[1]);
            case "load" -> load();
            default -> throw new IllegalArgumentException(a[0]);
        }
    }

    static synchronized void say(Object... pairs) throws Exception {
        Map<String, Object> line = new TreeMap<>();
        for (int i = 0; i < pairs.length; i += 2) {
            line.put((String) pairs[i], pairs[i + 1]);
        }
        System.out.println(JSON.writeValueAsString(line));
    }

    static Properties properties(Object... pairs) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", BOOTSTRAP);
        for (int i = 0; i < pairs.length; i += 2) {
            properties.put(pairs[i], pairs[i + 1]);
        }
        return properties;
    }

    /** Counts the words of `input`, by number and by the lines that hold them: a line counted twice changes the first, never the second. */
    static void streams(String application, String input, String state, String server) throws Exception {
        StreamsBuilder builder = new StreamsBuilder();
        KGroupedStream<String, String> words = builder.stream(input, Consumed.with(Serdes.String(), Serdes.String()))
            .flatMap((line, text) -> Arrays.stream(text.split("[^A-Za-z]+")).filter(word -> !word.isEmpty()).map(word -> KeyValue.pair(word, line)).toList())
            .groupByKey(Grouped.with("words", Serdes.String(), Serdes.String()));
        words.count(Materialized.as("counts")).toStream().mapValues(String::valueOf).to(application + "-out-counts", Produced.with(Serdes.String(), Serdes.String()));
        words.aggregate(() -> new byte[0], (word, line, lines) -> with(lines, Integer.parseInt(line)), Materialized.<String, byte[], org.apache.kafka.streams.state.KeyValueStore<org.apache.kafka.common.utils.Bytes, byte[]>>as("lines").withValueSerde(Serdes.ByteArray()))
            .toStream().mapValues(lines -> HexFormat.of().formatHex(lines)).to(application + "-out-lines", Produced.with(Serdes.String(), Serdes.String()));
        words.windowedBy(TimeWindows.ofSizeWithNoGrace(Duration.ofDays(1))).count(Materialized.as("windowed"));
        KafkaStreams streams = new KafkaStreams(builder.build(), properties("application.id", application, "state.dir", state, "application.server", server, "commit.interval.ms", 300,
            "repartition.purge.interval.ms", 500, "default.key.serde", Serdes.StringSerde.class, "default.value.serde", Serdes.StringSerde.class,
            "main.consumer.session.timeout.ms", 6000, "main.consumer.heartbeat.interval.ms", 1000, "statestore.cache.max.bytes", 200_000));
        streams.setGlobalStateRestoreListener(new StateRestoreListener() {
            public void onRestoreStart(TopicPartition partition, String store, long start, long end) {}

            public void onBatchRestored(TopicPartition partition, String store, long end, long count) {}

            public void onRestoreEnd(TopicPartition partition, String store, long total) {
                try {
                    say("store", store, "restored", total);
                } catch (Exception wrong) {
                    throw new RuntimeException(wrong);
                }
            }
        });
        CountDownLatch ended = new CountDownLatch(1);
        streams.setStateListener((now, before) -> {
            try {
                say("state", now.toString());
            } catch (Exception wrong) {
                throw new RuntimeException(wrong);
            }
            if (now == KafkaStreams.State.ERROR || now == KafkaStreams.State.NOT_RUNNING) {
                ended.countDown();
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(new KafkaStreams.CloseOptions().leaveGroup(true).timeout(Duration.ofSeconds(20)))));
        streams.start();
        int known = 0;
        while (!ended.await(500, java.util.concurrent.TimeUnit.MILLISECONDS)) {
            List<String> hosts = streams.metadataForAllStreamsClients().stream().filter(each -> !each.topicPartitions().isEmpty()).map(each -> each.host() + ":" + each.port()).sorted().toList();
            if (hosts.size() != known) {
                known = hosts.size();
                say("hosts", hosts);
            }
        }
    }

    static byte[] with(byte[] lines, int line) {
        BitSet set = BitSet.valueOf(lines);
        set.set(line);
        return set.toByteArray();
    }

    static void create(String topic, int partitions, String[] configs) throws Exception {
        Map<String, String> pairs = Arrays.stream(configs).map(each -> each.split("=", 2)).collect(Collectors.toMap(each -> each[0], each -> each[1]));
        try (Admin admin = Admin.create(properties())) {
            admin.createTopics(List.of(new NewTopic(topic, Optional.of(partitions), Optional.empty()).configs(pairs))).all().get();
        }
    }

    /** Lines from..to of a file, each keyed with its number and in the partition that this gives, at so many a second (0: at once). */
    static void produce(String topic, String file, int from, int to, long rate) throws Exception {
        List<String> lines = Files.readAllLines(Path.of(file));
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties("linger.ms", 5), new StringSerializer(), new StringSerializer())) {
            int partitions = producer.partitionsFor(topic).size();
            List<java.util.concurrent.Future<?>> sent = new ArrayList<>();
            for (int i = from; i < to; i++) {
                sent.add(producer.send(new ProducerRecord<>(topic, i % partitions, String.valueOf(i), lines.get(i % lines.size()))));
                if (rate > 0) {
                    Thread.sleep(1000 / rate);
                }
            }
            for (java.util.concurrent.Future<?> each : sent) {
                each.get();
            }
        }
        say("sent", to - from);
    }

    /** A member of a group that takes at least so many records, commits exactly what it took, and leaves. */
    static void consume(String group, String topic, int count) throws Exception {
        int taken = 0;
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties("group.id", group, "enable.auto.commit", false, "auto.offset.reset", "earliest", "max.poll.records", 10),
            new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            for (long until = System.currentTimeMillis() + 40_000; taken < count && System.currentTimeMillis() < until; ) {
                int found = consumer.poll(Duration.ofMillis(300)).count();
                if (found > 0) {
                    consumer.commitSync();
                    taken += found;
                }
            }
        }
        say("taken", taken);
    }

    interface Each {
        void record(ConsumerRecord<byte[], byte[]> record) throws Exception;
    }

    /** Every record that stands in the topic now; the earliest and latest offset of each partition. */
    static Map<TopicPartition, long[]> read(String topic, Each each) throws Exception {
        Map<TopicPartition, long[]> bounds = new TreeMap<>((x, y) -> x.partition() - y.partition());
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties("enable.auto.commit", false, "max.poll.records", 5000), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream().map(info -> new TopicPartition(topic, info.partition())).toList();
            consumer.assign(partitions);
            Map<TopicPartition, Long> first = consumer.beginningOffsets(partitions), last = consumer.endOffsets(partitions);
            partitions.forEach(partition -> bounds.put(partition, new long[] {first.get(partition), last.get(partition)}));
            consumer.seekToBeginning(partitions);
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < last.get(partition))) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    if (record.offset() < last.get(new TopicPartition(topic, record.partition()))) {
                        each.record(record);
                    }
                }
            }
        }
        return bounds;
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes);
    }

    /** The last value of each key. */
    static void table(String topic) throws Exception {
        Map<String, String> table = new TreeMap<>();
        read(topic, record -> table.put(String.valueOf(text(record.key())), text(record.value())));
        say("table", table);
    }

    /** Of each partition the number of records and a digest over their keys, values and order. */
    static void digest(String topic) throws Exception {
        Map<Integer, MessageDigest> digests = new TreeMap<>();
        Map<Integer, Integer> counts = new TreeMap<>();
        Map<TopicPartition, long[]> bounds = read(topic, record -> {
            MessageDigest digest = digests.computeIfAbsent(record.partition(), partition -> sha());
            for (byte[] part : new byte[][] {record.key(), record.value()}) {
                digest.update(((part == null ? -1 : part.length) + ":").getBytes());
                digest.update(part == null ? new byte[0] : part);
            }
            counts.merge(record.partition(), 1, Integer::sum);
        });
        for (Map.Entry<TopicPartition, long[]> each : bounds.entrySet()) {
            int partition = each.getKey().partition();
            say("partition", partition, "count", counts.getOrDefault(partition, 0), "earliest", each.getValue()[0], "latest", each.getValue()[1], "digest",
                digests.containsKey(partition) ? HexFormat.of().formatHex(digests.get(partition).digest()) : "");
        }
    }

    static MessageDigest sha() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (java.security.NoSuchAlgorithmException impossible) {
            throw new RuntimeException(impossible);
        }
    }

    /** The topics whose names begin so: partitions, what was configured, earliest and latest offsets. */
    static void topics(String prefix) throws Exception {
        try (Admin admin = Admin.create(properties())) {
            Set<String> names = new TreeSet<>(admin.listTopics().names().get());
            names.removeIf(name -> !name.startsWith(prefix));
            var described = admin.describeTopics(names).allTopicNames().get();
            for (String name : names) {
                int partitions = described.get(name).partitions().size();
                ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
                Map<String, String> configs = new TreeMap<>();
                admin.describeConfigs(List.of(resource)).all().get().get(resource).entries().stream()
                    .filter(entry -> entry.source() == org.apache.kafka.clients.admin.ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG).forEach(entry -> configs.put(entry.name(), entry.value()));
                say("topic", name, "partitions", partitions, "configs", configs, "earliest", offsets(admin, name, partitions, OffsetSpec.earliest()), "latest", offsets(admin, name, partitions, OffsetSpec.latest()));
            }
        }
    }

    static Collection<Long> offsets(Admin admin, String topic, int partitions, OffsetSpec spec) throws Exception {
        Map<TopicPartition, OffsetSpec> asked = IntStream.range(0, partitions).boxed().collect(Collectors.toMap(partition -> new TopicPartition(topic, partition), partition -> spec));
        var found = new TreeMap<Integer, Long>();
        admin.listOffsets(asked).all().get().forEach((partition, info) -> found.put(partition.partition(), info.offset()));
        return found.values();
    }

    static void committed(String group) throws Exception {
        try (Admin admin = Admin.create(properties())) {
            Map<String, Long> offsets = new TreeMap<>();
            admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().forEach((partition, offset) -> offsets.put(partition.toString(), offset.offset()));
            say("committed", offsets);
        }
    }

    static void deleteGroup(String group) throws Exception {
        try (Admin admin = Admin.create(properties())) {
            admin.deleteConsumerGroups(List.of(group)).all().get();
        }
    }

    /** Loads the classes of every client, for the archive that makes the next start cheap. */
    static void load() throws Exception {
        Admin.create(properties()).close(Duration.ZERO);
        new KafkaProducer<>(properties(), new StringSerializer(), new StringSerializer()).close(Duration.ZERO);
        new KafkaConsumer<>(properties("group.id", "load"), new ByteArrayDeserializer(), new ByteArrayDeserializer()).close(Duration.ZERO);
        say("loaded", true);
    }
}
