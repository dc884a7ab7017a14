package egress

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
)

// plain tells an error in one line, without the addresses and system calls that
// package net puts around it: an event has its own.
func plain(err error) string {
	var dns *net.DNSError
	var errno syscall.Errno
	switch {
	case err == nil:
		return ""
	case errors.As(err, &dns):
		return "its name cannot be resolved: " + oneLine(dns.Err)
	case timedOut(err):
		return "timed out"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return oneLine(err.Error())
}

func oneLine(s string) string {
	return cut(strings.Join(strings.Fields(s), " "), maxText)
}

func timedOut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT)
}
