//go:build cgo

package isolate

// builtWithCgo: the stages drop privileges on all threads, which Go can do
// only in a program without cgo (syscall.AllThreadsSyscall).
const builtWithCgo = true
