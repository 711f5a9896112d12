package atrium

import (
	"slices"
	"testing"
)

// corners are the corner cases of the RFCs and of Socket.IO, by number, with the tests that show what Atrium does in
// each. Unless the row itself says otherwise they run over net.Pipe and TCP, most of them over TLS as well, and those of
// the wire in both roles: server and client share one table of bytes and what must become of them. A test of several
// rows begins the names of its cases with the number: go test -run 'TestReadViolation/.*/.*/12_'.
var corners = []struct {
	row  int
	name string
	test func(*testing.T)
}{
	{1, "top bit of a length", TestReadViolation},
	{1, "top bit of a length, allocations", TestHugeLength},
	{2, "length 2^62", TestReadViolation},
	{3, "16 MB declared, little sent", TestReadMemory},
	{4, "fragments over the limit", TestReadViolation},
	{5, "length not minimal", TestReadViolation},
	{6, "unmasked frame from a client", TestReadViolation},
	{7, "masked frame from a server", TestReadViolation},
	{8, "reserved bits", TestReadViolation},
	{9, "RSV1 on control frames and continuations", TestReadViolation},
	{9, "RSV1 on control frames and continuations, compressed", TestDeflateReservedBits},
	{10, "reserved opcodes", TestReadViolation},
	{11, "control frames fragmented or long", TestReadViolation},
	{12, "fragments out of order", TestReadViolation},
	{13, "ping within a message", TestReadPingWithinMessage},
	{14, "ping payload echoed", TestReadPingEchoed},
	{15, "unsolicited pongs", TestReadUnsolicitedPong},
	{16, "ping flood", TestReadPingFlood},
	{17, "bytes one at a time, frames in one segment", TestReadPiecemeal},
	{17, "header cut anywhere", TestCutHeaders},
	{17, "stream cut anywhere", TestReadEveryCut},
	{18, "zero-length messages and fragments", TestReadEmpty},
	{19, "invalid UTF-8", TestReadNotUTF8},
	{19, "truncated UTF-8", TestReadTruncatedUTF8},
	{20, "rune split over fragments", TestSplitRunes},
	{21, "UTF-8 after inflating", TestDeflateUTF8},
	{22, "masking keys", TestMaskingKeys},
	{23, "mask key zero", TestReadZeroMask},
	{24, "empty close", TestCloseReceived},
	{25, "close payload of one byte", TestCloseReceived},
	{26, "close codes that must not be sent", TestCloseReceived},
	{27, "close codes of IANA", TestCloseReceived},
	{28, "close codes of applications", TestCloseReceived},
	{29, "close reason not UTF-8", TestCloseReceived},
	{30, "long close reason", TestClose},
	{31, "close codes refused to the application", TestCloseRefusesCodes},
	{32, "data after a close frame", TestCloseIsLast},
	{33, "both close at once", TestCloseAtOnce},
	{33, "close not answered, by the clock", TestCloseTakesNoLonger},
	{33, "close not answered or not read, on a network", TestCloseUnanswered},
	{34, "queued messages before Close", TestCloseDeliversWhatIsQueued},
	{34, "queued messages before the answer", TestQueuedMessagesPrecedeTheAnswer},
	{35, "connection cut", TestCut},
	{35, "connection cut, OnDisconnect", TestCutDisconnectsOnce},
	{36, "HTTP 1.0", TestUpgradeRefuses},
	{37, "POST", TestUpgradeRefuses},
	{38, "Connection: keep-alive, Upgrade", TestUpgradeAccepts},
	{39, "Connection: notupgrade", TestUpgradeRefuses},
	{40, "Upgrade: websocket, h2c", TestUpgradeAccepts},
	{40, "Upgrade to something else", TestUpgradeRefuses},
	{41, "key absent or malformed", TestUpgradeRefuses},
	{41, "key with other trailing bits", TestUpgradeAccepts},
	{42, "version", TestUpgradeRefuses},
	{43, "origins", TestUpgradeOrigin},
	{44, "subprotocols", TestUpgradeSubprotocol},
	{45, "wrong answers to a client", TestDialAnswers},
	{45, "subprotocol that was not requested", TestDialUnofferedSubprotocol},
	{46, "response splitting", TestUpgradeResponseHeaders},
	{46, "request splitting", TestDialSplitting},
	{47, "early data, server", TestUpgradeEarlyData},
	{47, "early data, client", TestDialEarlyFrames},
	{48, "GET with a body", TestUpgradeRefuses},
	{48, "GET with an empty body", TestUpgradeAccepts},
	{49, "slow-loris, by the clock", TestSlowLoris},
	{49, "slow-loris, on a network", TestSlowLorisTCP},
	{49, "large headers", TestLargeHeaders},
	{50, "extensions", TestUpgradeAccepts},
	{51, "wrapped and hijacked ResponseWriters", TestUpgradeThroughMiddleware},
	{52, "HTTP 2", TestUpgradeHTTP2},
	{52, "HTTP 2, hub", TestHubHTTP2},
	{53, "Accept refuses", TestAcceptRefuses},
	{53, "Accept comes before the 101", TestAcceptFirst},
	{54, "token expiry, by the clock", TestSessionDisconnectAt},
	{54, "token expiry and logout under a heartbeat", TestExpiryUnderHeartbeat},
	{55, "connections", TestMaxConnections},
	{55, "connections of a client", TestMaxConnectionsPerClient},
	{55, "messages", TestSessionMessageSize},
	{55, "messages, to the byte", TestSessionMessageBounds},
	{55, "a compressed message before connect", TestDeflateBeforeConnect},
	{56, "bomb", TestDeflateBomb},
	{57, "invalid deflate data", TestDeflateInvalid},
	{58, "offers that are declined", TestDeflateOffers},
	{59, "client_max_window_bits", TestDeflateOffers},
	{60, "quoted values", TestDeflateOffers},
	{61, "no context takeover", TestDeflateOffers},
	{62, "windows", TestDeflateOffers},
	{63, "empty messages, tails, BFINAL", TestDeflateTails},
	{64, "fragments, uncompressed messages between", TestDeflateFragments},
	{64, "stream cut anywhere", TestDeflateEveryCut},
	{65, "context", TestDeflateContext},
	{66, "answers to a client", TestDeflateAnswers},
	{67, "malformed envelopes", TestBadInput},
	{67, "any bytes as an envelope", TestAnyEnvelope},
	{68, "nesting depth and array lengths", TestEnvelopeBounds},
	{69, "acks that nobody waits for", TestAckIgnored},
	{69, "ack after a time-out or a cancel", TestCallContext},
	{69, "ack after the disconnect", TestCallDisconnected},
	{70, "huge and negative ids", TestBadIDs},
	{70, "duplicate ids", TestDuplicateIDs},
	{71, "reserved event names", TestReservedNames},
	{72, "panic in a handler", TestPanics},
	{72, "panic in a message's methods", TestPanicsInMessages},
	{73, "join and leave racing", TestLastMemberRaces},
	{73, "join after disconnect", TestRoomsAroundAConnection},
	{74, "publish inside a handler", TestEmitInsideHandlers},
	{74, "broadcast during shutdown", TestShutdownRaces},
	{74, "leave during a broadcast", TestLeaveDuringBroadcast},
	{75, "slow consumer, on a network", TestSessionSlowConsumer},
	{75, "slow consumer, to the byte and by the clock", TestSessionSlowConsumerPolicy},
	{75, "slow but steady", TestSessionSlowButSteady},
	{75, "Emit never waits", TestSessionStalled},
	{76, "own message back from the Bus, outage of the Bus", TestBus},
	{77, "shutdown", TestShutdown},
	{77, "shutdown honours its context", TestShutdownHonoursContext},
	{77, "shutdown with a stalled client", TestShutdownWithStalledClient},
	{78, "jitter, to its end", TestBackoffSpreads},
	{78, "a crowd comes back", TestClientsSpread},
	{78, "when to try again, by the clock", TestClientSchedule},
	{78, "refused", TestClientRefused},
	{78, "refused when it comes back", TestClientRefusedLater},
	{78, "a context that ends", TestClientConnectContext},
	{78, "whatever ends a connection; rooms rejoined", TestClientReconnects},
	{78, "pending calls", TestClientRetries},
	{78, "nothing is left", TestClientClose},
	{79, "pings, by the clock", TestSessionPings},
	{79, "ping time-out, by the clock", TestSessionPingTimeout},
	{79, "any byte is life", TestSessionAnyByteIsLife},
	{79, "message time-out, by the clock", TestSessionMessageTimeout},
	{79, "dribbled messages", TestSessionDribbles},
	{79, "suspended while the hub does not read", TestInboxSuspendsTheHeartbeat},
	{79, "time-outs on a network", TestSessionTimeouts},
	{80, "room names, told to a client", TestBadRooms},
	{80, "room names", TestJoinRefuses},
	{80, "ten thousand rooms", TestManyRooms},
	{81, "logs", TestLogEscapes},
	{81, "logs of panics", TestPanicsInMessages},
}

func TestCornersAreComplete(t *testing.T) {
	var want, got []int
	for row := 1; row <= 81; row++ {
		want = append(want, row)
	}
	for _, c := range corners {
		if c.test == nil {
			t.Errorf("row %d, %s, has no test", c.row, c.name)
		}
		got = append(got, c.row)
	}
	if !slices.Equal(slices.Compact(got), want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
