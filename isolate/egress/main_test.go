package egress

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	enterWorld()
	os.Exit(m.Run())
}
