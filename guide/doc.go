// Package guide has the snippets of the documents in the directory above: GUIDE.md, README.md,
// CLUSTER.md, SOCKETIO.md, SECURITY.md and RUNNING.md show parts of these files, and a test checks
// that they still do. What stands between a line with a name in brackets and [end] is such a part.
// It is a module apart, so that the routers that it mounts a hub on never reach a user of Atrium.
//
//	go test ./... -update   # puts the parts, as they are now, into the documents
package guide
