package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

const (
	// spareHeap is how much the heap may grow before the first thought of a collection.
	spareHeap = 64 << 20
	// spareProcessors is how many threads more than processors may run the program's code.
	spareProcessors = 2
)

// tuneRuntime prepares the process for many short answers beside a store and a training. What the environment says by
// GOGC or GOMAXPROCS stands. The function that it returns ends what it did.
//
// Threads: one that waits for the disk in the middle of a commit, or that trains, keeps its place among those that run
// until the scheduler notices, up to ten milliseconds later. With a place more than that, answers go on meanwhile.
//
// Memory: under load a heap of a few megabytes would be collected ten times a second, and each collection takes
// milliseconds of a processor. Memory that is never touched, and so never becomes resident, counts as live where the
// collector decides when to start; a large heap is then collected at hardly more than twice its size, as always. It is
// at most an eighth of what the process may use.
func tuneRuntime() (release func()) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spareProcessors)
	}
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	spare := make([]byte, min(spareHeap, memoryLimit()/8))
	return func() { runtime.KeepAlive(spare) }
}

// memoryLimit returns what the process may use, by GOMEMLIMIT or by its control group, in bytes.
func memoryLimit() int64 {
	limit := debug.SetMemoryLimit(-1)
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && n > 0 { // "max" is no number
			limit = min(limit, n)
		}
	}
	return limit
}
