// franz-go against the broker under test; the contract is ../contract-go.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"compat/contract"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{"": kgo.NoCompression(), "none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}

func client(options ...kgo.Opt) *kgo.Client {
	made, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(contract.Bootstrap()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RetryTimeout(30 * time.Second), kgo.MetadataMinAge(50 * time.Millisecond)}, options...)...)
	if err != nil {
		panic(err)
	}
	return made
}

// A feature has its own limit, and each request the one below.
var ctx = context.Background()

type franz struct {
	client *kgo.Client
	admin  *kadm.Client
}

func (franz) Code(err error) int {
	var known *kerr.Error
	if errors.As(err, &known) {
		return int(known.Code)
	}
	return -1
}

func (f franz) Metadata() (string, error) {
	found, err := f.admin.BrokerMetadata(ctx)
	if err == nil && (len(found.Brokers) == 0 || found.Cluster == "") {
		err = errors.New("no broker or no cluster id")
	}
	return fmt.Sprintf("%d broker, cluster %s", len(found.Brokers), found.Cluster), err
}

func (f franz) Create(topic string, partitions int, configs map[string]string) error {
	settings := map[string]*string{}
	for key, value := range configs {
		settings[key] = &value
	}
	_, err := f.admin.CreateTopic(ctx, int32(partitions), 1, settings, topic)
	return err
}

func (f franz) Grow(topic string, partitions int) error {
	answers, err := f.admin.UpdatePartitions(ctx, partitions, topic)
	if err != nil {
		return err
	}
	return answers.Error()
}

func (f franz) Partitions(topic string) (int, error) {
	found, err := f.admin.ListTopics(ctx, topic)
	if err != nil {
		return 0, err
	}
	return len(found[topic].Partitions), found[topic].Err
}

func (f franz) TopicID(topic string) (string, error) {
	found, err := f.admin.ListTopics(ctx, topic)
	return found[topic].ID.String(), err
}

func (franz) Produce(topic string, partition int32, records []contract.Record, how contract.Producing) error {
	options := []kgo.Opt{kgo.ProducerBatchCompression(codecs[how.Codec]), kgo.RequiredAcks(map[int]kgo.Acks{0: kgo.NoAck(), 1: kgo.LeaderAck(), -1: kgo.AllISRAcks()}[how.Acks])}
	if !how.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	if how.BatchBytes > 0 {
		options = append(options, kgo.ProducerBatchMaxBytes(int32(how.BatchBytes)), kgo.ProducerLinger(0))
	}
	producer := client(options...)
	defer producer.Close()
	sent := make([]*kgo.Record, len(records))
	for i, record := range records {
		sent[i] = &kgo.Record{Topic: topic, Partition: partition, Key: record.Key, Value: record.Value}
		if record.Time != 0 {
			sent[i].Timestamp = time.UnixMilli(record.Time)
		}
		for _, header := range record.Headers {
			sent[i].Headers = append(sent[i].Headers, kgo.RecordHeader{Key: header.Key, Value: header.Value})
		}
	}
	within, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	return producer.ProduceSync(within, sent...).FirstErr()
}

type reader struct {
	client *kgo.Client
	topic  string
	held   []contract.Record
}

func (franz) Open(topic string, offsets map[int32]int64, wait time.Duration, reset bool) (contract.Reader, error) {
	at := map[int32]kgo.Offset{}
	for partition, offset := range offsets {
		at[partition] = kgo.NewOffset().At(offset)
	}
	options := []kgo.Opt{kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}), kgo.FetchMinBytes(1), kgo.FetchMaxPartitionBytes(8 << 20)}
	if wait > 0 {
		options = append(options, kgo.FetchMaxWait(wait))
	}
	if reset {
		options = append(options, kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	} else {
		options = append(options, kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	}
	return &reader{client: client(options...), topic: topic}, nil
}

func (r *reader) Next(count int, limit time.Duration) ([]contract.Record, error) {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for len(r.held) < count {
		fetches := r.client.PollFetches(within)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("after %d of %d records: %w", len(r.held), count, err)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			one := contract.Record{Key: record.Key, Value: record.Value, Offset: record.Offset, Partition: record.Partition, Time: record.Timestamp.UnixMilli()}
			for _, header := range record.Headers {
				one.Headers = append(one.Headers, contract.Header{Key: header.Key, Value: header.Value})
			}
			r.held = append(r.held, one)
		})
	}
	found := r.held[:count]
	r.held = r.held[count:]
	return found, nil
}

func (r *reader) Seek(partition int32, offset int64) error {
	r.held = nil
	r.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{r.topic: {partition: {Epoch: -1, Offset: offset}}})
	return nil
}

func (r *reader) Close() { r.client.Close() }

func (f franz) OffsetForTime(topic string, milliseconds int64) (int64, error) {
	found, err := f.admin.ListOffsetsAfterMilli(ctx, milliseconds, topic)
	if err == nil {
		err = found.Error()
	}
	at, _ := found.Lookup(topic, 0)
	return at.Offset, err
}

func (f franz) Offsets(topic string) (int64, int64, error) {
	starts, err := f.admin.ListStartOffsets(ctx, topic)
	ends, err2 := f.admin.ListEndOffsets(ctx, topic)
	start, _ := starts.Lookup(topic, 0)
	end, _ := ends.Lookup(topic, 0)
	return start.Offset, end.Offset, errors.Join(err, err2, starts.Error(), ends.Error())
}

func configs(found kadm.ResourceConfigs, err error) (map[string]string, error) {
	values := map[string]string{}
	for _, resource := range found {
		err = errors.Join(err, resource.Err)
		for _, config := range resource.Configs {
			values[config.Key] = config.MaybeValue()
		}
	}
	return values, err
}

func (f franz) Configs(topic string) (map[string]string, map[string]string, error) {
	brokers, err := f.admin.ListBrokers(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := f.checked(); err != nil {
		return nil, nil, err
	}
	ofTopic, err := configs(f.admin.DescribeTopicConfigs(ctx, topic))
	ofBroker, err2 := configs(f.admin.DescribeBrokerConfigs(ctx, brokers.NodeIDs()...))
	return ofTopic, ofBroker, errors.Join(err, err2)
}

func (f franz) Delete(topic string) error {
	_, err := f.admin.DeleteTopic(ctx, topic)
	return err
}

func (f franz) send(topic string, partitions int, codec string, values func() ([]byte, bool)) (int, error) {
	if err := f.Create(topic, partitions, nil); err != nil {
		return 0, err
	}
	producer := client(kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerLinger(20*time.Millisecond), kgo.MaxBufferedRecords(50000))
	defer producer.Close()
	sent, failed := 0, make(chan error, 1)
	for value, more := values(); more; value, more = values() {
		producer.Produce(ctx, &kgo.Record{Topic: topic, Partition: int32(sent % partitions), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
		sent++
	}
	if err := producer.Flush(ctx); err != nil {
		return sent, err
	}
	select {
	case err := <-failed:
		return sent, err
	default:
		return sent, nil
	}
}

func member(m *contract.Member) error {
	balancer := map[string]kgo.GroupBalancer{"": kgo.StickyBalancer(), "range": kgo.RangeBalancer(), "cooperative-sticky": kgo.CooperativeStickyBalancer()}[m.Assignor]
	commit := func(consumer *kgo.Client) {
		if err := consumer.CommitUncommittedOffsets(ctx); err != nil {
			m.Refused(err)
		}
	}
	owns := func(owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, consumer *kgo.Client, partitions map[string][]int32) {
			if !owned {
				commit(consumer)
			}
			m.Owns(partitions, owned)
		}
	}
	options := []kgo.Opt{kgo.ClientID(m.ClientID), kgo.ConsumerGroup(m.Group), kgo.ConsumeTopics(m.Topic), kgo.Balancers(balancer), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(time.Duration(m.SessionMs) * time.Millisecond), kgo.HeartbeatInterval(time.Duration(m.HeartbeatMs) * time.Millisecond),
		kgo.MetadataMaxAge(time.Duration(m.MetadataMs) * time.Millisecond), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(owns(true)), kgo.OnPartitionsRevoked(owns(false)), kgo.OnPartitionsLost(owns(false))}
	if m.Protocol == "consumer" {
		options = append(options, kgo.ServerSideBalancer())
	}
	if m.Instance != "" {
		options = append(options, kgo.InstanceID(m.Instance))
	}
	if m.Pattern {
		options = append(options, kgo.ConsumeRegex(), kgo.ConsumeTopics("^"+m.Topic+".*"))
	}
	consumer := client(options...)
	defer consumer.CloseAllowingRebalance()
	for {
		select {
		case <-m.Left:
			return nil
		default:
		}
		within, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		fetches := consumer.PollFetches(within)
		cancel()
		fetches.EachPartition(func(part kgo.FetchTopicPartition) {
			if offsets := make([]int64, 0, len(part.Records)); len(part.Records) > 0 {
				part.EachRecord(func(record *kgo.Record) { offsets = append(offsets, record.Offset) })
				m.Read(part.Topic, part.Partition, offsets...)
			}
		})
		commit(consumer)
		consumer.AllowRebalance()
	}
}

func main() {
	own := client()
	f := franz{own, kadm.NewClient(own)}
	contract.Program{Module: "github.com/twmb/franz-go", Client: f, Send: f.send, Member: member, More: f.features()}.Main()
}
