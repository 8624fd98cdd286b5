/* A client made of librdkafka, for the `client` row of benches/versus/run: produces at a rate, open loop, or consumes so
 * many records, and does beside that only what every user of a client does. Prints one line of JSON.
 *
 *   librdkafka produce BROKERS TOPIC RECORDS RATE BYTES TICK_US [NAME=VALUE ...]
 *   librdkafka consume BROKERS TOPIC RECORDS PARTITIONS [NAME=VALUE ...]
 */
#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POOL_BYTES (4 << 20)
#define BATCH 1000

static long acknowledged, failed;
static double latency_us;

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void die(const char *what, const char *why) {
    fprintf(stderr, "librdkafka: %s: %s\n", what, why);
    exit(1);
}

/* When a record was due travels with it, as in any measurement of latency. */
static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    (void)rk, (void)opaque;
    if (message->err)
        failed++;
    else
        acknowledged++;
    latency_us += now_us() - (double)(long)message->_private;
}

static rd_kafka_t *client(rd_kafka_type_t type, const char *brokers, int count, char **settings) {
    char why[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why))
        die(brokers, why);
    for (int i = 0; i < count; i++) {
        char *value = strchr(settings[i], '=');
        if (!value)
            die(settings[i], "is not NAME=VALUE");
        *value++ = 0;
        if (rd_kafka_conf_set(conf, settings[i], value, why, sizeof why))
            die(settings[i], why);
    }
    if (type == RD_KAFKA_PRODUCER)
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof why);
    if (!rk)
        die("rd_kafka_new", why);
    return rk;
}

static void produce(rd_kafka_t *rk, const char *name, long records, double rate, size_t bytes, double tick_us) {
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
    const struct rd_kafka_metadata *metadata;
    if (!topic || rd_kafka_metadata(rk, 0, topic, &metadata, 10000))
        die(name, "no metadata");
    rd_kafka_metadata_destroy(metadata);
    char *pool = malloc(POOL_BYTES + bytes);
    unsigned long seed = 88172645463325252UL;
    for (size_t i = 0; i < POOL_BYTES + bytes; i++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        pool[i] = (char)seed;
    }
    double begin = now_us();
    for (long sent = 0; sent < records;) {
        double now = now_us();
        long due = rate > 0 ? (long)((now - begin) * rate / 1e6) : records;
        for (due = due < records ? due : records; sent < due;) {
            void *value = pool + seed % POOL_BYTES;
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            if (!rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, value, bytes, NULL, 0, (void *)(long)now))
                sent++;
            else if (rd_kafka_last_error() == RD_KAFKA_RESP_ERR__QUEUE_FULL)
                rd_kafka_poll(rk, 10);
            else
                die(name, rd_kafka_err2str(rd_kafka_last_error()));
        }
        /* Again when the next record is due, or so much later that a few are. */
        rd_kafka_poll(rk, 0);
        double rest = rate > 0 ? begin + (sent + 1) * 1e6 / rate + tick_us - now_us() : 0;
        if (sent < records && rest > 0) {
            struct timespec t = {0, (long)(rest * 1000)};
            nanosleep(&t, NULL);
        }
    }
    while (rd_kafka_outq_len(rk) > 0)
        rd_kafka_poll(rk, 100);
    double seconds = (now_us() - begin) / 1e6;
    printf("{\"records\": %ld, \"failed\": %ld, \"seconds\": %.6f, \"mean_us\": %.1f, \"version\": \"%s\"}\n", acknowledged,
           failed, seconds, latency_us / (acknowledged + failed), rd_kafka_version_str());
    rd_kafka_topic_destroy(topic);
}

static void consume(rd_kafka_t *rk, const char *name, long records, int partitions) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int i = 0; i < partitions; i++)
        rd_kafka_topic_partition_list_add(list, name, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    if (rd_kafka_assign(rk, list))
        die(name, "cannot be assigned");
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    static rd_kafka_message_t *messages[BATCH];
    long taken = 0, sum = 0;
    double begin = now_us();
    while (taken < records && now_us() - begin < 120e6) {
        ssize_t count = rd_kafka_consume_batch_queue(queue, 1000, messages, BATCH);
        for (ssize_t i = 0; i < count; i++) {
            if (!messages[i]->err) {
                taken++;
                sum += messages[i]->len ? *(unsigned char *)messages[i]->payload : 0;
            }
            rd_kafka_message_destroy(messages[i]);
        }
    }
    double seconds = (now_us() - begin) / 1e6;
    printf("{\"records\": %ld, \"seconds\": %.6f, \"sum\": %ld, \"version\": \"%s\"}\n", taken, seconds, sum, rd_kafka_version_str());
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_consumer_close(rk);
}

int main(int count, char **arguments) {
    if (count >= 8 && !strcmp(arguments[1], "produce")) {
        rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, arguments[2], count - 8, arguments + 8);
        produce(rk, arguments[3], atol(arguments[4]), atof(arguments[5]), (size_t)atol(arguments[6]), atof(arguments[7]));
        rd_kafka_destroy(rk);
    } else if (count >= 6 && !strcmp(arguments[1], "consume")) {
        rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, arguments[2], count - 6, arguments + 6);
        consume(rk, arguments[3], atol(arguments[4]), atoi(arguments[5]));
        rd_kafka_destroy(rk);
    } else {
        die("usage", "produce BROKERS TOPIC RECORDS RATE BYTES TICK_US | consume BROKERS TOPIC RECORDS PARTITIONS, then NAME=VALUE ...");
    }
    return 0;
}
