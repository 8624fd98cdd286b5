// The admin calls of kadm, beyond those that every Go client's program has.
package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"compat/contract"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (f franz) features() []contract.Feature {
	return []contract.Feature{{Name: "settings", Run: f.settings}, {Name: "records", Run: f.deleteRecords}, {Name: "log-dirs", Run: f.logDirs}, {Name: "group-admin", Run: f.groups}, {Name: "quotas", Run: f.quotas}}
}

func wanted(err error, code error, what string) error {
	if !errors.Is(err, code) {
		return fmt.Errorf("%s: wanted %v, got %v", what, code, err)
	}
	return nil
}

// Checked is what the feature `admin` asks of this client alone.
func (f franz) checked() error {
	name := contract.Topic("two-replicas")
	answers, err := f.admin.CreateTopics(ctx, 1, 2, nil, name)
	if err = errors.Join(err, wanted(answers[name].Err, kerr.InvalidReplicationFactor, "two replicas on one broker")); err != nil {
		return err
	}
	if said := answers[name].ErrMessage; !contract.TwoReplicas.MatchString(said) {
		return fmt.Errorf("said of two replicas on one broker: %s", said)
	}
	name = contract.Topic("only-checked")
	answers, err = f.admin.ValidateCreateTopics(ctx, 2, 1, map[string]*string{"retention.ms": kadm.StringPtr("1000")}, name)
	if err = errors.Join(err, answers.Error()); err != nil {
		return err
	}
	if config := answers[name].Configs["retention.ms"]; answers[name].NumPartitions != 2 || config.MaybeValue() != "1000" {
		return fmt.Errorf("checked only: %d partitions, retention.ms %s", answers[name].NumPartitions, config.MaybeValue())
	}
	grown, err := f.admin.ValidateUpdatePartitions(ctx, 5, contract.Topic("admin"))
	if err = errors.Join(err, grown.Error()); err != nil {
		return err
	}
	time.Sleep(100 * time.Millisecond) // this client remembers its last metadata as long
	count, err := f.Partitions(contract.Topic("admin"))
	_, absent := f.Partitions(name)
	return errors.Join(err, contract.Same(count, 2, "partitions after a growth that was only checked"), wanted(absent, kerr.UnknownTopicOrPartition, "a topic that was only checked"))
}

// Altered makes one incremental change of any resource.
func (f franz) altered(kind kadm.ConfigResourceType, name string, op kadm.IncrementalOp, key, value string) error {
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kind, name
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Op = key, kmsg.IncrementalAlterConfigOp(op)
	if op != kadm.DeleteConfig {
		config.Value = &value
	}
	resource.Configs = append(resource.Configs, config)
	request.Resources = append(request.Resources, resource)
	answer, err := request.RequestWith(ctx, f.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(answer.Resources[0].ErrorCode)
}

func (f franz) described(kind kadm.ConfigResourceType, name string) (map[string]kmsg.DescribeConfigsResponseResourceConfig, error) {
	request := kmsg.NewPtrDescribeConfigsRequest()
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kind, name
	request.Resources = append(request.Resources, resource)
	answer, err := request.RequestWith(ctx, f.client)
	if err != nil {
		return nil, err
	}
	found := map[string]kmsg.DescribeConfigsResponseResourceConfig{}
	for _, config := range answer.Resources[0].Configs {
		found[config.Name] = config
	}
	return found, kerr.ErrorForCode(answer.Resources[0].ErrorCode)
}

func (f franz) settings() (string, error) {
	topic := contract.Topic("settings")
	if err := f.Create(topic, 1, nil); err != nil {
		return "", err
	}
	for _, one := range []struct {
		kind             kadm.ConfigResourceType
		name, key, value string
		source           kmsg.ConfigSource
	}{
		{kadm.ConfigResourceTopic, topic, "retention.ms", "86400000", kmsg.ConfigSourceDynamicTopicConfig},
		{kadm.ConfigResourceBroker, "", "log.cleaner.threads", "2", kmsg.ConfigSourceDynamicDefaultBrokerConfig},
		{kadm.ConfigResourceGroupConfig, contract.Topic("settings-group"), "consumer.session.timeout.ms", "50000", kmsg.ConfigSourceGroupConfig},
		{kadm.ConfigResourceClientMetrics, contract.Topic("settings-metrics"), "metrics", "org.apache.kafka.consumer.", kmsg.ConfigSourceClientMetricsConfig},
	} {
		for _, op := range []kadm.IncrementalOp{kadm.SetConfig, kadm.DeleteConfig} {
			if err := f.altered(one.kind, one.name, op, one.key, one.value); err != nil {
				return "", fmt.Errorf("%s of %s %s: %w", one.key, one.kind, one.name, err)
			}
			err := contract.Within(5*time.Second, fmt.Sprintf("%s of %s %s, op %d", one.key, one.kind, one.name, op), func() (bool, error) {
				found, err := f.described(one.kind, one.name)
				config := found[one.key]
				set := config.Source == one.source && config.Value != nil && *config.Value == one.value
				return set == (op == kadm.SetConfig), err
			})
			if err != nil {
				return "", err
			}
			if op == kadm.SetConfig && one.name != "" {
				listed, err := f.admin.ListConfigResources(ctx, one.kind)
				if err = errors.Join(err, listed.Err); err != nil || !strings.Contains(strings.Join(listed.Names(), " "), one.name) {
					return "", fmt.Errorf("%s %s is not listed: %v", one.kind, one.name, err)
				}
			}
		}
	}
	if err := errors.Join(wanted(f.altered(kadm.ConfigResourceTopic, topic, kadm.SetConfig, "segment.bytes", "1"), kerr.InvalidConfig, "a segment of one byte"),
		wanted(f.altered(kadm.ConfigResourceBroker, "", kadm.SetConfig, "node.id", "7"), kerr.InvalidRequest, "node.id")); err != nil {
		return "", err
	}
	// The old AlterConfigs replaces all that a topic has of its own.
	for _, key := range []string{"retention.ms", "max.message.bytes"} {
		answers, err := f.admin.AlterTopicConfigsState(ctx, []kadm.AlterConfig{{Name: key, Value: kadm.StringPtr("5000")}}, topic)
		if err != nil || answers[0].Err != nil {
			return "", errors.Join(err, answers[0].Err)
		}
	}
	err := contract.Within(5*time.Second, "what AlterConfigs left", func() (bool, error) {
		found, err := f.described(kadm.ConfigResourceTopic, topic)
		return err == nil && *found["retention.ms"].Value != "5000" && *found["max.message.bytes"].Value == "5000", err
	})
	if err != nil {
		return "", err
	}
	versions, err := f.admin.ApiVersions(ctx)
	if err != nil {
		return "", err
	}
	var level int16
	for _, finalized := range versions.Sorted()[0].Raw().FinalizedFeatures {
		if finalized.Name == "group.version" {
			level = finalized.MaxVersionLevel
		}
	}
	_, err = f.admin.UpdateFeatures(ctx, true, kadm.FeatureUpdate{Feature: "group.version", MaxVersionLevel: level, UpgradeType: 1})
	return fmt.Sprintf("group.version %d", level), err
}

func (f franz) deleteRecords() (string, error) {
	topic := contract.Topic("records")
	err := f.Create(topic, 1, nil)
	if err = errors.Join(err, f.Produce(topic, 0, contract.Records(10), contract.Producing{Acks: -1})); err != nil {
		return "", err
	}
	front := func(offset int64) (kadm.DeleteRecordsResponse, error) {
		offsets := kadm.Offsets{}
		offsets.AddOffset(topic, 0, offset, -1)
		found, err := f.admin.DeleteRecords(ctx, offsets)
		one, _ := found.Lookup(topic, 0)
		return one, err
	}
	found, err := front(4)
	if err = errors.Join(err, found.Err, contract.Same(found.LowWatermark, 4, "low watermark")); err != nil {
		return "", err
	}
	start, end, err := f.Offsets(topic)
	beyond, err2 := front(11)
	return "", errors.Join(err, err2, contract.Same([]int64{start, end}, []int64{4, 10}, "start and end"), wanted(beyond.Err, kerr.OffsetOutOfRange, "more than there is"))
}

func (f franz) logDirs() (string, error) {
	topic := contract.Topic("dirs")
	err := f.Create(topic, 1, nil)
	if err = errors.Join(err, f.Produce(topic, 0, contract.Records(100), contract.Producing{Acks: -1, Idempotent: true})); err != nil {
		return "", err
	}
	all, err := f.admin.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return "", err
	}
	size, directories := int64(0), all.Sorted()
	for _, directory := range directories {
		err = errors.Join(err, directory.Err)
		size += directory.Topics[topic][0].Size
	}
	if size < 1000 {
		err = errors.Join(err, fmt.Errorf("size %d", size))
	}
	producers, err2 := f.admin.DescribeProducers(ctx, kadm.TopicsSet{topic: {0: {}}})
	found := producers.SortedProducers()
	if len(found) != 1 || found[0].LastSequence != 99 {
		err2 = errors.Join(err2, fmt.Errorf("producers %v", found))
	}
	return fmt.Sprintf("%d directory", len(directories)), errors.Join(err, err2)
}

func (f franz) groups() (string, error) {
	topic, group := contract.Topic("grouped"), contract.Topic("group-admin")
	err := f.Create(topic, 1, nil)
	if err = errors.Join(err, f.Produce(topic, 0, contract.Records(10), contract.Producing{Acks: -1})); err != nil {
		return "", err
	}
	at := func(offset int64) kadm.Offsets {
		offsets := kadm.Offsets{}
		offsets.AddOffset(topic, 0, offset, -1)
		return offsets
	}
	commit := func(offset int64) error {
		answers, err := f.admin.CommitOffsets(ctx, group, at(offset))
		return errors.Join(err, answers.Error())
	}
	consumer := client(kgo.ClientID("reader"), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer consumer.Close()
	for count := 0; count < 10; count += consumer.PollFetches(ctx).NumRecords() {
	}
	if err := consumer.CommitUncommittedOffsets(ctx); err != nil {
		return "", err
	}
	described, err := f.admin.DescribeGroups(ctx, group)
	if err != nil {
		return "", err
	}
	if found := described[group]; found.State != "Stable" || len(found.Members) != 1 || found.Members[0].ClientHost != "/127.0.0.1" || found.Members[0].ClientID != "reader" || !found.AssignedPartitions().Lookup(topic, 0) {
		return "", fmt.Errorf("description %+v", found)
	}
	lag, err := f.admin.Lag(ctx, group)
	if ours := lag[group]; err != nil || ours.Error() != nil || ours.Lag.Total() != 0 {
		return "", fmt.Errorf("lag %v, %v", ours.Lag, errors.Join(err, ours.Error()))
	}
	_, err = f.admin.DeleteGroup(ctx, group)
	if err := errors.Join(wanted(commit(3), kerr.UnknownMemberID, "another's commit"), wanted(err, kerr.NonEmptyGroup, "deleting a group that has members")); err != nil {
		return "", err
	}
	if err := consumer.LeaveGroupContext(ctx); err != nil {
		return "", err
	}
	listed, err := f.admin.ListGroups(ctx)
	if err != nil || listed[group].State != "Empty" {
		return "", fmt.Errorf("listed as %+v, %v", listed[group], err)
	}
	if err := commit(3); err != nil {
		return "", err
	}
	fetched, err := f.admin.FetchOffsets(ctx, group)
	found, _ := fetched.Lookup(topic, 0)
	if err = errors.Join(err, contract.Same(found.At, 3, "committed")); err != nil {
		return "", err
	}
	deleted, err := f.admin.DeleteOffsets(ctx, group, kadm.TopicsSet{topic: {0: {}}})
	if err = errors.Join(err, deleted.Error()); err != nil {
		return "", err
	}
	fetched, err = f.admin.FetchOffsets(ctx, group)
	if _, there := fetched.Lookup(topic, 0); there || err != nil {
		return "", fmt.Errorf("a deleted offset is there, %v", err)
	}
	if err := commit(5); err != nil {
		return "", err
	}
	if _, err := f.admin.DeleteGroup(ctx, group); err != nil {
		return "", err
	}
	_, err = f.admin.DeleteGroup(ctx, group)
	return "", wanted(err, kerr.GroupIDNotFound, "deleting a group that is no more")
}

func (f franz) quotas() (string, error) {
	name := contract.Topic("limited")
	entity := kadm.ClientQuotaEntity{{Type: "client-id", Name: &name}}
	for _, remove := range []bool{false, true} {
		answers, err := f.admin.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{Entity: entity, Ops: []kadm.AlterClientQuotaOp{{Key: "consumer_byte_rate", Value: 1e6, Remove: remove}}}})
		for _, answer := range answers {
			err = errors.Join(err, answer.Err)
		}
		if err != nil {
			return "", err
		}
		err = contract.Within(5*time.Second, fmt.Sprintf("the quota, removed %t", remove), func() (bool, error) {
			found, err := f.admin.DescribeClientQuotas(ctx, true, []kadm.DescribeClientQuotaComponent{{Type: "client-id", MatchName: &name, MatchType: kmsg.QuotasMatchTypeExact}})
			set := len(found) == 1 && len(found[0].Values) == 1 && found[0].Values[0].Value == 1e6
			return set != remove, err
		})
		if err != nil {
			return "", err
		}
	}
	return "", nil
}
