package atrium

// Reason says why a Socket or a Client was disconnected. A name means the same at both ends. The
// strings are those of Socket.IO's server where it has one.
type Reason string

// The reasons of both ends.
const (
	// ReasonServerDisconnect means that the server disconnected the socket, with Disconnect or the
	// like. Socket.IO's client has "io server disconnect" for it. A Client stays disconnected.
	ReasonServerDisconnect Reason = "server namespace disconnect"
	// ReasonClientDisconnect means that the client left the namespace, with Client.Close or
	// Socket.IO's disconnect(). Socket.IO's client has "io client disconnect" for it.
	ReasonClientDisconnect Reason = "client namespace disconnect"
	// ReasonPingTimeout means that nothing was received from the other end for too long; see
	// Timeouts.Ping.
	ReasonPingTimeout Reason = "ping timeout"
	// ReasonTransportClose means that the other end closed the connection, or it was cut.
	ReasonTransportClose Reason = "transport close"
	// ReasonTransportError means that the network failed, or the other end broke RFC 6455.
	ReasonTransportError Reason = "transport error"
	// ReasonMessageTooBig means that the other end sent a message over Limits.MessageBytes, over
	// DialOptions.MaxMessageBytes, or over 64 KiB before it was accepted.
	ReasonMessageTooBig Reason = "message too big"
	// ReasonParseError means that the other end sent what the protocol has no form for.
	ReasonParseError Reason = "parse error"
)

// The reasons of a Socket alone.
const (
	// ReasonShutdown means that Hub.Shutdown was called.
	ReasonShutdown Reason = "server shutting down"
	// ReasonForcedServerClose means that the hub gave up on the client: a handler panicked, or a
	// message took longer than Timeouts.Message, or events came far faster than they were handled,
	// or than Limits.EventsPerSecond allows.
	ReasonForcedServerClose Reason = "forced server close"
	// ReasonReplaced means that a later client of the same user has taken the socket's place; see
	// Options.ReplaceOldest.
	ReasonReplaced Reason = "connected elsewhere"
	// ReasonSlowConsumer means that the client does not read fast enough; see Limits.QueuedBytes.
	ReasonSlowConsumer Reason = "slow consumer"
)

// allReasons are those of both, in an order for counters.
var allReasons = [...]Reason{
	ReasonServerDisconnect, ReasonClientDisconnect, ReasonPingTimeout, ReasonTransportClose, ReasonTransportError,
	ReasonMessageTooBig, ReasonParseError, ReasonShutdown, ReasonForcedServerClose, ReasonReplaced,
	ReasonSlowConsumer,
}
