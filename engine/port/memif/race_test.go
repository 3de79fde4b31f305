//go:build race

package memif

// raced: the race detector makes system calls allocate.
const raced = true
