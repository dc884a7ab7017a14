// Command stage is the executable of the sandbox's stages in tests.
package main

import (
	"fmt"
	"os"

	"rcc/isolate"
)

func main() {
	isolate.Main()
	fmt.Fprintln(os.Stderr, "this program is only for tests")
	os.Exit(2)
}
