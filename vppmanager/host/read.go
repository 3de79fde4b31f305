package host

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/nodeconfig"
)

// maxFile bounds what is read of one file; the largest in use is modules.dep, below 1 MB.
const maxFile = 16 << 20

func (n Node) path(p string) string { return filepath.Join(n.Root, p) }

// read reads a whole file. Only a regular one: opening anything else could wait for ever,
// or do something.
func (n Node) read(file string) ([]byte, error) {
	f, err := os.OpenFile(n.path(file), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, cause(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, cause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: it is not a regular file", file)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, cause(err))
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("read %s: it has more than %d bytes", file, maxFile)
	}
	return data, nil
}

// word reads a file that holds one word; a missing file is "".
func (n Node) word(file string) (string, error) {
	data, err := n.read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(data), "\n")
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		return "", fmt.Errorf("read %s: %.40q is not plain text", file, text)
	}
	return strings.TrimSpace(text), nil
}

// number reads a file that holds one number; a missing file is 0.
func (n Node) number(file string) (int, error) { return n.numberOr(file, 0) }

// numberOr is number, with another value for a missing file.
func (n Node) numberOr(file string, missing int) (int, error) {
	text, err := n.word(file)
	if err != nil || text == "" && !n.exists(file) {
		return missing, err
	}
	v, err := strconv.Atoi(text)
	if err != nil {
		return missing, fmt.Errorf("read %s: %.40q is not a number", file, text)
	}
	return v, nil
}

// list reads a file in the kernel's list format; a missing or empty file is no numbers.
func (n Node) list(file string) ([]int, error) {
	text, err := n.word(file)
	if err != nil || text == "" {
		return nil, err
	}
	list, err := numbers(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return list, nil
}

// base is the last element of what a symbolic link points to; "" when there is none.
func (n Node) base(link string) (string, error) {
	target, err := os.Readlink(n.path(link))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read link %s: %w", link, cause(err))
	}
	return filepath.Base(target), nil
}

// names lists a directory, in order; a missing one has no entries.
func (n Node) names(dir string) ([]string, error) {
	entries, err := os.ReadDir(n.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, cause(err))
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

func (n Node) exists(path string) bool {
	_, err := os.Lstat(n.path(path))
	return err == nil
}

// fields reads "name: value" lines; the first of a name counts.
func (n Node) fields(file string) (map[string]string, error) {
	data, err := n.read(file)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, found := strings.Cut(lines.Text(), ":")
		if name = strings.TrimSpace(name); !found || fields[name] != "" {
			continue
		}
		fields[name] = strings.TrimSpace(value)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return fields, nil
}

func kilobytes(s string) (nodeconfig.Size, error) {
	v, err := strconv.ParseUint(strings.TrimSuffix(s, " kB"), 10, 53)
	if err != nil {
		return 0, fmt.Errorf("%.40q is not an amount in kB", s)
	}
	return nodeconfig.Size(v << 10), nil
}

// numbers reads the kernel's list format: 0-3,8.
func numbers(list string) ([]int, error) {
	var out []int
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.Atoi(from)
		b, errB := strconv.Atoi(to)
		if err := errors.Join(errA, errB); err != nil {
			return nil, fmt.Errorf("%.40q is not a range", part)
		}
		if a < 0 || b < a || b > 1<<16 || len(out) > 1<<16 {
			return nil, fmt.Errorf("%.40q is not a range", part)
		}
		for i := a; i <= b; i++ {
			out = append(out, i)
		}
	}
	return out, nil
}

// cause is the error without the operation and the path, which stand beside it already.
func cause(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}

func reason(err error) string { return cause(err).Error() }
