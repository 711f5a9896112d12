// Package e2e tests Atrium end to end: the real examples, started as programs of their own, used by
// people in a real browser; client.js in that browser, and the Go client, against a hub and against
// Socket.IO's own server; Socket.IO's own client, from npm, in Node and in the browser, and one in
// Python; and compression against Node: its zlib, and npm's ws as client and as server. It is a
// module apart, so that what drives the browser never reaches a user of Atrium.
//
// The tests need Chromium or Chrome and Node in the PATH, Debian's nginx, caddy and haproxy for
// those of proxies, and nothing beyond the loopback interface.
// The one with Python is skipped unless Debian's python3-socketio, python3-requests and
// python3-websocket are there:
//
//	npm ci                   # once
//	go test -count=1 ./...   # the test cache does not see when the chat has changed
//	ATRIUM_SCREENSHOTS=/tmp/shots go test -count=1 -run Busy ./...   # and look at what they saw
package e2e
