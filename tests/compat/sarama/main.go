// sarama against the broker under test; the contract is ../contract-go.
package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"compat/contract"

	"github.com/IBM/sarama"
)

var codecs = map[string]sarama.CompressionCodec{"": sarama.CompressionNone, "none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}

func config() *sarama.Config {
	settings := sarama.NewConfig()
	settings.Version = sarama.MaxVersion
	settings.Producer.Partitioner = sarama.NewManualPartitioner
	settings.Producer.Return.Successes = true
	settings.Producer.MaxMessageBytes = 1_000_000
	settings.Consumer.Return.Errors = true
	settings.Consumer.Fetch.Default = 8 << 20
	settings.ChannelBufferSize = 1000
	return settings
}

type client struct {
	sarama.Client
	admin sarama.ClusterAdmin
}

func (client) Code(err error) int {
	var code sarama.KError
	var topic *sarama.TopicError
	var partition *sarama.TopicPartitionError
	var produced sarama.ProducerErrors
	switch {
	case errors.As(err, &topic):
		return int(topic.Err)
	case errors.As(err, &partition):
		return int(partition.Err)
	case errors.As(err, &produced) && len(produced) > 0 && errors.As(produced[0].Err, &code), errors.As(err, &code):
		return int(code)
	}
	return -1
}

func (c client) Metadata() (string, error) {
	brokers, controller, err := c.admin.DescribeCluster()
	if err == nil && len(brokers) == 0 {
		err = errors.New("no broker")
	}
	return fmt.Sprintf("%d broker, controller %d", len(brokers), controller), err
}

func (c client) Create(topic string, partitions int, configs map[string]string) error {
	entries := map[string]*string{}
	for key, value := range configs {
		entries[key] = &value
	}
	return c.admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: 1, ConfigEntries: entries}, false)
}

func (c client) Grow(topic string, partitions int) error {
	return c.admin.CreatePartitions(topic, int32(partitions), nil, false)
}

func (c client) described(topic string) (*sarama.TopicMetadata, error) {
	found, err := c.admin.DescribeTopics([]string{topic})
	if err != nil {
		return nil, err
	}
	if found[0].Err != sarama.ErrNoError {
		return nil, found[0].Err
	}
	return found[0], nil
}

func (c client) Partitions(topic string) (int, error) {
	found, err := c.described(topic)
	if err != nil {
		return 0, err
	}
	return len(found.Partitions), nil
}

func (c client) TopicID(topic string) (string, error) {
	found, err := c.described(topic)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(found.Uuid), nil
}

func (client) Produce(topic string, partition int32, records []contract.Record, how contract.Producing) error {
	settings := config()
	settings.Producer.RequiredAcks = sarama.RequiredAcks(how.Acks)
	settings.Producer.Compression = codecs[how.Codec]
	settings.Producer.Flush.Frequency = 20 * time.Millisecond
	if how.Idempotent {
		settings.Producer.Idempotent, settings.Net.MaxOpenRequests = true, 1
	}
	if how.BatchBytes > 0 {
		settings.Producer.Flush.Bytes, settings.Producer.MaxMessageBytes = how.BatchBytes, max(how.BatchBytes, 1_000_000)
	}
	producer, err := sarama.NewAsyncProducer([]string{contract.Bootstrap()}, settings)
	if err != nil {
		return err
	}
	var failure error
	var done sync.WaitGroup
	done.Add(2)
	go func() {
		defer done.Done()
		for range producer.Successes() {
		}
	}()
	go func() {
		defer done.Done()
		for failed := range producer.Errors() {
			failure = failed.Err
		}
	}()
	for _, record := range records {
		message := &sarama.ProducerMessage{Topic: topic, Partition: partition}
		if record.Key != nil {
			message.Key = sarama.ByteEncoder(record.Key)
		}
		if record.Value != nil {
			message.Value = sarama.ByteEncoder(record.Value)
		}
		if record.Time != 0 {
			message.Timestamp = time.UnixMilli(record.Time)
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(header.Key), Value: header.Value})
		}
		producer.Input() <- message
	}
	producer.AsyncClose()
	done.Wait()
	return failure
}

type reader struct {
	topic    string
	consumer sarama.Consumer
	parts    map[int32]sarama.PartitionConsumer
	records  chan contract.Record
	errors   chan error
	stop     chan struct{}
}

func (client) Open(topic string, offsets map[int32]int64, wait time.Duration, reset bool) (contract.Reader, error) {
	settings := config()
	if wait > 0 {
		settings.Consumer.MaxWaitTime, settings.Net.ReadTimeout = wait, wait+30*time.Second
	}
	consumer, err := sarama.NewConsumer([]string{contract.Bootstrap()}, settings)
	if err != nil {
		return nil, err
	}
	r := &reader{topic: topic, consumer: consumer, parts: map[int32]sarama.PartitionConsumer{}, records: make(chan contract.Record), errors: make(chan error, 10), stop: make(chan struct{})}
	for partition, offset := range offsets {
		err := r.start(partition, offset)
		if errors.Is(err, sarama.ErrOffsetOutOfRange) && reset {
			err = r.start(partition, sarama.OffsetOldest)
		}
		if err != nil {
			r.Close()
			return nil, err
		}
	}
	return r, nil
}

func (r *reader) start(partition int32, offset int64) error {
	part, err := r.consumer.ConsumePartition(r.topic, partition, offset)
	if err != nil {
		return err
	}
	r.parts[partition] = part
	go func() {
		for message := range part.Messages() {
			record := contract.Record{Key: message.Key, Value: message.Value, Offset: message.Offset, Partition: message.Partition, Time: message.Timestamp.UnixMilli()}
			for _, header := range message.Headers {
				record.Headers = append(record.Headers, contract.Header{Key: string(header.Key), Value: header.Value})
			}
			select {
			case r.records <- record:
			case <-r.stop:
				return
			}
		}
	}()
	go func() {
		for failed := range part.Errors() {
			r.errors <- failed.Err
		}
	}()
	return nil
}

func (r *reader) Next(count int, limit time.Duration) ([]contract.Record, error) {
	var found []contract.Record
	late := time.After(limit)
	for len(found) < count {
		select {
		case record := <-r.records:
			found = append(found, record)
		case err := <-r.errors:
			return nil, err
		case <-late:
			return nil, fmt.Errorf("%d of %d records within %v", len(found), count, limit)
		}
	}
	return found, nil
}

func (r *reader) Seek(partition int32, offset int64) error {
	if err := r.parts[partition].Close(); err != nil {
		return err
	}
	return r.start(partition, offset)
}

// Close does not wait for a parked fetch: a partition consumer's own Close would.
func (r *reader) Close() {
	close(r.stop)
	for _, part := range r.parts {
		part.AsyncClose()
	}
}

func (c client) OffsetForTime(topic string, milliseconds int64) (int64, error) {
	return c.GetOffset(topic, 0, milliseconds)
}

func (c client) Offsets(topic string) (int64, int64, error) {
	if err := c.RefreshMetadata(topic); err != nil {
		return 0, 0, err
	}
	start, err := c.GetOffset(topic, 0, sarama.OffsetOldest)
	end, err2 := c.GetOffset(topic, 0, sarama.OffsetNewest)
	return start, end, errors.Join(err, err2)
}

func (c client) Configs(topic string) (map[string]string, map[string]string, error) {
	values := func(kind sarama.ConfigResourceType, name string) (map[string]string, error) {
		found := map[string]string{}
		entries, err := c.admin.DescribeConfig(sarama.ConfigResource{Type: kind, Name: name})
		for _, entry := range entries {
			found[entry.Name] = entry.Value
		}
		return found, err
	}
	ofTopic, err := values(sarama.TopicResource, topic)
	ofBroker, err2 := values(sarama.BrokerResource, strconv.Itoa(int(c.Brokers()[0].ID())))
	return ofTopic, ofBroker, errors.Join(err, err2)
}

func (c client) Delete(topic string) error { return c.admin.DeleteTopic(topic) }

func (c client) send(topic string, partitions int, codec string, values func() ([]byte, bool)) (int, error) {
	if err := c.Create(topic, partitions, nil); err != nil {
		return 0, err
	}
	settings := config()
	settings.Producer.RequiredAcks, settings.Producer.Compression, settings.Producer.Return.Successes = sarama.WaitForAll, codecs[codec], false
	settings.Producer.Flush.Frequency, settings.Producer.Flush.Bytes = 20*time.Millisecond, 500_000
	settings.Producer.Idempotent, settings.Net.MaxOpenRequests = true, 1
	producer, err := sarama.NewAsyncProducer([]string{contract.Bootstrap()}, settings)
	if err != nil {
		return 0, err
	}
	sent := 0
	for value, more := values(); more; value, more = values() {
		producer.Input() <- &sarama.ProducerMessage{Topic: topic, Partition: int32(sent % partitions), Value: sarama.ByteEncoder(value)}
		sent++
	}
	return sent, producer.Close()
}

// claims is what sarama calls at the beginning and the end of a generation, and for each partition in between.
type claims struct{ member *contract.Member }

func (c claims) Setup(session sarama.ConsumerGroupSession) error {
	c.member.Owns(session.Claims(), true)
	return nil
}

func (c claims) Cleanup(session sarama.ConsumerGroupSession) error {
	c.member.Owns(session.Claims(), false)
	return nil
}

func (c claims) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	if c.member.Assignor == "cooperative-sticky" { // a session outlives its claims
		c.member.Owns(map[string][]int32{claim.Topic(): {claim.Partition()}}, true)
		defer c.member.Owns(map[string][]int32{claim.Topic(): {claim.Partition()}}, false)
	}
	for {
		select {
		case message, more := <-claim.Messages():
			if !more {
				return nil
			}
			offsets := []int64{message.Offset}
			for waiting := len(claim.Messages()); waiting > 0; waiting-- {
				message = <-claim.Messages()
				offsets = append(offsets, message.Offset)
			}
			c.member.Read(message.Topic, message.Partition, offsets...)
			session.MarkMessage(message, "")
			session.Commit()
		case <-session.Context().Done():
			return nil
		}
	}
}

func member(m *contract.Member) error {
	settings := config()
	settings.ClientID, settings.Consumer.Group.InstanceId = m.ClientID, m.Instance
	settings.Consumer.Group.Session.Timeout = time.Duration(m.SessionMs) * time.Millisecond
	settings.Consumer.Group.Heartbeat.Interval = time.Duration(m.HeartbeatMs) * time.Millisecond
	settings.Metadata.RefreshFrequency = time.Duration(m.MetadataMs) * time.Millisecond
	settings.Consumer.MaxWaitTime = 100 * time.Millisecond // a commit waits behind the fetch on the same connection
	settings.Consumer.Offsets.AutoCommit.Enable, settings.Consumer.Offsets.Initial = false, sarama.OffsetOldest
	strategy := map[string]func() sarama.BalanceStrategy{"": sarama.NewBalanceStrategyRange, "range": sarama.NewBalanceStrategyRange, "cooperative-sticky": sarama.NewBalanceStrategyCooperativeSticky}
	settings.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy[m.Assignor]()}
	group, err := sarama.NewConsumerGroup([]string{contract.Bootstrap()}, m.Group, settings)
	if err != nil {
		return err
	}
	go func() {
		for err := range group.Errors() {
			m.Refused(err)
		}
	}()
	within, leave := context.WithCancel(context.Background())
	go func() {
		<-m.Left
		leave()
	}()
	for within.Err() == nil {
		if err := group.Consume(within, []string{m.Topic}, claims{m}); err != nil {
			m.Refused(err)
		}
	}
	return group.Close()
}

func main() {
	own, err := sarama.NewClient([]string{contract.Bootstrap()}, config())
	if err != nil {
		panic(err)
	}
	admin, err := sarama.NewClusterAdminFromClient(own)
	if err != nil {
		panic(err)
	}
	c := client{own, admin}
	contract.Program{Module: "github.com/IBM/sarama", Client: c, Send: c.send, Member: member}.Main()
}
