package rig

import (
	"os"
	"regexp"
	"strconv"
)

// HugePages says whether the machine has that many MB of huge pages free, for programs that
// are faster on them. Nobody reserves them here: `sysctl vm.nr_hugepages` does.
func HugePages(megabytes int) bool {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return false
	}
	return hugeKilobytes(string(data)) >= megabytes*1024
}

// hugeKilobytes reads how much is free from the text of /proc/meminfo.
func hugeKilobytes(meminfo string) int {
	product := 1
	for _, name := range []string{"HugePages_Free", "Hugepagesize"} {
		m := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+)`).FindStringSubmatch(meminfo)
		if m == nil {
			return 0
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return 0
		}
		product *= n
	}
	return product
}
