// Kafka's own Java client against the broker under test; the contract is described in ../contract.py, the features in ../run.

import java.io.BufferedInputStream;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Compat {
    static final String BOOTSTRAP = System.getenv().getOrDefault("COMPAT_BOOTSTRAP", "127.0.0.1:9092");
    static final String PREFIX = System.getenv().getOrDefault("COMPAT_PREFIX", "compat");
    static final long TIME_0 = 1_720_000_000_000L;
    /** What Kafka says of them on one broker, before and since version 4. */
    static final String TWO_REPLICAS = ".*(2 larger than available brokers: 1\\.|factor of 2 cannot be reached because only 1 broker).*";
    static Admin admin;

    interface Feature {
        String run() throws Exception;
    }

    /** A record as sent and as expected back; time below 0 leaves it to the client. */
    record Sent(byte[] key, byte[] value, List<Header> headers, long time) {
        Sent(byte[] key, byte[] value) {
            this(key, value, List.of(), -1);
        }
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String topic(String name) {
        return PREFIX + "-" + name;
    }

    static List<Sent> records(int count) throws Exception {
        byte[] text = Files.readAllBytes(Path.of(System.getenv("COMPAT_LINES")));
        List<byte[]> lines = new ArrayList<>();
        for (int start = 0, at = 0; at <= text.length; at++) {
            if (at == text.length || text[at] == '\n') {
                lines.add(Arrays.copyOfRange(text, start, at));
                start = at + 1;
            }
        }
        List<Sent> records = new ArrayList<>();
        for (int i = 0; i < count; i++) records.add(new Sent(utf8("key-" + i), lines.get(i % Math.min(2000, lines.size()))));
        return records;
    }

    static class Digest {
        final MessageDigest sha;
        int count;

        Digest() throws Exception {
            sha = MessageDigest.getInstance("SHA-256");
        }

        void add(byte[]... parts) {
            for (byte[] part : parts) {
                sha.update(ByteBuffer.allocate(4).putInt(part == null ? -1 : part.length).array());
                if (part != null) sha.update(part);
            }
            count++;
        }

        String hex() {
            return HexFormat.of().formatHex(sha.digest());
        }
    }

    static String digestSent(List<Sent> records) throws Exception {
        Digest digest = new Digest();
        for (Sent record : records) digest.add(record.key, record.value);
        return digest.hex();
    }

    static String digestRead(List<ConsumerRecord<byte[], byte[]>> records) throws Exception {
        Digest digest = new Digest();
        for (ConsumerRecord<byte[], byte[]> record : records) digest.add(record.key(), record.value());
        return digest.hex();
    }

    static void same(Object found, Object wanted, String what) {
        if (!found.equals(wanted)) throw new AssertionError(what + ": found " + found + ", wanted " + wanted);
    }

    static <T> T get(Future<T> future) throws Exception {
        return future.get(30, TimeUnit.SECONDS);
    }

    static <E extends Throwable> Throwable refused(Class<E> wanted, Feature work) throws Exception {
        try {
            work.run();
        } catch (Throwable error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            if (wanted.isInstance(cause)) return cause;
            throw new AssertionError("wanted " + wanted.getSimpleName() + ", got " + cause, cause);
        }
        throw new AssertionError("accepted, wanted " + wanted.getSimpleName());
    }

    static String create(String name, int partitions, Map<String, String> configs) throws Exception {
        get(admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1).configs(configs))).all());
        return name;
    }

    static String create(String name) throws Exception {
        return create(name, 1, Map.of());
    }

    static KafkaProducer<byte[], byte[]> producer(Object... config) {
        Map<String, Object> all = new LinkedHashMap<>(Map.of("bootstrap.servers", BOOTSTRAP, "delivery.timeout.ms", 40000, "request.timeout.ms", 15000, "max.block.ms", 20000));
        for (int i = 0; i < config.length; i += 2) all.put((String) config[i], config[i + 1]);
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static void produce(String name, int partition, List<Sent> records, Object... config) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(config)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (Sent r : records) sent.add(producer.send(new ProducerRecord<>(name, partition, r.time < 0 ? null : r.time, r.key, r.value, r.headers)));
            producer.flush();
            for (Future<RecordMetadata> future : sent) get(future);
        }
    }

    static KafkaConsumer<byte[], byte[]> consumer(String name, int partitions, Object... config) {
        Map<String, Object> all = new LinkedHashMap<>(Map.of("bootstrap.servers", BOOTSTRAP, "enable.auto.commit", false, "auto.offset.reset", "none", "default.api.timeout.ms", 30000));
        for (int i = 0; i < config.length; i += 2) all.put((String) config[i], config[i + 1]);
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        List<TopicPartition> assigned = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) assigned.add(new TopicPartition(name, partition));
        consumer.assign(assigned);
        for (TopicPartition partition : assigned) consumer.seek(partition, 0);
        return consumer;
    }

    /** The next `count` records, in the order of arrival; fewer only when the time is over. */
    static List<ConsumerRecord<byte[], byte[]>> poll(KafkaConsumer<byte[], byte[]> consumer, int count, int seconds) {
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        long end = System.nanoTime() + seconds * 1_000_000_000L;
        while (found.size() < count && System.nanoTime() < end) consumer.poll(Duration.ofMillis(500)).forEach(found::add);
        same(found.size() >= count, true, "records read: " + found.size() + " of " + count);
        return found;
    }

    static List<ConsumerRecord<byte[], byte[]>> read(String name, int partition, int count) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(name, 0)) {
            consumer.assign(List.of(new TopicPartition(name, partition)));
            consumer.seek(new TopicPartition(name, partition), 0);
            return poll(consumer, count, 40);
        }
    }

    static String roundTrip(String name, int count, Object... config) throws Exception {
        List<Sent> records = records(count);
        produce(create(topic(name)), 0, records, config);
        List<ConsumerRecord<byte[], byte[]>> found = read(topic(name), 0, count);
        same(digestRead(found), digestSent(records), "digest");
        for (int i = 0; i < count; i++) same(found.get(i).offset(), (long) i, "offset");
        return count + " records";
    }

    /** Retried while the topic is unknown: Kafka's own brokers learn of a new topic a moment after its creator. */
    static TopicDescription described(String name) throws Exception {
        for (int attempt = 0; ; attempt++) {
            try {
                return get(admin.describeTopics(List.of(name)).allTopicNames()).get(name);
            } catch (ExecutionException error) {
                if (!(error.getCause() instanceof UnknownTopicOrPartitionException) || attempt == 50) throw error;
                Thread.sleep(100);
            }
        }
    }

    static int partitionCount(String name) throws Exception {
        return described(name).partitions().size();
    }

    static String metadata() throws Exception {
        DescribeClusterResult cluster = admin.describeCluster();
        same(get(cluster.nodes()).isEmpty() || get(cluster.clusterId()).isEmpty(), false, "no broker or no cluster id");
        return get(cluster.nodes()).size() + " broker, cluster " + get(cluster.clusterId());
    }

    static String createTopic() throws Exception {
        String name = create(topic("created"), 3, Map.of());
        same(partitionCount(name), 3, "partitions");
        refused(TopicExistsException.class, () -> create(name, 3, Map.of()));
        return "";
    }

    static String grow() throws Exception {
        String name = create(topic("grown"));
        get(admin.createPartitions(Map.of(name, NewPartitions.increaseTo(4))).all());
        for (int i = 0; i < 100 && partitionCount(name) != 4; i++) Thread.sleep(100);
        produce(name, 3, records(10));
        same(digestRead(read(name, 3, 10)), digestSent(records(10)), "digest");
        return "";
    }

    static String idempotent() throws Exception {
        String name = create(topic("idempotent"));
        produce(name, 0, records(2000), "enable.idempotence", true, "acks", "all", "linger.ms", 0, "batch.size", 2000, "max.in.flight.requests.per.connection", 5);
        same(digestRead(read(name, 0, 2000)), digestSent(records(2000)), "digest");
        same(get(admin.listOffsets(Map.of(new TopicPartition(name, 0), OffsetSpec.latest())).all()).values().iterator().next().offset(), 2000L, "end offset");
        return "2000 records in batches of 2 kB, five in flight";
    }

    static String consume() throws Exception {
        String name = create(topic("consume"), 3, Map.of());
        List<List<Sent>> parts = List.of(new ArrayList<>(), new ArrayList<>(), new ArrayList<>());
        List<Sent> records = records(3000);
        for (int i = 0; i < 3000; i++) parts.get(i % 3).add(records.get(i));
        for (int partition = 0; partition < 3; partition++) produce(name, partition, parts.get(partition));
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(name, 3)) {
            List<ConsumerRecord<byte[], byte[]>> found = poll(consumer, 3000, 40);
            for (int partition = 0; partition < 3; partition++) {
                int wanted = partition;
                same(digestRead(found.stream().filter(r -> r.partition() == wanted).toList()), digestSent(parts.get(partition)), "digest of partition " + partition);
            }
            consumer.seek(new TopicPartition(name, 1), 500);
            ConsumerRecord<byte[], byte[]> first = poll(consumer, 1, 20).get(0);
            same(Arrays.equals(first.key(), parts.get(1).get(500).key) && first.offset() == 500, true, "the record after the seek");
        }
        return "";
    }

    static String shapes() throws Exception {
        byte[] large = new byte[900_000];
        for (int i = 0; i < large.length; i++) large[i] = (byte) (i * 31 + (i >> 8));
        List<Header> headers = List.of(new RecordHeader("a", utf8("1")), new RecordHeader("b", new byte[0]), new RecordHeader("c", (byte[]) null),
            new RecordHeader("a", utf8("2")), new RecordHeader("ümläut", new byte[] {0, -1}));
        List<Sent> shapes = List.of(new Sent(utf8("plain"), utf8("value")), new Sent(null, utf8("null key")), new Sent(utf8("tombstone"), null),
            new Sent(utf8("empty value"), new byte[0]), new Sent(new byte[0], utf8("empty key")), new Sent(utf8("headers"), utf8("value"), headers, -1),
            new Sent(null, null, List.of(new RecordHeader("only", utf8("header"))), -1), new Sent(utf8("large"), large, List.of(new RecordHeader("size", utf8("900000"))), -1));
        String name = create(topic("shapes"));
        produce(name, 0, shapes);
        List<ConsumerRecord<byte[], byte[]>> found = read(name, 0, shapes.size());
        for (int i = 0; i < shapes.size(); i++) {
            same(Arrays.equals(found.get(i).key(), shapes.get(i).key), true, "key of shape " + i);
            same(Arrays.equals(found.get(i).value(), shapes.get(i).value), true, "value of shape " + i);
            same(Arrays.asList(found.get(i).headers().toArray()), shapes.get(i).headers, "headers of shape " + i);
        }
        return "";
    }

    static String timestamps() throws Exception {
        String name = create(topic("timestamps"));
        List<Sent> records = new ArrayList<>();
        for (int i = 0; i < 100; i++) records.add(new Sent(utf8("t"), utf8("" + i), List.of(), TIME_0 + i * 1000));
        produce(name, 0, records);
        List<ConsumerRecord<byte[], byte[]>> found = read(name, 0, 100);
        for (int i = 0; i < 100; i++) same(found.get(i).timestamp(), TIME_0 + i * 1000, "timestamp");
        TopicPartition at = new TopicPartition(name, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(name, 1)) {
            same(consumer.offsetsForTimes(Map.of(at, TIME_0 + 41_500)).get(at).offset(), 42L, "offset for time");
            same(consumer.offsetsForTimes(Map.of(at, TIME_0 + 1_000_000_000)).get(at) == null, true, "an offset for a time after the last");
            same(consumer.beginningOffsets(Set.of(at)).get(at), 0L, "beginning");
            same(consumer.endOffsets(Set.of(at)).get(at), 100L, "end");
        }
        same(get(admin.listOffsets(Map.of(at, OffsetSpec.maxTimestamp())).all()).get(at).offset(), 99L, "offset of the greatest timestamp");
        return "";
    }

    static String parked() throws Exception {
        String name = create(topic("parked"));
        double worst = 0;
        KafkaConsumer<byte[], byte[]> consumer = consumer(name, 1, "fetch.max.wait.ms", 30000, "fetch.min.bytes", 1, "request.timeout.ms", 60000);
        try {
            for (int turn = 0; turn < 3; turn++) {
                byte[] value = utf8("" + turn);
                CompletableFuture<Long> acked = CompletableFuture.supplyAsync(() -> {
                    try {
                        Thread.sleep(2000);
                        produce(name, 0, List.of(new Sent(utf8("parked"), value)), "acks", "all");
                        return System.nanoTime();
                    } catch (Exception error) {
                        throw new RuntimeException(error);
                    }
                });
                ConsumerRecord<byte[], byte[]> found = poll(consumer, 1, 20).get(0);
                long arrived = System.nanoTime();
                same(Arrays.equals(found.value(), value), true, "value");
                worst = Math.max(worst, (arrived - get(acked)) / 1e9);
            }
        } finally {
            consumer.close(CloseOptions.timeout(Duration.ofMillis(200))); // it would wait for the fetch that is parked
        }
        same(worst < 5, true, "parked fetch answered " + worst + " s after the ack");
        return String.format("at most %.0f ms after the ack", worst * 1000);
    }

    static String errors() throws Exception {
        String name = create(topic("errors"));
        produce(name, 0, records(10));
        byte[] oversize = new byte[2_000_000];
        new Random(1).nextBytes(oversize);
        refused(RecordTooLargeException.class, () -> {
            produce(name, 0, List.of(new Sent(null, oversize)), "max.request.size", 10_000_000);
            return "";
        });
        TopicPartition at = new TopicPartition(name, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(name, 1, "auto.offset.reset", "earliest")) {
            consumer.seek(at, 5_000_000);
            same(digestRead(poll(consumer, 10, 20)), digestSent(records(10)), "digest after a reset to earliest");
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(name, 1)) {
            consumer.seek(at, 5_000_000);
            refused(OffsetOutOfRangeException.class, () -> "" + poll(consumer, 1, 20));
        }
        refused(UnknownTopicOrPartitionException.class, () -> "" + get(admin.describeTopics(List.of(topic("absent"))).allTopicNames()));
        refused(UnknownTopicOrPartitionException.class, () -> "" + get(admin.deleteTopics(List.of(topic("absent"))).all()));
        return "";
    }

    static String describe() throws Exception {
        String name = create(topic("admin"), 2, Map.of("retention.ms", "86400000"));
        String node = get(admin.describeCluster().nodes()).iterator().next().idString();
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, name), broker = new ConfigResource(ConfigResource.Type.BROKER, node);
        Map<ConfigResource, Config> configs = get(admin.describeConfigs(List.of(topic, broker)).all());
        same(configs.get(topic).get("retention.ms").value(), "86400000", "retention.ms");
        int ofTopic = configs.get(topic).entries().size(), ofBroker = configs.get(broker).entries().size();
        same(ofTopic > 10 && ofBroker > 10, true, ofTopic + " topic configs, " + ofBroker + " broker configs");
        TopicDescription described = described(name);
        same(described.partitions().stream().allMatch(p -> p.replicas().size() == 1 && p.isr().size() == 1 && p.leader() != null), true, "leader, replicas, isr");
        same(get(admin.describeCluster().controller()) != null, true, "controller");
        NewTopic two = new NewTopic(topic("two-replicas"), 1, (short) 2), checked = new NewTopic(topic("only-checked"), 2, (short) 1).configs(Map.of("retention.ms", "1000"));
        Throwable said = refused(InvalidReplicationFactorException.class, () -> "" + get(admin.createTopics(List.of(two)).all()));
        same(said.getMessage().matches(TWO_REPLICAS), true, "said of two replicas on one broker: " + said.getMessage());
        CreateTopicsResult result = admin.createTopics(List.of(checked), new CreateTopicsOptions().validateOnly(true));
        get(result.all());
        same(get(result.numPartitions(checked.name())), 2, "partitions of a topic that was only checked");
        same(get(result.config(checked.name())).get("retention.ms").value(), "1000", "retention.ms of a topic that was only checked");
        get(admin.createPartitions(Map.of(name, NewPartitions.increaseTo(5)), new CreatePartitionsOptions().validateOnly(true)).all());
        refused(InvalidPartitionsException.class, () -> "" + get(admin.createPartitions(Map.of(name, NewPartitions.increaseTo(1))).all()));
        same(get(admin.listTopics().names()).contains(checked.name()) || partitionCount(name) != 2, false, "checking changed something");
        return ofTopic + " topic configs, " + ofBroker + " broker configs";
    }

    static String delete() throws Exception {
        String name = create(topic("deleted"));
        String before = described(name).topicId().toString();
        produce(name, 0, records(5));
        get(admin.deleteTopics(List.of(name)).all());
        for (int i = 0; get(admin.listTopics().names()).contains(name); i++) {
            same(i < 100, true, "the topic is still listed");
            Thread.sleep(100);
        }
        create(name);
        same(described(name).topicId().toString().equals(before), false, "same topic id");
        produce(name, 0, records(1));
        same(get(admin.listOffsets(Map.of(new TopicPartition(name, 0), OffsetSpec.latest())).all()).values().iterator().next().offset(), 1L, "end offset of the topic created anew");
        return "";
    }

    static String json(Object... pairs) {
        StringBuilder line = new StringBuilder("{");
        for (int i = 0; i < pairs.length; i += 2) {
            Object value = pairs[i + 1];
            String text = value instanceof String s
                ? '"' + s.replace("\\", "\\\\").replace("\"", "\\\"").replaceAll("\\s+", " ").replaceAll("\\p{Cntrl}", "?") + '"' : "" + value;
            line.append(i == 0 ? "" : ", ").append('"').append(pairs[i]).append("\": ").append(text);
        }
        return line.append('}').toString();
    }

    static void emit(Object... pairs) {
        System.out.println(json(pairs));
        System.out.flush();
    }

    static void digests(Collection<String> arguments) {
        for (String argument : arguments) {
            String[] parts = argument.split(":");
            int partition = Integer.parseInt(parts[1]), count = Integer.parseInt(parts[2]);
            try (KafkaConsumer<byte[], byte[]> consumer = consumer(parts[0], 0, "max.partition.fetch.bytes", 8_000_000, "max.poll.records", 5000)) {
                TopicPartition at = new TopicPartition(parts[0], partition);
                consumer.assign(List.of(at));
                consumer.seek(at, 0);
                Digest digest = new Digest();
                long last = System.nanoTime();
                while (digest.count < count && System.nanoTime() - last < 20_000_000_000L) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                        if (digest.count < count) digest.add(record.key(), record.value());
                        last = System.nanoTime();
                    }
                }
                emit("topic", parts[0], "partition", partition, "count", digest.count, "digest", digest.hex());
            } catch (Exception error) {
                emit("topic", parts[0], "partition", partition, "count", -1, "digest", "", "detail", "" + error);
            }
        }
    }

    /** One record for each run of whole lines of up to 1024 bytes; a longer line goes by itself. */
    static void send(String name, int partitions, String codec, Path file) throws Exception {
        create(name, partitions, Map.of());
        long sent = 0;
        CompletableFuture<Void> failed = new CompletableFuture<>();
        try (KafkaProducer<byte[], byte[]> producer = producer("compression.type", codec, "linger.ms", 20, "batch.size", 500_000, "acks", "all", "delivery.timeout.ms", 120_000);
             InputStream in = new BufferedInputStream(Files.newInputStream(file), 1 << 20)) {
            byte[] chunk = new byte[64 << 20];
            int size = 0, lineStart = 0, next;
            while (true) {
                next = in.read();
                if (next >= 0) chunk[size++] = (byte) next;
                boolean lineEnds = next < 0 || next == '\n';
                if (!lineEnds) continue;
                if (lineStart > 0 && size > 1024) {
                    producer.send(new ProducerRecord<>(name, (int) (sent++ % partitions), null, Arrays.copyOf(chunk, lineStart)), (done, error) -> {
                        if (error != null) failed.completeExceptionally(error);
                    });
                    System.arraycopy(chunk, lineStart, chunk, 0, size - lineStart);
                    size -= lineStart;
                }
                lineStart = size;
                if (next < 0) break;
            }
            if (size > 0) producer.send(new ProducerRecord<>(name, (int) (sent++ % partitions), null, Arrays.copyOf(chunk, size))).get(60, TimeUnit.SECONDS);
            producer.flush();
        }
        if (failed.isDone()) failed.get();
        emit("topic", name, "sent", sent);
    }

    /** A field of the one JSON object that the program is given, whose values hold no quotes; null if it is null. */
    static String setting(String json, String name) {
        Matcher found = Pattern.compile('"' + name + "\": *(?:\"([^\"]*)\"|([^,}\"]+))").matcher(json);
        same(found.find(), true, "a setting " + name);
        return found.group(1) != null ? found.group(1) : found.group(2).equals("null") ? null : found.group(2);
    }

    static List<String> at(Collection<TopicPartition> partitions) {
        return partitions.stream().map(partition -> "[\"" + partition.topic() + "\", " + partition.partition() + "]").sorted().toList();
    }

    static void member(String json) throws Exception {
        Map<String, Object> all = new LinkedHashMap<>(Map.of("bootstrap.servers", BOOTSTRAP, "enable.auto.commit", false, "auto.offset.reset", "earliest"));
        boolean classic = setting(json, "protocol").equals("classic");
        String assignor = setting(json, "assignor"), instance = setting(json, "instance"), topic = setting(json, "topic");
        all.putAll(Map.of("client.id", setting(json, "client_id"), "group.id", setting(json, "group"), "group.protocol", setting(json, "protocol"), "metadata.max.age.ms", setting(json, "metadata_ms")));
        if (classic) all.putAll(Map.of("session.timeout.ms", setting(json, "session_ms"), "heartbeat.interval.ms", setting(json, "heartbeat_ms")));
        if (instance != null) all.put("group.instance.id", instance);
        if (assignor != null && !classic) all.put("group.remote.assignor", assignor);
        if (assignor != null && classic) all.put("partition.assignment.strategy", assignor.equals("range") ? RangeAssignor.class.getName() : CooperativeStickyAssignor.class.getName());
        CountDownLatch left = new CountDownLatch(1);
        Thread input = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (Exception closed) {
                // ends all the same
            }
            left.countDown();
        });
        input.setDaemon(true);
        input.start();
        Set<TopicPartition> owned = new HashSet<>();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            boolean[] read = {false}; // what is not yet committed
            Runnable commit = () -> {
                try {
                    if (read[0]) consumer.commitSync();
                    read[0] = false;
                } catch (KafkaException refused) {
                    emit("refused", refused.toString());
                }
            };
            ConsumerRebalanceListener listener = new ConsumerRebalanceListener() {
                public void onPartitionsAssigned(Collection<TopicPartition> gained) {
                    owned.addAll(gained);
                    emit("owned", at(owned));
                }

                public void onPartitionsRevoked(Collection<TopicPartition> lost) {
                    commit.run();
                    lost.forEach(owned::remove);
                    emit("owned", at(owned));
                }
            };
            if (setting(json, "pattern").equals("true")) consumer.subscribe(new SubscriptionPattern(topic + ".*"), listener);
            else consumer.subscribe(List.of(topic), listener);
            while (left.getCount() > 0) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
                for (TopicPartition partition : records.partitions()) {
                    emit("read", new StringBuilder(at(List.of(partition)).get(0)), "offsets", records.records(partition).stream().map(ConsumerRecord::offset).toList());
                }
                read[0] |= !records.isEmpty();
                commit.run();
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        admin = Admin.create(Map.of("bootstrap.servers", BOOTSTRAP, "default.api.timeout.ms", 30000, "request.timeout.ms", 15000));
        List<String> rest = Arrays.asList(arguments).subList(1, arguments.length);
        switch (arguments[0]) {
            case "features" -> features();
            case "digest" -> digests(rest);
            case "send" -> send(rest.get(0).split(":")[0], Integer.parseInt(rest.get(0).split(":")[1]), rest.get(1), Path.of(rest.get(2)));
            case "member" -> member(rest.get(0));
            default -> throw new IllegalArgumentException(arguments[0]);
        }
        System.exit(0);
    }

    static void features() throws Exception {
        Properties version = new Properties();
        version.load(Compat.class.getResourceAsStream("/kafka/kafka-version.properties"));
        emit("version", version.getProperty("version"));
        Map<String, Feature> features = new LinkedHashMap<>();
        features.put("metadata", Compat::metadata);
        features.put("create", Compat::createTopic);
        features.put("partitions", Compat::grow);
        for (String acks : List.of("0", "1", "all")) features.put("acks-" + acks, () -> roundTrip("acks-" + acks, 500, "acks", acks, "enable.idempotence", false));
        features.put("idempotent", Compat::idempotent);
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) features.put(codec, () -> roundTrip(codec, 1000, "compression.type", codec, "linger.ms", 50));
        features.put("consume", Compat::consume);
        features.put("shapes", Compat::shapes);
        features.put("timestamps", Compat::timestamps);
        features.put("parked", Compat::parked);
        features.put("errors", Compat::errors);
        features.put("admin", Compat::describe);
        features.put("settings", Administration::settings);
        features.put("records", Administration::deleteRecords);
        features.put("log-dirs", Administration::logDirs);
        features.put("group-admin", Administration::groups);
        features.put("quotas", Administration::quotas);
        features.put("delete", Compat::delete);
        List<String> wanted = List.of(System.getenv().getOrDefault("COMPAT_FEATURES", "").split(" "));
        if (!wanted.contains("")) features.keySet().retainAll(wanted);
        ExecutorService threads = Executors.newCachedThreadPool();
        features.forEach((name, feature) -> {
            long started = System.nanoTime();
            Object ok = true;
            String detail;
            try {
                detail = threads.submit(feature::run).get(60, TimeUnit.SECONDS);
            } catch (TimeoutException late) {
                ok = false;
                detail = "no end within 60 s";
            } catch (Exception error) {
                ok = false;
                Throwable cause = error.getCause() instanceof ExecutionException inner ? inner.getCause() : error.getCause();
                detail = "" + (cause == null ? error : cause);
            }
            emit("feature", name, "ok", ok, "detail", detail.substring(0, Math.min(500, detail.length())), "seconds", (System.nanoTime() - started) / 10_000_000 / 100.0);
        });
    }
}
