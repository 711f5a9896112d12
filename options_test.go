package atrium

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestOptionsDefaults(t *testing.T) {
	got := Options{}.normalize()
	want := Options{
		Limits: Limits{
			Connections:          noBound,
			ConnectionsPerClient: noBound,
			Pending:              10_000,
			MessageBytes:         1 << 20,
			Attachments:          10,
			Rooms:                1000,
			SocketsPerUser:       noBound,
			Presence:             10_000,
			PresencePerSecond:    20,
			InboxEvents:          256,
			InboxBytes:           1 << 20,
			Calls:                1000,
			QueuedBytes:          4 << 20,
			TotalQueuedBytes:     noBound,
		},
		Timeouts: Timeouts{
			PingInterval: 25 * time.Second,
			Ping:         20 * time.Second,
			Connect:      45 * time.Second,
			Message:      60 * time.Second,
			Call:         10 * time.Second,
			Close:        30 * time.Second,
			Drain:        15 * time.Second,
		},
		DrainRate: 1000,
		Presence:  PresenceOptions{Interval: 100 * time.Millisecond, Grace: 2 * time.Second},
		Logger:    slog.Default(),
		Recovery:  Recovery{MaxBytes: 16 << 20},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if again := got.normalize(); !reflect.DeepEqual(again, got) {
		t.Errorf("normalized twice: %+v", again)
	}
}

// numbers calls visit with each numeric field of a struct of options and of the structs in it, by
// its path.
func numbers(options reflect.Value, path string, visit func(path string, number reflect.Value)) {
	for i := range options.NumField() {
		name := path + options.Type().Field(i).Name
		switch field := options.Field(i); field.Kind() {
		case reflect.Struct:
			numbers(field, name+".", visit)
		case reflect.Int, reflect.Int64, reflect.Float64:
			visit(name, field)
		}
	}
}

// numbersOf counts the numeric fields of a struct of options. Each is kept by normalize if it is
// set, and refused with its name if it is negative.
func numbersOf[T any](t *testing.T, normalize func(T) T, refused func(options T, want string)) (n int) {
	t.Helper()
	var each T
	numbers(reflect.ValueOf(&each).Elem(), "", func(path string, _ reflect.Value) {
		n++
		var set, negative T
		at := func(options *T) (number reflect.Value) {
			numbers(reflect.ValueOf(options).Elem(), "", func(p string, field reflect.Value) {
				if p == path {
					number = field
				}
			})
			return number
		}
		if number := at(&set); number.CanFloat() {
			number.SetFloat(1)
			at(&negative).SetFloat(-1)
		} else {
			number.SetInt(7)
			at(&negative).SetInt(-1)
		}
		if normalized := normalize(set); !at(&normalized).Equal(at(&set)) {
			t.Errorf("%s: %v became %v", path, at(&set), at(&normalized))
		}
		refused(negative, path+" is ")
	})
	return n
}

// What is negative is refused, and named: by New and NewClient, which panic, and by Upgrade and
// Dial.
func TestOptionsNumbers(t *testing.T) {
	hub := numbersOf(t, Options.normalize, func(o Options, want string) {
		wantPanic(t, want, "atrium: Options."+want, func() { New(o) })
	})
	upgrade := numbersOf(t, same, func(o UpgradeOptions, want string) {
		w := httptest.NewRecorder()
		_, err := Upgrade(w, httptest.NewRequest("GET", "/", nil), o)
		if want = "UpgradeOptions." + want; err == nil || !strings.Contains(err.Error(), want) || w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %v, and %d %q", want, err, w.Code, w.Body)
		}
	})
	dial := numbersOf(t, same, func(o DialOptions, want string) {
		if _, _, err := Dial(t.Context(), "ws://localhost/", o); err == nil || !strings.Contains(err.Error(), "DialOptions."+want) {
			t.Errorf("%s: %v", want, err)
		}
	})
	client := numbersOf(t, func(o ClientOptions) ClientOptions {
		handshake := o.Dial.HandshakeTimeout
		o.Dial.HandshakeTimeout = 0 // refused, see TestClientOptionsRefused
		o = o.normalize()
		o.Dial.HandshakeTimeout = handshake
		return o
	}, func(o ClientOptions, want string) {
		wantPanic(t, want, "atrium: ClientOptions."+want, func() { NewClient("http://localhost", o) })
	})
	if hub != 30 || upgrade != 5 || dial != 6 || client != 16 {
		t.Errorf("%d, %d, %d, %d numeric options: is the new one normalized?", hub, upgrade, dial, client)
	}
}

func same[T any](v T) T { return v }

// The clock's grain keeps every deadline within an eighth of what it was set to.
func TestOptionsTick(t *testing.T) {
	for _, o := range []Options{
		{},
		{Timeouts: Timeouts{PingInterval: time.Hour}},
		{Timeouts: Timeouts{PingInterval: time.Hour, Call: 100 * time.Millisecond}},
		{Timeouts: Timeouts{Ping: 50 * time.Millisecond}},
		{Timeouts: Timeouts{Connect: time.Second}},
		{Timeouts: Timeouts{Message: time.Second}},
	} {
		o = o.normalize()
		tick := time.Duration(newWheel(o.tick()).tick)
		for _, d := range []time.Duration{o.Timeouts.PingInterval, o.Timeouts.Ping, o.Timeouts.Connect, o.Timeouts.Message, o.Timeouts.Call} {
			if 2*tick > d/8 {
				t.Errorf("%+v: two ticks of %v are too coarse for %v", o, tick, d)
			}
		}
	}
}
