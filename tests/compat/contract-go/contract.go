// Package contract is what client programs written in Go share; ../contract.py describes it, ../run the features.
package contract

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Time0 is the first record's time in the timestamps feature; one record a second after it.
const Time0 = 1_720_000_000_000

var Codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

type Header struct {
	Key   string
	Value []byte
}

// Record is one record as sent and as expected back; Time is 0 where the client chooses it.
type Record struct {
	Key, Value []byte
	Headers    []Header
	Time       int64
	Offset     int64
	Partition  int32
}

type Feature struct {
	Name string
	Run  func() (string, error)
}

// Skip is the error of a feature that the client does not have.
type Skip string

func (s Skip) Error() string { return string(s) }

// Program is a client: Send creates a topic and sends what values yields, record i to partition i modulo partitions.
type Program struct {
	Module string
	Client Client
	Send   func(topic string, partitions int, codec string, values func() ([]byte, bool)) (int, error)
	Member func(member *Member) error
	More   []Feature // of this client alone
}

func Bootstrap() string        { return os.Getenv("COMPAT_BOOTSTRAP") }
func Topic(name string) string { return os.Getenv("COMPAT_PREFIX") + "-" + name }
func Oversize() []byte         { b := make([]byte, 2_000_000); fill(b); return b }
func fill(b []byte) {
	for i, x := 0, uint32(1); i < len(b); i++ {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
}
func Since(start time.Time) float64 { return time.Since(start).Seconds() }

// Records are the first count records every program sends: key-<i> and the i-th line.
func Records(count int) []Record {
	text, err := os.ReadFile(os.Getenv("COMPAT_LINES"))
	if err != nil {
		panic(err)
	}
	lines := bytes.Split(text, []byte("\n"))
	if len(lines) > 2000 {
		lines = lines[:2000]
	}
	records := make([]Record, count)
	for i := range records {
		records[i] = Record{Key: []byte(fmt.Sprintf("key-%d", i)), Value: lines[i%len(lines)]}
	}
	return records
}

// Shapes are records as unlike each other as the format allows.
func Shapes() []Record {
	large := make([]byte, 900_000)
	for i := range large {
		large[i] = byte(i*31 + (i >> 8))
	}
	return []Record{
		{Key: []byte("plain"), Value: []byte("value")},
		{Value: []byte("null key")},
		{Key: []byte("tombstone")},
		{Key: []byte("empty value"), Value: []byte{}},
		{Key: []byte{}, Value: []byte("empty key")},
		{Key: []byte("headers"), Value: []byte("value"), Headers: []Header{{"a", []byte("1")}, {"b", []byte{}}, {"c", nil}, {"a", []byte("2")}, {"ümläut", []byte{0, 255}}}},
		{Headers: []Header{{"only", []byte("header")}}},
		{Key: []byte("large"), Value: large, Headers: []Header{{"size", []byte("900000")}}},
	}
}

// Digest is SHA-256 over keys and values in offset order, each with its length before it (2^32-1 for null).
type Digest struct {
	sha   hash.Hash
	Count int
}

func NewDigest() *Digest { return &Digest{sha: sha256.New()} }

func (d *Digest) Add(key, value []byte) {
	for _, part := range [][]byte{key, value} {
		length := uint32(len(part))
		if part == nil {
			length = 1<<32 - 1
		}
		d.sha.Write(binary.BigEndian.AppendUint32(nil, length))
		d.sha.Write(part)
	}
	d.Count++
}

func (d *Digest) Hex() string { return hex.EncodeToString(d.sha.Sum(nil)) }

func DigestOf(records []Record) string {
	digest := NewDigest()
	for _, record := range records {
		digest.Add(record.Key, record.Value)
	}
	return digest.Hex()
}

func Same(found, wanted any, what string) error {
	if a, b := fmt.Sprintf("%v", found), fmt.Sprintf("%v", wanted); a != b {
		return fmt.Errorf("%s: found %.200s, wanted %.200s", what, a, b)
	}
	return nil
}

// SameShape tells a null key or value from an empty one, which Same does not.
func SameShape(found, wanted Record) error {
	sameBytes := func(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
	if !sameBytes(found.Key, wanted.Key) || !sameBytes(found.Value, wanted.Value) || len(found.Headers) != len(wanted.Headers) {
		return fmt.Errorf("record %q: found key %.40q value %.40q %d headers", wanted.Key, found.Key, found.Value, len(found.Headers))
	}
	for i, header := range wanted.Headers {
		if found.Headers[i].Key != header.Key || !bytes.Equal(found.Headers[i].Value, header.Value) {
			return fmt.Errorf("record %q: found header %v, wanted %v", wanted.Key, found.Headers[i], header)
		}
	}
	return nil
}

// Within repeats attempt until it is true.
func Within(limit time.Duration, what string, attempt func() (bool, error)) error {
	for end := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		done, err := attempt()
		if done {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %v: %v", what, limit, err)
		}
	}
}

// Parked runs the parked feature: three times a record is sent while a fetch that may wait 30 s is parked.
func Parked(send func(Record) error, next func(limit time.Duration) (Record, error)) (string, error) {
	worst := time.Duration(0)
	for turn := range 3 {
		type ack struct {
			at  time.Time
			err error
		}
		acked := make(chan ack, 1)
		value := strconv.Itoa(turn)
		go func() {
			time.Sleep(2 * time.Second)
			err := send(Record{Key: []byte("parked"), Value: []byte(value)})
			acked <- ack{time.Now(), err}
		}()
		record, err := next(20 * time.Second)
		arrived := time.Now()
		if err != nil {
			return "", err
		}
		sent := <-acked
		if sent.err != nil {
			return "", sent.err
		}
		if err := Same(string(record.Value), value, "value"); err != nil {
			return "", err
		}
		worst = max(worst, arrived.Sub(sent.at))
	}
	if worst > 5*time.Second {
		return "", fmt.Errorf("a parked fetch was answered %v after the ack", worst)
	}
	return fmt.Sprintf("at most %d ms after the ack", worst.Milliseconds()), nil
}

func emit(line any) {
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
}

func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return strings.TrimPrefix(dependency.Version, "v")
		}
	}
	return "?"
}

func (p Program) features() {
	emit(map[string]string{"version": version(p.Module)})
	wanted := strings.Fields(os.Getenv("COMPAT_FEATURES"))
	for _, feature := range append(Features(p.Client), p.More...) {
		if len(wanted) > 0 && !slices.Contains(wanted, feature.Name) {
			continue
		}
		started := time.Now()
		type outcome struct {
			detail string
			err    error
		}
		done := make(chan outcome, 1)
		go func() {
			defer func() {
				if panicked := recover(); panicked != nil {
					done <- outcome{err: fmt.Errorf("panic: %v", panicked)}
				}
			}()
			detail, err := feature.Run()
			done <- outcome{detail, err}
		}()
		result := outcome{err: fmt.Errorf("no end within 60 s")}
		select {
		case result = <-done:
		case <-time.After(60 * time.Second):
		}
		var ok any = result.err == nil
		if result.err != nil {
			result.detail = result.err.Error()
			if _, skipped := result.err.(Skip); skipped {
				ok = nil
			}
		}
		emit(map[string]any{"feature": feature.Name, "ok": ok, "detail": fmt.Sprintf("%.500s", result.detail), "seconds": float64(time.Since(started).Milliseconds()) / 1000})
	}
}

// chunks yields whole lines up to 1024 bytes as one record, a longer line by itself.
func chunks(path string) func() ([]byte, bool) {
	file, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	reader, held, over := bufio.NewReaderSize(file, 1<<20), []byte(nil), false
	return func() ([]byte, bool) {
		for !over {
			line, err := reader.ReadBytes('\n')
			over = err == io.EOF
			if len(held) > 0 && len(held)+len(line) > 1024 && len(line) > 0 {
				part := held
				held = line
				return part, true
			}
			held = append(held, line...)
		}
		part := held
		held = nil
		return part, len(part) > 0
	}
}

func (p Program) digest(topic string, partition int32, count int, digest *Digest) error {
	reader, err := p.Client.Open(topic, map[int32]int64{partition: 0}, 0, false)
	if err != nil {
		return err
	}
	defer reader.Close()
	for digest.Count < count {
		records, err := reader.Next(min(1000, count-digest.Count), 20*time.Second)
		if err != nil {
			return err
		}
		for _, record := range records {
			digest.Add(record.Key, record.Value)
		}
	}
	return nil
}

func (p Program) Main() {
	switch os.Args[1] {
	case "features":
		p.features()
	case "digest":
		for _, argument := range os.Args[2:] {
			parts := strings.Split(argument, ":")
			partition, _ := strconv.Atoi(parts[1])
			count, _ := strconv.Atoi(parts[2])
			digest, line := NewDigest(), map[string]any{"topic": parts[0], "partition": partition}
			if err := p.digest(parts[0], int32(partition), count, digest); err != nil {
				line["count"], line["digest"], line["detail"] = -1, "", err.Error()
			} else {
				line["count"], line["digest"] = digest.Count, digest.Hex()
			}
			emit(line)
		}
	case "send":
		parts := strings.Split(os.Args[2], ":")
		partitions, _ := strconv.Atoi(parts[1])
		sent, err := p.Send(parts[0], partitions, os.Args[3], chunks(os.Args[4]))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		emit(map[string]any{"topic": parts[0], "sent": sent})
	case "member":
		if err := p.Member(NewMember(os.Args[2])); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "unknown command", os.Args[1])
		os.Exit(2)
	}
}
