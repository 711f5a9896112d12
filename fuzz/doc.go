// Package fuzz has the fuzz targets of Atrium's public surface, and nothing else. Each compares the library with a
// slow model of its own, written from the RFC, and not only with "it does not panic". Parsers that are not exported
// have their targets beside them.
//
//	go test ./fuzz                                       the seeds, in seconds
//	go test ./fuzz -fuzz FuzzConn -fuzztime 60s          one target, until it finds something or the time is over
//
// An execution that takes five seconds is a hang and ends the process with all stacks; one that leaves goroutines
// behind fails.
package fuzz
