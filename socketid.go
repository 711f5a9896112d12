package atrium

import (
	"crypto/rand"
	"encoding/base64"
	"hash/crc32"
)

// A socket id is 20 characters of the base64url alphabet: five that name the node, eleven random
// ones, and a checksum of four.
//
// To takes socket ids and names of rooms. If a room could have the name of a socket id, its members
// would receive what is meant for that socket. The checksum tells ids from names of rooms, so that
// Join can refuse such a name. Looking the socket up instead would not do: it may be on a node that
// is not known yet. Of all other names of 20 bytes one in 17 million is taken for an id.
const (
	nodeIDLength   = 5
	idCheckLength  = 4
	socketIDLength = 20
)

// newSocketID returns an unused id for a socket of the node.
func newSocketID(node string) string {
	id := node + randomText(socketIDLength-nodeIDLength-idCheckLength)
	check := idCheck(id)
	return id + string(check[:])
}

// nodeOfID returns the node that a socket id names. ok is false if name is not a socket id.
func nodeOfID(name string) (node string, ok bool) {
	if len(name) != socketIDLength || name[0] == userMark[0] {
		return "", false
	}
	const checked = socketIDLength - idCheckLength
	check := idCheck(name[:checked])
	if name[checked:] != string(check[:]) {
		return "", false
	}
	return name[:nodeIDLength], true
}

// idCheck returns the checksum of s.
func idCheck(s string) (check [idCheckLength]byte) {
	sum := crc32.ChecksumIEEE([]byte(s))
	base64.RawURLEncoding.Encode(check[:], []byte{byte(sum >> 16), byte(sum >> 8), byte(sum)})
	return check
}

// randomText returns n random characters of the base64url alphabet.
func randomText(n int) string {
	b := make([]byte, (n*6+7)/8)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)[:n]
}
