package fleet

import (
	"strings"
	"testing"
)

// fakeEvents is how many events an emitter has emitted to a room, whichever.
type fakeEvents map[int]uint64

func (f fakeEvents) begun(emitter, _ int) uint64 { return f[emitter] }
func (f fakeEvents) done(emitter, _ int) uint64  { return f[emitter] }

// play lets an account see a script, and returns its first error. The words: "+1:5" server 1 has
// emitted its events up to 5; "hello1a" a connection to server 1 as socket a; "join", "joined-a",
// "leave", "left"; "1:4" event 4 of server 1 has come; "complete".
func play(bus bool, script string) error {
	emitted := fakeEvents{}
	a := newAccount(emitted, bus)
	for word := range strings.FieldsSeq(script) {
		var err error
		event := func(s string) (emitter int, number uint64) { return int(s[0] - '0'), uint64(s[2] - '0') }
		switch {
		case word[0] == '+':
			emitter, number := event(word[1:])
			emitted[emitter] = number
		case strings.HasPrefix(word, "hello"):
			_, err = a.Hello(int(word[5]-'0'), word[6:])
		case word == "join":
			a.Join(7)
		case strings.HasPrefix(word, "joined-"):
			a.Joined(7, word[7:])
		case word == "leave":
			a.Leave(7, 1)
		case word == "left":
			err = a.Left(1)
		case word == "complete":
			err = a.Complete()
		default:
			emitter, number := event(word)
			err = a.Told(emitter, number, 7)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestAccount: an account has an error at the first event that is lost, doubled, out of order or
// late, and at no other.
func TestAccount(t *testing.T) {
	const joined = "hello1a +1:3 join joined-a "
	for name, test := range map[string]struct {
		bus    bool
		script string
		want   string
	}{
		"all":                                {script: joined + "1:4 1:5 +1:5 complete"},
		"all of a visit":                     {script: joined + "+1:5 1:4 leave +1:6 1:5 left +1:8 complete"},
		"one that came during the leave":     {script: joined + "+1:5 1:4 leave +1:6 1:5 1:6 left complete"},
		"one that came during the join":      {script: "hello1a +1:3 join +1:4 1:4 joined-a 1:5 +1:5 complete"},
		"the first lost":                     {script: joined + "1:5", want: "lost"},
		"the first lost, during the join":    {script: "hello1a +1:3 join +1:6 1:4 joined-a 1:6", want: "lost"},
		"one lost":                           {script: joined + "1:4 1:6", want: "lost"},
		"the last lost":                      {script: joined + "1:4 +1:5 complete", want: "lost"},
		"all lost":                           {script: joined + "+1:5 complete", want: "lost"},
		"the last of a visit lost":           {script: joined + "1:4 +1:5 leave left", want: "lost"},
		"a visit lost":                       {script: joined + "+1:5 leave left", want: "lost"},
		"the end of a visit lost":            {script: joined + "leave complete", want: "lost"},
		"doubled":                            {script: joined + "1:4 1:4", want: "doubled"},
		"doubled, later":                     {script: joined + "1:4 1:5 1:4", want: "doubled"},
		"out of order":                       {script: joined + "1:5 1:4", want: "out of order"},
		"of before the join":                 {script: joined + "1:3", want: "doubled"},
		"late":                               {script: joined + "1:4 +1:4 leave left 1:5", want: "late"},
		"never joined":                       {script: "hello1a 1:1", want: "late"},
		"another socket":                     {script: joined + "1:4 +1:9 hello1b +1:9 join joined-b complete"},
		"another socket, still in the room":  {script: joined + "1:4 hello1b 1:5", want: "late"},
		"a join over two sockets":            {script: "hello1a join hello1b +1:2 joined-a 1:2 +1:4 joined-b 1:3 1:4 complete"},
		"the next server":                    {script: joined + "1:4 +1:5 +2:2 1:5 2:1 2:2 hello2a 2:3 +2:3 complete"},
		"the next server, end lost":          {script: joined + "1:4 +1:5 +2:2 2:1 hello2a", want: "lost"},
		"the next server, begin lost":        {script: joined + "1:4 +1:4 +2:2 2:2 hello2a", want: "lost"},
		"the next server, all lost":          {script: joined + "1:4 +1:4 hello2a +2:2 complete", want: "lost"},
		"the next server, doubled":           {script: joined + "1:4 +1:4 +2:2 2:1 2:2 hello2a 2:2", want: "doubled"},
		"the next server, one's end doubled": {script: joined + "1:4 +1:4 2:1 hello2a 1:4", want: "doubled"},
		"a bus, lost by it":                  {bus: true, script: joined + "2:1 2:3 1:4 +1:4 complete"},
		"a bus, doubled by it":               {bus: true, script: joined + "2:1 2:1", want: "doubled"},
		"a bus, lost by the server":          {bus: true, script: joined + "1:4 1:6", want: "lost"},
		"a bus, from before the join":        {bus: true, script: "hello1a +2:2 join joined-a 2:3 2:2 1:1 +1:1 complete"},
		"a bus, lost by it, replayed":        {bus: true, script: joined + "2:1 2:5 2:3 2:2 2:4 2:6"},
		"a bus, replayed twice":              {bus: true, script: joined + "2:1 2:5 2:3 2:3", want: "doubled"},
		"a bus, replayed when it is there":   {bus: true, script: joined + "+1:3 2:1 2:5 hello2a 2:3", want: "out of order"},
		"a bus, the next server":             {bus: true, script: joined + "+1:3 2:1 +2:4 2:3 hello2a 2:5 2:6 +2:6 complete"},
		"a bus, lost by the next server":     {bus: true, script: joined + "+1:3 2:1 hello2a 2:2 2:4", want: "lost"},
	} {
		err := play(test.bus, test.script)
		if got := ""; err != nil {
			got = err.Error()
			if test.want == "" || !strings.Contains(got, test.want) {
				t.Errorf("%s: %s: got %q, want %q", name, test.script, got, test.want)
			}
		} else if test.want != "" {
			t.Errorf("%s: %s: no error, want %q", name, test.script, test.want)
		}
	}
}
