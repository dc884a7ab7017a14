package isolate

import (
	"strings"
	"testing"
)

// The ports that the way out stands on are neither forwarded nor published.
func TestCheckNetPorts(t *testing.T) {
	for _, port := range []uint16{0, flowPort, dnsPort} {
		for verb, p := range map[string]Policy{"forward": {Net: NetAllow, Forward: []uint16{port}}, "publish": {Net: NetAllow, Publish: []uint16{port}}} {
			if err := checkNet(p); err == nil || !strings.HasPrefix(err.Error(), "cannot "+verb+" port") {
				t.Errorf("%s %d: %v", verb, port, err)
			}
		}
	}
	for _, port := range []uint16{2, 52, 54, 65535} { // the controls
		if err := checkNet(Policy{Net: NetAllow, Forward: []uint16{port}, Publish: []uint16{port}}); err != nil {
			t.Errorf("port %d: %v", port, err)
		}
	}
}
