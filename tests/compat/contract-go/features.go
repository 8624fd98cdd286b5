package contract

import (
	"fmt"
	"regexp"
	"time"
)

// Kafka's codes for the errors that the features look for.
const (
	OffsetOutOfRange        = 1
	UnknownTopicOrPartition = 3
	MessageTooLarge         = 10
	TopicAlreadyExists      = 36
)

// TwoReplicas is what Kafka says of them on one broker, before and since version 4.
var TwoReplicas = regexp.MustCompile(`2 larger than available brokers: 1\.|factor of 2 cannot be reached because only 1 broker`)

// Producing says how records are sent. Acks is 0, 1 or -1 (all); the zero value of BatchBytes leaves it to the client.
type Producing struct {
	Acks       int
	Idempotent bool
	Codec      string
	BatchBytes int
}

// Reader reads the partitions it was opened with. Next returns the next count records in the order of arrival, or an error after limit.
type Reader interface {
	Next(count int, limit time.Duration) ([]Record, error)
	Seek(partition int32, offset int64) error
	Close()
}

// Client is what a program tells of its library; the features below do the rest.
type Client interface {
	Code(err error) int // Kafka's error code inside err, -1 if there is none
	Metadata() (string, error)
	Create(topic string, partitions int, configs map[string]string) error
	Grow(topic string, partitions int) error
	Partitions(topic string) (int, error) // UnknownTopicOrPartition if there is no such topic
	Produce(topic string, partition int32, records []Record, how Producing) error
	// Open reads from offsets; wait is fetch.max.wait.ms (0: the client's own); an offset out of range is an error unless reset to the earliest.
	Open(topic string, offsets map[int32]int64, wait time.Duration, reset bool) (Reader, error)
	OffsetForTime(topic string, milliseconds int64) (int64, error) // of partition 0; the end offset or -1 if no record is as late
	Offsets(topic string) (start, end int64, err error)            // of partition 0
	Configs(topic string) (ofTopic, ofBroker map[string]string, err error)
	Delete(topic string) error
}

// TopicID is for clients that can tell a topic from another of the same name.
type TopicID interface {
	TopicID(topic string) (string, error)
}

var allAcks = Producing{Acks: -1}

func read(c Client, topic string, partition int32, count int) ([]Record, error) {
	reader, err := c.Open(topic, map[int32]int64{partition: 0}, 0, false)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	return reader.Next(count, 40*time.Second)
}

func create(c Client, name string) (string, error) {
	return Topic(name), c.Create(Topic(name), 1, nil)
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func refused(c Client, code int, what string, err error) error {
	if err == nil {
		return fmt.Errorf("%s was accepted", what)
	}
	if c.Code(err) != code {
		return fmt.Errorf("%s: wanted error %d, got %w", what, code, err)
	}
	return nil
}

func roundTrip(c Client, name string, count int, how Producing) (string, error) {
	topic, err := create(c, name)
	if err != nil {
		return "", err
	}
	records := Records(count)
	if err := c.Produce(topic, 0, records, how); err != nil {
		return "", err
	}
	found, err := read(c, topic, 0, count)
	if err != nil {
		return "", err
	}
	for i, record := range found {
		if record.Offset != int64(i) {
			return "", fmt.Errorf("record %d has offset %d", i, record.Offset)
		}
	}
	return fmt.Sprintf("%d records", count), Same(DigestOf(found), DigestOf(records), "digest")
}

// Features are all features of the matrix, made from the client's own verbs.
func Features(c Client) []Feature {
	features := []Feature{
		{"metadata", c.Metadata},
		{"create", func() (string, error) { return "", createFeature(c) }},
		{"partitions", func() (string, error) { return "", grow(c) }},
	}
	for _, acks := range []struct {
		name string
		acks int
	}{{"acks-0", 0}, {"acks-1", 1}, {"acks-all", -1}} {
		features = append(features, Feature{acks.name, func() (string, error) { return roundTrip(c, acks.name, 500, Producing{Acks: acks.acks}) }})
	}
	features = append(features, Feature{"idempotent", func() (string, error) { return idempotent(c) }})
	for _, codec := range Codecs {
		features = append(features, Feature{codec, func() (string, error) { return roundTrip(c, codec, 1000, Producing{Acks: -1, Codec: codec}) }})
	}
	return append(features,
		Feature{"consume", func() (string, error) { return "", consume(c) }},
		Feature{"shapes", func() (string, error) { return "", shapes(c) }},
		Feature{"timestamps", func() (string, error) { return "", timestamps(c) }},
		Feature{"parked", func() (string, error) { return parked(c) }},
		Feature{"errors", func() (string, error) { return "", refusals(c) }},
		Feature{"admin", func() (string, error) { return admin(c) }},
		Feature{"delete", func() (string, error) { return "", remove(c) }},
	)
}

func createFeature(c Client) error {
	topic := Topic("created")
	if err := c.Create(topic, 3, nil); err != nil {
		return err
	}
	count, err := c.Partitions(topic)
	return first(err, Same(count, 3, "partitions"), refused(c, TopicAlreadyExists, "a second create", c.Create(topic, 3, nil)))
}

func grow(c Client) error {
	topic, err := create(c, "grown")
	if err := first(err, c.Grow(topic, 4)); err != nil {
		return err
	}
	err = Within(10*time.Second, "4 partitions", func() (bool, error) { count, err := c.Partitions(topic); return count == 4, err })
	if err := first(err, c.Produce(topic, 3, Records(10), allAcks)); err != nil {
		return err
	}
	found, err := read(c, topic, 3, 10)
	return first(err, Same(DigestOf(found), DigestOf(Records(10)), "digest"))
}

func idempotent(c Client) (string, error) {
	topic, err := create(c, "idempotent")
	if err := first(err, c.Produce(topic, 0, Records(2000), Producing{Acks: -1, Idempotent: true, BatchBytes: 4000})); err != nil {
		return "", err
	}
	found, err := read(c, topic, 0, 2000)
	if err != nil {
		return "", err
	}
	_, end, err := c.Offsets(topic)
	return "2000 records", first(err, Same(end, 2000, "end offset"), Same(DigestOf(found), DigestOf(Records(2000)), "digest"))
}

func consume(c Client) error {
	topic, records, parts := Topic("consume"), Records(3000), [3][]Record{}
	if err := c.Create(topic, 3, nil); err != nil {
		return err
	}
	for i, record := range records {
		parts[i%3] = append(parts[i%3], record)
	}
	for partition, part := range parts {
		if err := c.Produce(topic, int32(partition), part, allAcks); err != nil {
			return err
		}
	}
	reader, err := c.Open(topic, map[int32]int64{0: 0, 1: 0, 2: 0}, 0, false)
	if err != nil {
		return err
	}
	defer reader.Close()
	all, err := reader.Next(3000, 40*time.Second)
	if err != nil {
		return err
	}
	found := [3][]Record{}
	for _, record := range all {
		found[record.Partition] = append(found[record.Partition], record)
	}
	for partition := range parts {
		if err := Same(DigestOf(found[partition]), DigestOf(parts[partition]), fmt.Sprint("digest of partition ", partition)); err != nil {
			return err
		}
	}
	if err := reader.Seek(1, 500); err != nil {
		return err
	}
	again, err := reader.Next(1, 20*time.Second)
	if err != nil {
		return err
	}
	return first(Same(again[0].Offset, 500, "offset after the seek"), Same(string(again[0].Key), string(parts[1][500].Key), "key after the seek"))
}

func shapes(c Client) error {
	topic, err := create(c, "shapes")
	if err := first(err, c.Produce(topic, 0, Shapes(), allAcks)); err != nil {
		return err
	}
	found, err := read(c, topic, 0, len(Shapes()))
	if err != nil {
		return err
	}
	for i, wanted := range Shapes() {
		if err := SameShape(found[i], wanted); err != nil {
			return err
		}
	}
	return nil
}

func timestamps(c Client) error {
	topic, err := create(c, "timestamps")
	if err != nil {
		return err
	}
	records := make([]Record, 100)
	for i := range records {
		records[i] = Record{Key: []byte("t"), Value: fmt.Append(nil, i), Time: Time0 + int64(i)*1000}
	}
	if err := c.Produce(topic, 0, records, allAcks); err != nil {
		return err
	}
	found, err := read(c, topic, 0, 100)
	if err != nil {
		return err
	}
	for i := range records {
		if err := Same(found[i].Time, records[i].Time, "timestamp"); err != nil {
			return err
		}
	}
	within, err := c.OffsetForTime(topic, Time0+41_500)
	after, err2 := c.OffsetForTime(topic, Time0+1_000_000_000)
	start, end, err3 := c.Offsets(topic)
	if after == 100 { // a client that turns "no such record" into the end
		after = -1
	}
	return first(err, err2, err3, Same(within, 42, "offset for time"), Same(after, -1, "offset for a time after the last"), Same(start, 0, "start"), Same(end, 100, "end"))
}

func parked(c Client) (string, error) {
	topic, err := create(c, "parked")
	if err != nil {
		return "", err
	}
	reader, err := c.Open(topic, map[int32]int64{0: 0}, 30*time.Second, false)
	if err != nil {
		return "", err
	}
	defer reader.Close()
	return Parked(func(record Record) error { return c.Produce(topic, 0, []Record{record}, allAcks) },
		func(limit time.Duration) (Record, error) {
			found, err := reader.Next(1, limit)
			if err != nil {
				return Record{}, err
			}
			return found[0], nil
		})
}

func refusals(c Client) error {
	topic, err := create(c, "errors")
	if err := first(err, c.Produce(topic, 0, Records(10), allAcks)); err != nil {
		return err
	}
	if err := refused(c, MessageTooLarge, "a record above max.message.bytes", c.Produce(topic, 0, []Record{{Value: Oversize()}}, Producing{Acks: -1, BatchBytes: 10_000_000})); err != nil {
		return err
	}
	reader, err := c.Open(topic, map[int32]int64{0: 5_000_000}, 0, true)
	if err != nil {
		return err
	}
	found, err := reader.Next(10, 20*time.Second)
	reader.Close()
	if err := first(err, Same(DigestOf(found), DigestOf(Records(10)), "digest after a reset to the earliest")); err != nil {
		return err
	}
	reader, err = c.Open(topic, map[int32]int64{0: 5_000_000}, 0, false)
	if err == nil {
		_, err = reader.Next(1, 20*time.Second)
		reader.Close()
	}
	_, absent := c.Partitions(Topic("absent"))
	return first(refused(c, OffsetOutOfRange, "an offset out of range", err), refused(c, UnknownTopicOrPartition, "an unknown topic", absent),
		refused(c, UnknownTopicOrPartition, "deleting an unknown topic", c.Delete(Topic("absent"))))
}

func admin(c Client) (string, error) {
	topic := Topic("admin")
	if err := c.Create(topic, 2, map[string]string{"retention.ms": "86400000"}); err != nil {
		return "", err
	}
	ofTopic, ofBroker, err := c.Configs(topic)
	if err != nil {
		return "", err
	}
	if len(ofTopic) <= 10 || len(ofBroker) <= 10 {
		err = fmt.Errorf("%d topic configs, %d broker configs", len(ofTopic), len(ofBroker))
	}
	return fmt.Sprintf("%d topic configs, %d broker configs", len(ofTopic), len(ofBroker)), first(err, Same(ofTopic["retention.ms"], "86400000", "retention.ms"))
}

func remove(c Client) error {
	topic, err := create(c, "deleted")
	if err := first(err, c.Produce(topic, 0, Records(5), allAcks)); err != nil {
		return err
	}
	ids := [2]string{"before", "after"}
	if tells, ok := c.(TopicID); ok {
		ids[0], err = tells.TopicID(topic)
	}
	if err := first(err, c.Delete(topic)); err != nil {
		return err
	}
	err = Within(10*time.Second, "the topic's end", func() (bool, error) {
		_, err := c.Partitions(topic)
		return err != nil && c.Code(err) == UnknownTopicOrPartition, err
	})
	if err := first(err, c.Create(topic, 1, nil)); err != nil {
		return err
	}
	if tells, ok := c.(TopicID); ok { // Kafka's own brokers learn of a new topic a moment after its creator
		err = Within(10*time.Second, "the id of the topic created anew", func() (bool, error) { ids[1], err = tells.TopicID(topic); return err == nil, err })
	}
	if err == nil && ids[0] == ids[1] {
		err = fmt.Errorf("the topic created anew has the old one's id %s", ids[0])
	}
	if err := first(err, c.Produce(topic, 0, Records(1), allAcks)); err != nil {
		return err
	}
	var end int64
	err = Within(10*time.Second, "offsets of the topic created anew", func() (bool, error) { _, end, err = c.Offsets(topic); return err == nil, err })
	return first(err, Same(end, 1, "end offset of the topic created anew"))
}
