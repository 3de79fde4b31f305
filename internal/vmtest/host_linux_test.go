package vmtest

import "testing"

// furnish gives the near cards of Standard what hosts hang on NICs, and the far ones what
// is needed to answer.
const furnish = `
set -e
# DPDK has the kernel load these, whoever starts it; they are no change of the manager's.
modprobe -a ib_core sch_ingress sch_multiq
ip -n far link set e0far up; ip -n far link set v0far up
ip -n far address add 10.0.0.2/24 dev e0far; ip -n far address add fd00::2/64 dev e0far nodad
ip -n far address add 10.0.1.2/24 dev v0far; ip -n far address add fd01::2/64 dev v0far nodad
ip -n far route add default via 10.0.0.1

ip link property add dev e0 altname wan0
ip link set e0 mtu 1400 txqueuelen 500 alias "the way out" up
ethtool -K e0 tso off gro off
ethtool -G e0 rx 512 tx 1024
sysctl -q -w net.ipv4.conf.e0.rp_filter=2 net.ipv4.conf.e0.arp_notify=1 net.ipv6.conf.e0.accept_ra=2 net.ipv6.conf.e0.router_solicitations=1
ip address add 10.0.0.1/24 dev e0
ip address add 10.0.0.9/24 dev e0 label e0:9
ip address add 10.0.0.77/24 dev e0 valid_lft 7200 preferred_lft 3600
ip address add 192.0.2.7/32 dev e0 scope link
ip address add fd00::1/64 dev e0 nodad
ip route add default via 10.0.0.2 dev e0 proto dhcp src 10.0.0.1 metric 100 mtu 1300
ip route add 198.51.100.0/24 via 10.0.0.2 dev e0 table 100
ip route add 203.0.113.0/24 dev e0 scope link metric 5
ip -6 route add default via fd00::2 dev e0 metric 1024
ip rule add from 10.0.0.9 lookup 100 priority 1000
ip rule add iif e0 lookup 101 priority 1001
ip -6 rule add from fd00::1 lookup 100 priority 1000
ip neighbour add 10.0.0.5 lladdr 02:00:00:00:00:05 dev e0 nud permanent

ip link set v0 up
ip address add 10.0.1.1/24 dev v0
ip address add fd01::1/64 dev v0 nodad
ip route add 198.18.0.0/15 via 10.0.1.2 dev v0 metric 7
`

// furnishes gives the guest's host that, and waits until its networks are there.
func furnishes(t *testing.T, g *Guest) {
	t.Helper()
	g.Shell(t, furnish)
	for _, addr := range farAddresses() {
		g.Reaches(t, addr)
	}
}

func farAddresses() []string { return []string{"10.0.0.2", "fd00::2", "10.0.1.2", "fd01::2"} }
