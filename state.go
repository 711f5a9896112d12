package atrium

// State is the state of a Conn or a Client, in the words of the WebSocket API's readyState. Upgrade
// and Dial return a Conn that is StateOpen already; Client.State says what the states of a Client
// mean.
type State int32

// The four states and their readyState numbers.
const (
	StateConnecting State = iota // of a Client: it has no connection yet, or none any more
	StateOpen
	StateClosing // a close frame was sent, received, or both
	StateClosed  // the network connection is closed
)

// String returns the WebSocket API's name for the state.
func (s State) String() string {
	switch s {
	case StateConnecting:
		return "CONNECTING"
	case StateOpen:
		return "OPEN"
	case StateClosing:
		return "CLOSING"
	case StateClosed:
		return "CLOSED"
	}
	return "unknown state"
}
