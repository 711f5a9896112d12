package atrium

// Reason says why a Socket or a Client was disconnected. A name means the same at both ends. The
// strings are those of Socket.IO's server where it has one.
type Reason string

// The reasons of both ends.
const (
	// ReasonServerDisconnect: the server disconnected the socket, with Disconnect or the like.
	// Socket.IO's client has "io server disconnect" for it. A Client stays disconnected.
	ReasonServerDisconnect Reason = "server namespace disconnect"
	// ReasonClientDisconnect: the client left the namespace, with Client.Close or Socket.IO's
	// disconnect(). Socket.IO's client has "io client disconnect" for it.
	ReasonClientDisconnect Reason = "client namespace disconnect"
	// ReasonPingTimeout: nothing was received from the other end for too long; see Timeouts.Ping.
	ReasonPingTimeout Reason = "ping timeout"
	// ReasonTransportClose: the other end closed the connection, or it was cut.
	ReasonTransportClose Reason = "transport close"
	// ReasonTransportError: the network failed, or the other end broke RFC 6455.
	ReasonTransportError Reason = "transport error"
	// ReasonMessageTooBig: the other end sent a message over Limits.MessageBytes, over
	// DialOptions.MaxMessageBytes, or over 64 KiB before it was accepted.
	ReasonMessageTooBig Reason = "message too big"
	// ReasonParseError: the other end sent what the protocol has no form for.
	ReasonParseError Reason = "parse error"
)

// The reasons of a Socket alone.
const (
	// ReasonShutdown: Hub.Shutdown.
	ReasonShutdown Reason = "server shutting down"
	// ReasonForcedServerClose: the hub gave up on the client: a handler panicked, or a message took
	// longer than Timeouts.Message, or events came far faster than they were handled.
	ReasonForcedServerClose Reason = "forced server close"
	// ReasonSlowConsumer: the client does not read fast enough; see Limits.QueuedBytes.
	ReasonSlowConsumer Reason = "slow consumer"
)
