package worktree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// connection is a running harvester with our ends of its descriptors.
type connection struct {
	wait     func() (int, error)
	fromWire *os.File // its standard output
	messages *os.File
	reports  *os.File
	said     chan string
	ended    bool
}

func (t *Tree) connect(ctx context.Context, r *Repo, confine Confine, opt HarvestOptions, filesOnly bool) (*connection, error) {
	job, err := t.harvestJob(ctx, r, opt, filesOnly)
	if err != nil {
		return nil, err
	}
	var ours, theirs [4]*os.File
	for i := range ours {
		var err error
		if i == 0 { // it has nothing to hear
			theirs[i], err = os.Open(os.DevNull)
		} else {
			ours[i], theirs[i], err = os.Pipe()
		}
		if err != nil {
			closeAll(append(ours[:], theirs[:]...))
			return nil, fmt.Errorf("cannot make a pipe: %w", err)
		}
	}
	job.Files = theirs[:]
	wait, err := confine(ctx, job)
	closeAll(theirs[:])
	if err != nil {
		closeAll(ours[:])
		return nil, fmt.Errorf("cannot start the harvest: %w", err)
	}
	c := &connection{wait: wait, fromWire: ours[1], messages: ours[2], reports: ours[reportFD], said: make(chan string, 1)}
	go func() {
		last := &tail{max: stderrCap}
		_, _ = io.Copy(last, c.messages)
		c.said <- last.String()
	}()
	return c, nil
}

// giveUp makes whoever waits for the harvester stop waiting.
func (c *connection) giveUp() {
	for _, f := range []*os.File{c.fromWire, c.messages, c.reports} {
		_ = f.SetReadDeadline(past)
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// maxReport bounds the report: its notes are at most 51 lines.
const maxReport = 1 << 20

// report reads what the harvester found.
func (c *connection) report(format string) (*harvestReport, error) {
	data, err := io.ReadAll(io.LimitReader(c.reports, maxReport+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the harvest's report: %w", err)
	}
	if len(data) == 0 {
		if err := c.end(); err != nil {
			return nil, err
		}
		return nil, errors.New("the harvest ended without a report")
	}
	rep, err := parseReport(data, format)
	if err != nil {
		return nil, err
	}
	if rep.Error != "" {
		if rep.Refused {
			return nil, &RefusedError{Reason: strings.TrimPrefix(rep.Error, (&RefusedError{}).Error())}
		}
		return nil, fmt.Errorf("cannot harvest the tree: %s", rep.Error)
	}
	return rep, nil
}

// parseReport decodes hostile bytes: the harvester works on the agent's files.
func parseReport(data []byte, format string) (*harvestReport, error) {
	if len(data) > maxReport {
		return nil, errors.New("the harvest's report is too long")
	}
	var rep harvestReport
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rep); err != nil {
		return nil, errors.New("the harvest's report cannot be read")
	}
	rep.Error = inert(rep.Error)
	if rep.Error == "" && !isID(rep.Tip, format) {
		return nil, errors.New("the harvest's report names no commit")
	}
	if len(rep.Notes) > mostNotes+1 {
		rep.Notes = rep.Notes[:mostNotes+1]
	}
	for i := range rep.Notes {
		rep.Notes[i] = inert(rep.Notes[i])
	}
	return &rep, nil
}

// end waits for the harvester and turns its failure into an error with what it
// said last.
func (c *connection) end() error {
	if c.ended {
		return nil
	}
	c.ended = true
	c.fromWire.Close()
	st, err := c.wait()
	c.messages.SetReadDeadline(time.Now().Add(time.Second))
	said := <-c.said
	if err == nil && st != 0 {
		err = fmt.Errorf("the harvest ended with status %d: %s", st, lastLine(said))
	}
	return err
}

func (c *connection) close() {
	_ = c.end() // what mattered of it has been looked at
	closeAll([]*os.File{c.fromWire, c.messages, c.reports})
}
