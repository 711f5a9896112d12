// Package fuzz has the fuzz targets of Atrium's public surface, and nothing else. Each compares the
// library with a slow model of its own, written from the RFC, and not only with "it does not
// panic". Parsers that are not exported have their targets beside them.
//
//	go test ./fuzz                                          the seeds, in seconds
//	go test ./fuzz -fuzz FuzzConn -fuzzminimizetime 10x     one target, until it finds something
//
// Without that limit go test spends a minute on making each interesting input smaller, in vain:
// which goroutine goes first is in the coverage, too. Seeds that begin with row are rows of a list
// of corner cases, by number: what peers do on the wire.
//
// An execution that takes five seconds is a hang and ends the process with all stacks; one that
// leaves goroutines behind fails.
package fuzz
