package atrium

import (
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestOptionsDefaults(t *testing.T) {
	got := Options{}.normalize()
	want := Options{
		PingInterval:   25 * time.Second,
		PingTimeout:    20 * time.Second,
		ConnectTimeout: 45 * time.Second,
		MessageTimeout: 60 * time.Second,
		CallTimeout:    10 * time.Second,
		CloseTimeout:   30 * time.Second,
		MaxMessageSize: 1 << 20,
		MaxAttachments: 10,
		MaxQueued:      4 << 20,
		MaxQueuedTotal: noBound,
		MaxRooms:       1000,
		MaxInboxEvents: 256,
		MaxInboxBytes:  1 << 20,
		Logger:         slog.Default(),

		MaxConnections:          noBound,
		MaxConnectionsPerClient: noBound,
		MaxPending:              10_000,
		CompressionLevel:        1,
		CompressionThreshold:    512,
		Recovery:                Recovery{MaxBytes: 16 << 20},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if again := got.normalize(); !reflect.DeepEqual(again, got) {
		t.Errorf("normalized twice: %+v", again)
	}
}

// Each numeric field is kept if it is set, and makes New panic with its name if it is negative.
func TestOptionsNumbers(t *testing.T) {
	fields := reflect.TypeFor[Options]()
	numbers := 0
	for i := range fields.NumField() {
		field := fields.Field(i)
		if field.Type.Kind() != reflect.Int && field.Type.Kind() != reflect.Int64 {
			continue
		}
		numbers++
		t.Run(field.Name, func(t *testing.T) {
			var set, negative Options
			reflect.ValueOf(&set).Elem().Field(i).SetInt(7)
			if got := reflect.ValueOf(set.normalize()).Field(i).Int(); got != 7 {
				t.Errorf("7 became %d", got)
			}
			defer func() {
				if p, ok := recover().(string); !ok || !strings.Contains(p, "Options."+field.Name+" is negative") {
					t.Errorf("New panicked with %q", p)
				}
			}()
			reflect.ValueOf(&negative).Elem().Field(i).SetInt(-1)
			New(negative)
		})
	}
	if numbers != 18 {
		t.Errorf("%d numeric options: is the new one normalized?", numbers)
	}
}

// The clock's grain keeps every deadline within an eighth of what it was set to.
func TestOptionsTick(t *testing.T) {
	for _, o := range []Options{
		{},
		{PingInterval: time.Hour},
		{PingInterval: time.Hour, CallTimeout: 100 * time.Millisecond},
		{PingTimeout: 50 * time.Millisecond},
		{ConnectTimeout: time.Second},
		{MessageTimeout: time.Second},
	} {
		o = o.normalize()
		tick := time.Duration(o.sessionConfig().clock.tick)
		for _, d := range []time.Duration{o.PingInterval, o.PingTimeout, o.ConnectTimeout, o.MessageTimeout, o.CallTimeout} {
			if 2*tick > d/8 {
				t.Errorf("%+v: two ticks of %v are too coarse for %v", o, tick, d)
			}
		}
	}
}
