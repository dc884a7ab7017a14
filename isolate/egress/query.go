package egress

import (
	"encoding/binary"
	"errors"

	"golang.org/x/net/dns/dnsmessage"
)

// Lengths in bytes of DNS messages (RFC 1035 section 4, RFC 6891; 1232 is what
// passes every IPv6 path unfragmented).
const (
	dnsHeader  = 12
	dnsPlain   = 512
	dnsPayload = 1232
)

// A query is what counts of a DNS query.
type query struct {
	header   dnsmessage.Header
	asked    bool // question could be read
	question dnsmessage.Question
	edns     bool // it has an OPT record, so the reply has one
	version  uint8
	dnssec   bool
	size     int // of the longest reply over UDP
}

// readQuery reads a message: nil for one that is no query, of which not even an
// error is told, so that two resolvers never answer each other.
func readQuery(message []byte) (*query, error) {
	var p dnsmessage.Parser
	header, err := p.Start(message)
	if err != nil || header.Response {
		return nil, err
	}
	q := &query{header: header, size: dnsPlain}
	if header.OpCode != 0 {
		return q, nil
	}
	count := func(section int) uint16 { return binary.BigEndian.Uint16(message[4+2*section:]) }
	if count(0) != 1 || count(1) != 0 || count(2) != 0 || header.Truncated {
		return q, errors.New("it is not one question alone")
	}
	if q.question, err = p.Question(); err != nil {
		return q, errors.New("its question cannot be read")
	}
	q.asked = true
	return q, q.readAdditionals(&p)
}

// readAdditionals looks for the OPT record and skips others, such as signatures.
func (q *query) readAdditionals(p *dnsmessage.Parser) error {
	if err := p.SkipAllQuestions(); err != nil {
		return errors.New("its question cannot be read")
	}
	// There are none: the counts are zero.
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return errors.New("its sections cannot be read")
	}
	for {
		h, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return nil
		}
		if err != nil || p.SkipAdditional() != nil {
			return errors.New("its additional records cannot be read")
		}
		if h.Type != dnsmessage.TypeOPT {
			continue
		}
		if q.edns || h.Name.String() != "." {
			return errors.New("its OPT record is not one at the root")
		}
		q.edns, q.version, q.dnssec = true, uint8(h.TTL>>16), h.TTL&0x8000 != 0
		q.size = min(max(int(h.Class), dnsPlain), dnsPayload)
	}
}

// rcodeBadVersion is BADVERS (RFC 6891 section 9), which has more bits than the header.
const rcodeBadVersion dnsmessage.RCode = 16

// unsupported gives the error that a query is answered with before its name is
// looked at: an operation, a version, a class or a transfer that is not for here.
func (q *query) unsupported() dnsmessage.RCode {
	const typeIXFR dnsmessage.Type = 251
	switch {
	case q.header.OpCode != 0:
		return dnsmessage.RCodeNotImplemented
	case q.version != 0:
		return rcodeBadVersion
	case q.question.Class != dnsmessage.ClassINET,
		q.question.Type == dnsmessage.TypeAXFR, q.question.Type == typeIXFR, q.question.Type == dnsmessage.TypeOPT,
		q.question.Name.String() == ".":
		return dnsmessage.RCodeRefused
	}
	return dnsmessage.RCodeSuccess
}

// reply writes an answer. The question is echoed as it was spelled: some clients
// check the case of its letters (draft-vixie-dnsext-dns0x20).
func (q *query) reply(a dnsAnswer, stream bool) []byte {
	m := dnsmessage.Message{Header: dnsmessage.Header{
		ID: q.header.ID, Response: true, OpCode: q.header.OpCode, RCode: a.code & 0xf,
		RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true, CheckingDisabled: q.header.CheckingDisabled,
	}}
	if q.asked {
		m.Questions = []dnsmessage.Question{q.question}
	}
	for _, body := range a.found {
		h := dnsmessage.ResourceHeader{Name: q.question.Name, Class: dnsmessage.ClassINET, TTL: a.ttl}
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: body})
	}
	if a.found == nil && a.ttl > 0 {
		m.Authorities = append(m.Authorities, negative(a.ttl))
	}
	if q.edns {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(dnsPayload, a.code, q.dnssec); err != nil {
			return nil
		}
		m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{}})
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	if !stream && len(out) > q.size {
		m.Truncated, m.Answers, m.Authorities = true, nil, nil
		out, err = m.Pack()
	}
	if err != nil {
		return nil
	}
	return out
}

// negative is the SOA record that lets a client remember for ttl seconds that
// there is nothing (RFC 2308 section 3). Its zone is the root, which every name
// lies in; its names lead nowhere (RFC 6761 section 6.4).
func negative(ttl uint32) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("."), Class: dnsmessage.ClassINET, TTL: ttl},
		Body: &dnsmessage.SOAResource{
			NS: dnsmessage.MustNewName("rcc.invalid."), MBox: dnsmessage.MustNewName("nobody.invalid."),
			Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, MinTTL: ttl,
		},
	}
}
