package worker

// Combined counts packets and bytes.
type Combined struct{ Packets, Bytes uint64 }

func (c *Combined) add(packets, bytes uint64) {
	c.Packets += packets
	c.Bytes += bytes
}

// Counters is one thread's rows. Every slice is preallocated to its capacity and indexed
// by sw_if_index, Errors by Reason, RouteTo by stats_index, Translations by the id of a
// translation. Only the owning thread writes, by plain aligned stores; a reader sees each word whole.
type Counters struct {
	RX, TX, RxUnicast, RxMulticast, RxBroadcast, TxUnicast, TxMulticast, TxBroadcast []Combined
	Drops, Punt, IP4, IP6, RxNoBuf, RxMiss, RxError, TxError                         []uint64
	Errors                                                                           []uint64
	RouteTo, Translations                                                            []Combined
}

// maxTranslations is how many translations NewCounters has rows for.
const maxTranslations = 1024

// NewCounters returns rows for interfaces and routes below the given numbers.
func NewCounters(interfaces, routes int) Counters {
	simple := func() []uint64 { return make([]uint64, interfaces) }
	combined := func() []Combined { return make([]Combined, interfaces) }
	return Counters{
		RX: combined(), TX: combined(),
		RxUnicast: combined(), RxMulticast: combined(), RxBroadcast: combined(),
		TxUnicast: combined(), TxMulticast: combined(), TxBroadcast: combined(),
		Drops: simple(), Punt: simple(), IP4: simple(), IP6: simple(),
		RxNoBuf: simple(), RxMiss: simple(), RxError: simple(), TxError: simple(),
		Errors:  make([]uint64, numReasons),
		RouteTo: make([]Combined, routes), Translations: make([]Combined, maxTranslations),
	}
}
