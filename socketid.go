package atrium

import (
	"crypto/rand"
	"encoding/base64"
	"hash/crc32"
)

// Socket ids are 20 characters of the base64url alphabet: five of the node, eleven random, four that check the others.
//
// To takes ids and the names of rooms alike, so that a client in a room that is named like somebody's id would get that
// one's mail. Therefore an id can be told from other names by itself, and is no name for a room. It would not do to look
// for the socket instead: its node may be one that has not been heard of yet. Of the other names of 20 bytes one in
// 17 million is taken for an id.
const (
	nodeIDLength   = 5
	idCheckLength  = 4
	socketIDLength = 20
)

// newSocketID returns an id that no other socket has.
func newSocketID(node string) string {
	id := node + randomText(socketIDLength-nodeIDLength-idCheckLength)
	check := idCheck(id)
	return id + string(check[:])
}

// nodeOfID returns the node whose socket has the id. It reports false for a name that is no socket's id.
func nodeOfID(name string) (node string, ok bool) {
	if len(name) != socketIDLength {
		return "", false
	}
	const checked = socketIDLength - idCheckLength
	check := idCheck(name[:checked])
	if name[checked:] != string(check[:]) {
		return "", false
	}
	return name[:nodeIDLength], true
}

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
