//go:build !cgo

package isolate

const builtWithCgo = false
