package api

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// command is one line of the command table. run gets what stands behind the path.
type command struct {
	path string
	help string
	run  func(args []string) (string, error)
}

// cliError is wrong input, told in VPP's words.
type cliError string

func (e cliError) Error() string { return string(e) + "\n" }

func unknownInput(args []string) cliError {
	return cliError(fmt.Sprintf("unknown input `%s'", strings.Join(args, " ")))
}

// commandTable lists the commands, a path before its help.
func (s *Server) commandTable() []command {
	return slices.Concat(s.aclCommands(), s.cnatCommands(), []command{
		{"clear errors", "Clear error counters", s.clearErrors},
		{"clear interfaces", "clear interfaces", s.clearInterfaces},
		{"show errors", "Show error counts", s.showErrors},
		{"show hardware-interfaces", "show hardware-interfaces [brief|verbose] [<interface>...]", s.showHardware},
		{"show interface", "show interface [address|addr|tag] [<interface>...]", s.showInterface},
		{"show interface rx-placement", "show interface rx-placement", s.showRxPlacement},
		{"show ip fib", "show ip fib [summary] [table <table-id>] [<ip4-addr>[/<mask>]]", s.showFib4},
		{"show ip6 fib", "show ip6 fib [summary] [table <table-id>] [<ip6-addr>[/<mask>]]", s.showFib6},
		{"show ip neighbor", "show ip neighbor [interface]", s.showNeighbors},
		{"show ip neighbors", "show ip neighbors [interface]", s.showNeighbors},
		{"show ip4 neighbors", "show ip4 neighbors [interface]", s.showNeighbors4},
		{"show ip6 neighbors", "show ip6 neighbors [interface]", s.showNeighbors6},
		{"show ip neighbor-config", "show ip neighbor-config", s.showNeighborConfig},
		{"show ip punt redirect", "show ip punt redirect", s.showPunt4},
		{"show ip6 punt redirect", "show ip6 punt redirect", s.showPunt6},
		{"show ip table", "show ip table", s.showTables4},
		{"show ip6 table", "show ip6 table", s.showTables6},
		{"show memif", "show memif [<interface>]", s.showMemif},
		{"show runtime", "Show packet rates of the threads", s.showRuntime},
		{"show threads", "Show threads", s.showThreadsCommand},
		{"show vxlan tunnel", "show vxlan tunnel", s.showVXLAN},
		{"show version", "show version information", s.showVersionCommand},
		{"set interface mtu", "set interface mtu [packet|ip4|ip6|mpls] <value> <interface>", s.setInterfaceMTU},
		{"set interface state", "set interface state <interface> [up|down]", s.setInterfaceState},
	})
}

// runCommand runs lines of input, the output of each ending in a newline. It stops at
// the first wrong line; no line at all is wrong, too.
func (s *Server) runCommand(input string) (string, error) {
	var out strings.Builder
	if strings.TrimSpace(input) == "" {
		return "", unknownInput(nil)
	}
	for line := range strings.Lines(input) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		text, err := s.runLine(words)
		out.WriteString(text)
		if text != "" && !strings.HasSuffix(text, "\n") {
			out.WriteByte('\n')
		}
		if err != nil {
			return out.String(), err
		}
	}
	return out.String(), nil
}

func (s *Server) runLine(words []string) (string, error) {
	path, rest := s.resolve(words)
	if len(rest) > 0 {
		switch rest[0] {
		case "?", "choices":
			return s.listBelow(path), nil
		case "help":
			return s.listChildren(path), nil
		}
	}
	i := slices.IndexFunc(s.commands, func(c command) bool { return c.path == path })
	if i < 0 {
		if path == "" {
			return "", unknownInput(rest)
		}
		return "", cliError(path + ": " + string(unknownInput(rest)))
	}
	text, err := s.commands[i].run(rest)
	if err != nil {
		return text, cliError(path + ": " + strings.TrimSuffix(err.Error(), "\n"))
	}
	return text, nil
}

// resolve follows words down the tree of paths as far as they lead. A word may be cut
// short where one continuation fits it.
func (s *Server) resolve(words []string) (path string, rest []string) {
	for i, word := range words {
		var fit []string
		for _, next := range s.children(path) {
			if next == word {
				fit = []string{next}
				break
			}
			if strings.HasPrefix(next, word) {
				fit = append(fit, next)
			}
		}
		if len(fit) != 1 {
			return path, words[i:]
		}
		path = strings.TrimPrefix(path+" "+fit[0], " ")
	}
	return path, nil
}

// children are the words that may follow a path, sorted.
func (s *Server) children(path string) []string {
	var next []string
	for _, c := range s.commands {
		rest, ok := below(c.path, path)
		if word, _, _ := strings.Cut(rest, " "); ok && word != "" && !slices.Contains(next, word) {
			next = append(next, word)
		}
	}
	slices.Sort(next)
	return next
}

// below returns what of path p stands behind the words of the path parent.
func below(p, parent string) (string, bool) {
	if parent == "" {
		return p, true
	}
	if p == parent {
		return "", true
	}
	return strings.CutPrefix(p, parent+" ")
}

// listBelow answers "?": every command that begins with path.
func (s *Server) listBelow(path string) string {
	var out strings.Builder
	for _, c := range slices.SortedFunc(slices.Values(s.commands), byPath) {
		if _, ok := below(c.path, path); ok {
			fmt.Fprintf(&out, "  %-40s %s\n", c.path, c.help)
		}
	}
	return out.String()
}

// listChildren answers "help": the words that may follow path.
func (s *Server) listChildren(path string) string {
	var out strings.Builder
	for _, word := range s.children(path) {
		full := strings.TrimPrefix(path+" "+word, " ")
		help := ""
		if i := slices.IndexFunc(s.commands, func(c command) bool { return c.path == full }); i >= 0 {
			help = s.commands[i].help
		}
		fmt.Fprintf(&out, "  %-30s %s\n", word, help)
	}
	if out.Len() == 0 {
		return path + ": no sub-commands"
	}
	return out.String()
}

func byPath(a, b command) int { return cmp.Compare(a.path, b.path) }

// center pads text on both sides, the odd space to the left, and cuts what is longer, as
// VPP's %= does.
func center(text string, width int) string {
	if len(text) >= width {
		return text[:width]
	}
	left := (width - len(text) + 1) / 2
	return strings.Repeat(" ", left) + text + strings.Repeat(" ", width-len(text)-left)
}
