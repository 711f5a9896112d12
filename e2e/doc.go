// Package e2e tests Atrium end to end: the real chat example, started as a program of its own, used by people in a real
// browser; and compression against Node: its zlib, and npm's ws as client and as server. It is a module apart, so that
// what drives the browser never reaches a user of Atrium.
//
// The tests need Chromium or Chrome and Node in the PATH and nothing beyond the loopback interface:
//
//	npm ci                   # once
//	go test -count=1 ./...   # the test cache does not see when the chat has changed
//	ATRIUM_SCREENSHOTS=/tmp/shots go test -count=1 -run Busy ./...   # and look at what they saw
package e2e
