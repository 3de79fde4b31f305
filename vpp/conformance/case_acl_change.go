package conformance

// Lists and rules that change under live sessions, and sessions that time out.

// aclReplaced: sessions outlive the rules that made them.
func aclReplaced(s *Session) {
	shut := s.list(all(denies)...)
	list := s.list(all(reflects)...)
	s.families(func(a, b *Port, near, far string) {
		forth, back := a.datagram(near, far, 1000, 80), b.datagram(far, near, 80, 1000)
		s.replace(list, all(reflects)...)
		a.lists([]uint32{list}, []uint32{shut})
		a.Play(forth, b, 1)
		s.Note("denied now")
		s.replace(list, all(denies)...)
		a.Play(forth, b, 1)
		b.Play(back, a, 1)
		a.Play(a.datagram(near, far, 1001, 80), b, 0)
		s.sessions("1")
		s.Note("no rules at all")
		s.replace(list)
		a.Play(forth, b, 1)
		a.Play(a.datagram(near, far, 1002, 80), b, 0)
		s.Note("without sessions")
		s.command("clear acl-plugin sessions")
		s.sessions("0")
		a.Play(forth, b, 0)
		b.Play(back, a, 0)
		s.Note("permitted, and not any more")
		s.replace(list, all(permits)...)
		a.Play(forth, b, 1)
		s.replace(list, all(denies)...)
		a.Play(forth, b, 0)
		a.lists(nil, nil)
	})
}

// aclReplacedReclassify: with the next packet of the side that began a session is judged
// again.
func aclReplacedReclassify(s *Session) {
	shut := s.list(all(denies)...)
	list := s.list(all(reflects)...)
	s.command("set acl-plugin reclassify-sessions 1")
	s.families(func(a, b *Port, near, far string) {
		forth, back := a.datagram(near, far, 1000, 80), b.datagram(far, near, 80, 1000)
		s.replace(list, all(reflects)...)
		a.lists([]uint32{list}, []uint32{shut})
		a.Play(forth, b, 1)
		b.Play(back, a, 1)
		s.Note("allowed still")
		s.replace(list, append(all(reflects), all(denies)...)...)
		a.Play(forth, b, 1)
		b.Play(back, a, 1)
		s.sessions("1")
		s.Note("denied")
		s.replace(list, all(denies)...)
		a.Play(forth, b, 0)
		b.Play(back, a, 0)
		s.sessions("0")
		s.Note("allowed again")
		s.replace(list, all(reflects)...)
		a.Play(forth, b, 1)
		b.Play(back, a, 1)
		s.Note("permitted, but nothing back")
		s.replace(list, all(permits)...)
		a.Play(forth, b, 1)
		b.Play(back, a, 0)
		s.sessions("0")
		a.lists(nil, nil)
	})
}

// aclOtherLists: all sessions of the interface end.
func aclOtherLists(s *Session) {
	let, too, shut := s.list(all(reflects)...), s.list(all(reflects)...), s.list(all(denies)...)
	s.families(func(a, b *Port, near, far string) {
		forth, back := a.datagram(near, far, 1000, 80), b.datagram(far, near, 80, 1000)
		a.lists([]uint32{let}, []uint32{shut})
		a.Play(forth, b, 1)
		s.Note("the same lists")
		a.lists([]uint32{let}, []uint32{shut})
		s.sessions("1")
		b.Play(back, a, 1)
		s.Note("one more, that allows the same")
		a.lists([]uint32{let, too}, []uint32{shut})
		s.sessions("0")
		b.Play(back, a, 0)
		a.Play(forth, b, 1)
		b.Play(back, a, 1)
		s.Note("in another order")
		a.lists([]uint32{too, let}, []uint32{shut})
		b.Play(back, a, 1)
		s.sessions("1")
		a.lists(nil, nil)
		s.sessions("0")
	})
}

func aclOtherListsReclassify(s *Session) {
	let, too, shut := s.list(all(reflects)...), s.list(all(reflects)...), s.list(all(denies)...)
	s.command("set acl-plugin reclassify-sessions 1")
	s.families(func(a, b *Port, near, far string) {
		forth, back := a.datagram(near, far, 1000, 80), b.datagram(far, near, 80, 1000)
		a.lists([]uint32{let}, []uint32{shut})
		a.Play(forth, b, 1)
		s.Note("others that allow the same: the session goes on")
		a.lists([]uint32{too}, []uint32{shut})
		a.Play(forth, b, 1)
		b.Play(back, a, 1)
		s.sessions("1")
		s.Note("others that do not")
		a.lists([]uint32{shut}, []uint32{shut, too})
		a.Play(forth, b, 0)
		s.sessions("0")
		b.Play(back, a, 0)
		s.Note("none: every session ends")
		a.lists([]uint32{let}, []uint32{shut})
		a.Play(forth, b, 1)
		a.lists(nil, nil)
		s.sessions("0")
	})
}

// aclOneDirection: sessions serve both directions, also while only one has lists.
func aclOneDirection(s *Session) {
	let, shut := s.list(all(reflects)...), s.list(all(denies)...)
	s.families(func(a, b *Port, near, far string) {
		forth, back := a.datagram(near, far, 1000, 80), b.datagram(far, near, 80, 1000)
		s.Note("input only: the way back is open")
		a.lists([]uint32{let}, nil)
		b.Play(back, a, 1)
		a.Play(forth, b, 1)
		b.Play(back, a, 1)
		s.sessions("1")
		s.Note("now output has one, too: other lists, no sessions")
		a.lists([]uint32{let}, []uint32{shut})
		s.sessions("0")
		b.Play(back, a, 0)
		a.Play(forth, b, 1)
		b.Play(back, a, 1)
		a.lists(nil, nil)
		s.sessions("0")
	})
}

// aclTimeouts: a session ends when nothing came for a while.
func aclTimeouts(s *Session) {
	let, shut := s.list(all(reflects)...), s.list(all(denies)...)
	timeout := func(line string) { s.command("set acl-plugin session timeout " + line) }
	s.families(func(a, b *Port, near, far string) {
		timeout("udp idle 1")
		timeout("tcp transient 1")
		a.lists([]uint32{let}, []uint32{shut})
		s.Note("UDP, TCP that nobody answered")
		a.Play(a.datagram(near, far, 1000, 80), b, 1)
		a.Play(a.segment(near, far, 1000, 80, "S"), b, 1)
		s.sessions("0")
		b.Play(b.datagram(far, near, 80, 1000), a, 0)
		b.Play(b.segment(far, near, 80, 1000, "SA"), a, 0)
		s.Note("open connections stay, those that are closed do not")
		timeout("tcp transient 3600") // until they are open
		for sport := uint16(1000); sport < 1003; sport++ {
			a.Play(a.segment(near, far, sport, 80, "S"), b, 1)
			b.Play(b.segment(far, near, 80, sport, "SA"), a, 1)
			a.Play(a.segment(near, far, sport, 80, "A"), b, 1)
		}
		a.Play(a.segment(near, far, 1001, 80, "FA"), b, 1)
		b.Play(b.segment(far, near, 80, 1002, "R"), a, 1)
		a.Play(a.datagram(near, far, 1000, 80), b, 1)
		timeout("tcp transient 1")
		s.sessions("1")
		b.Play(b.segment(far, near, 80, 1000, "A"), a, 1)
		b.Play(b.segment(far, near, 80, 1001, "A"), a, 0)
		b.Play(b.segment(far, near, 80, 1002, "A"), a, 0)
		a.lists(nil, nil)
		s.sessions("0")
	})
}
