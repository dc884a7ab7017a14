package isolate

import (
	"os"

	"rcc/isolate/egress"
)

// Link leads to the gate, which waits for an egress.Exit to serve it; nil for a
// sandbox without a way out. It ends with the gate, and then every connection
// inside is refused. Close of the sandbox closes it.
func (s *Sandbox) Link() egress.Link {
	if s.link == nil {
		return nil
	}
	return s.link
}

// Degraded tells, in a sentence each, what this kernel could not hold the gate
// by; none of it stands alone.
func (s *Sandbox) Degraded() []string { return s.degraded }

// openLink makes the link and gives the gate's side of it.
func (s *Sandbox) openLink() (*os.File, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	w, err := fileWire(ours)
	ours.Close() // fileWire has a descriptor of its own
	if err != nil {
		theirs.Close()
		return nil, err
	}
	s.link = newLink(w.conn, maxFromGate)
	return theirs, nil
}

// awaitGate waits until the gate has given up all that it does not need. What
// it could not do comes over its link, as a stage tells of it.
func (s *Sandbox) awaitGate() error {
	if s.link == nil {
		return nil
	}
	m, files, err := expect(wire{s.link.conn}, kindReady)
	closeAll(files)
	s.degraded = m.Degraded
	return err
}

// abandon closes what leads to the sandbox.
func (s *Sandbox) abandon() {
	s.wire.conn.Close()
	if s.link != nil {
		s.link.Close()
	}
	if s.diag != nil {
		s.diag.close()
	}
}
