//go:build !race

package memif

const raced = false
