//go:build unix && !linux

package atrium

// limitUnsent has no meaning here.
func limitUnsent(uintptr) {}
