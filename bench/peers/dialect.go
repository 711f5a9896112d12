package main

// A dialect is how clients speak to a server.
type dialect struct {
	query    string // of the handshake's request
	greeting []word // after the handshake
	// What is around the application's data in a call, in its answer, and in what is said to a
	// room.
	call, answer, said envelope
}

// A word is what a client sends, or nothing, and how the message begins that it then waits for.
type word struct{ send, expect string }

var (
	// bare is for servers that take messages as they are.
	bare = dialect{}

	// homeRoom and homeCall are for servers that programs have made themselves.
	homeRoom = dialect{greeting: []word{{"", welcome}}}
	homeCall = dialect{
		call:   envelope{`{"event":"echo","data":{"text":"`, `"},"id":1}`},
		answer: envelope{`{"id":1,"data":{"text":"`, `"}}`},
	}
	homeCallLine = dialect{call: homeCall.call, answer: envelope{homeCall.answer.before, homeCall.answer.after + "\n"}}

	// plain is Atrium's plain protocol.
	plain = dialect{
		greeting: []word{{"", `{"event":"connect"`}},
		call:     envelope{`{"event":"echo","data":{"text":"`, `"},"id":1}`},
		answer:   envelope{`{"id":1,"data":{"text":"`, `"}}`},
		said:     envelope{`{"event":"said","data":"`, `"}`},
	}

	socketIO = dialect{
		query:    "?EIO=4&transport=websocket",
		greeting: []word{{"", "0{"}, {"40", "40{"}},
		call:     envelope{`421["echo",{"text":"`, `"}]`},
		answer:   envelope{`431[{"text":"`, `"}]`},
		said:     envelope{`42["said","`, `"]`},
	}

	// centrifugal is centrifuge's protocol in JSON.
	centrifugal = dialect{
		greeting: []word{{`{"id":1,"connect":{}}`, `{"id":1,"connect":{`}},
		call:     envelope{`{"id":2,"rpc":{"method":"echo","data":{"text":"`, `"}}}`},
		answer:   envelope{`{"id":2,"rpc":{"data":{"text":"`, `"}}}`},
		said:     envelope{`{"push":{"channel":"room","pub":{"data":"`, `"}}}`},
	}
)
