package guide

import "github.com/atrium-go/atrium"

func newBigHub() *atrium.Hub {
	// [big hub]
	h := atrium.New(atrium.Options{
		Limits: atrium.Limits{
			MessageBytes: 16 << 20, // what clients may send
			InboxBytes:   16 << 20, // or the second big event waits, unread, until the first is handled
			QueuedBytes:  32 << 20, // what may wait for one client
		},
	})
	// [end]
	return h
}

// [big client]

// bigOptions are those of a client that takes, and sends, 16 MiB.
var bigOptions = atrium.ClientOptions{
	Dial: atrium.DialOptions{
		MaxMessageBytes: 16 << 20, // what the hub may send
		MaxQueuedBytes:  32 << 20, // what may wait while connected
	},
	MaxOfflineBytes: 32 << 20, // and while not
}

// [end]
