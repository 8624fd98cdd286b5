package contract

import (
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
)

// Member holds the settings of a group's member, as ../groups.py tells them, and what it tells of itself.
type Member struct {
	Topic, Group, Protocol string
	Assignor, Instance     string // empty where the setting is null
	Pattern                bool
	ClientID               string        `json:"client_id"`
	SessionMs              int           `json:"session_ms"`
	HeartbeatMs            int           `json:"heartbeat_ms"`
	MetadataMs             int           `json:"metadata_ms"`
	Left                   chan struct{} `json:"-"` // closed when the member is to leave

	mutex sync.Mutex
	owned map[At]bool
}

// At is one partition.
type At struct {
	Topic     string
	Partition int32
}

func (at At) MarshalJSON() ([]byte, error) { return json.Marshal([]any{at.Topic, at.Partition}) }

func NewMember(settings string) *Member {
	member := &Member{Left: make(chan struct{}), owned: map[At]bool{}}
	if err := json.Unmarshal([]byte(settings), member); err != nil {
		panic(err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(member.Left)
	}()
	return member
}

// Owns takes note of partitions that came or went.
func (m *Member) Owns(topics map[string][]int32, owned bool) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for topic, partitions := range topics {
		for _, partition := range partitions {
			if owned {
				m.owned[At{topic, partition}] = true
			} else {
				delete(m.owned, At{topic, partition})
			}
		}
	}
	all := slices.SortedFunc(maps.Keys(m.owned), func(a, b At) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	emit(map[string]any{"owned": append([]At{}, all...)})
}

func (m *Member) Read(topic string, partition int32, offsets ...int64) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	emit(map[string]any{"read": At{topic, partition}, "offsets": offsets})
}

func (m *Member) Refused(err error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	emit(map[string]any{"refused": err.Error()})
}
