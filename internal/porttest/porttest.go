// Package porttest gives tests ports for programs that must be told one beforehand.
package porttest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
)

// Address returns a free TCP address on loopback that stays the caller's until the test ends: no test that asks here, in
// this process or in another, is given it too. It lies outside the range from which the kernel serves whoever lets it
// choose; a port of that range may be taken by any connection before the program that was told it has started.
func Address(t testing.TB) string {
	t.Helper()
	low, high := chosenByKernel()
	for range 1000 {
		port := 10_000 + rand.IntN(55_000)
		if low <= port && port <= high {
			continue
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		claim, err := net.ListenPacket("udp", addr) // UDP has ports of its own: it marks the number and leaves it free
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			claim.Close()
			continue
		}
		l.Close()
		t.Cleanup(func() { claim.Close() })
		return addr
	}
	t.Fatal("no port of loopback is free")
	return ""
}

// Port returns the port of an [Address].
func Port(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(Address(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// chosenByKernel is the range, ends included, from which the kernel takes ports itself; that of Linux by default where it
// does not say, or leaves others hardly any.
func chosenByKernel() (low, high int) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 32_768, 60_999
	}
	if _, err := fmt.Sscan(string(b), &low, &high); err != nil || high-low > 50_000 {
		return 32_768, 60_999
	}
	return low, high
}
