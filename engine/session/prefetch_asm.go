//go:build amd64 || arm64

package session

// prefetch asks for the line of a record, which is going to be written. Nobody waits for it.
//
//go:noescape
func prefetch(r *record)
