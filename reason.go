package atrium

// Reason says why a socket was disconnected. The strings are Socket.IO's where it has one.
type Reason string

// The reasons a socket disconnects for.
const (
	// ReasonServerDisconnect: Disconnect and its kin, of a Socket or a Target.
	ReasonServerDisconnect Reason = "server namespace disconnect"
	// ReasonClientDisconnect: the client left the namespace, with Socket.IO's disconnect().
	ReasonClientDisconnect Reason = "client namespace disconnect"
	// ReasonShutdown: Hub.Shutdown.
	ReasonShutdown Reason = "server shutting down"
	// ReasonPingTimeout: nothing was heard from the client for Timeouts.Ping after a ping.
	ReasonPingTimeout Reason = "ping timeout"
	// ReasonTransportClose: the client closed the connection, or it was cut.
	ReasonTransportClose Reason = "transport close"
	// ReasonTransportError: the network failed, or the client broke RFC 6455.
	ReasonTransportError Reason = "transport error"
	// ReasonMessageTooBig: the client sent a message over Limits.MessageBytes, or over 64 KiB before it was accepted.
	ReasonMessageTooBig Reason = "message too big"
	// ReasonParseError: the client sent what its protocol has no form for.
	ReasonParseError Reason = "parse error"
	// ReasonForcedServerClose: the hub gave up on the client: a handler panicked, or a message took longer than
	// Timeouts.Message, or events came far faster than they were handled.
	ReasonForcedServerClose Reason = "forced server close"
	// ReasonSlowConsumer: the client does not read fast enough; see Limits.QueuedBytes.
	ReasonSlowConsumer Reason = "slow consumer"
)
