package egress

import (
	"bytes"
	"slices"
	"strings"
)

// A HeadKind is what the first bytes of a flow look like.
type HeadKind int

const (
	HeadMore  HeadKind = iota // too few bytes to tell
	HeadTLS                   // a TLS handshake
	HeadHTTP                  // an HTTP request, of whatever version and form
	HeadOther                 // something else
)

// SniffHead tells what the first bytes of a flow look like. It is generous where
// a server may be: a whole text line that only resembles an HTTP request is
// HeadHTTP. One that is not whole yet is HeadMore if it begins as a request does, so
// that this is not hidden by sending it in pieces; what begins otherwise, as most
// that is no request, waits for nothing.
func SniffHead(b []byte) HeadKind {
	if len(b) == 0 {
		return HeadMore
	}
	if looks, ok := sniffTLS(b); ok {
		return looks
	}
	// Servers skip empty lines before a request (RFC 9112 section 2.2).
	line, _, whole := bytes.Cut(bytes.TrimLeft(b, " \t\r\n"), []byte{'\n'})
	switch {
	case whole && resemblesRequest(line):
		return HeadHTTP
	case whole, !beginsRequest(line):
		return HeadOther
	case len(b) >= MaxHead:
		return HeadHTTP
	}
	return HeadMore
}

// sniffTLS: records of TLS that come to a ClientHello, or a hello in the form of
// SSL 2.0, which has no name and which some servers of TLS still take (RFC 5246
// appendix E.2). Some servers skip what may precede the hello: Go's takes warnings
// (crypto/tls, readRecordOrCCS), OpenSSL's empty records too.
func sniffTLS(b []byte) (HeadKind, bool) {
	switch {
	case b[0] >= recordChangeCipher && b[0] <= recordHandshake:
		kind := sniffRecords(b)
		return kind, kind != HeadOther
	case b[0] < 0x80 || b[0] >= 0x80+maxSSL2>>8 || len(b) > 2 && b[2] != typeClientHello:
		return HeadOther, false
	case len(b) < 4:
		return HeadMore, true
	}
	return HeadTLS, b[3] < 0x10
}

// sniffRecords finds the record that begins a ClientHello behind those that say
// nothing. The first bytes alone do not tell: what begins with its own length, as
// MongoDB's messages do, begins with any byte.
func sniffRecords(b []byte) HeadKind {
	for rest := b[:min(len(b), MaxHead)]; ; {
		switch {
		case len(rest) > 0 && (rest[0] < recordChangeCipher || rest[0] > recordHandshake):
			return HeadOther
		case len(rest) > 1 && rest[1] >= 0x10: // the version, as Go's server wants it
			return HeadOther
		case len(rest) < recordHead:
			return moreTLS(b)
		}
		kind, size, body := rest[0], int(rest[3])<<8|int(rest[4]), rest[recordHead:]
		switch {
		case kind == recordChangeCipher && size != 1, kind == recordAlert && (size == 0 || size > 2), size > maxCiphertext:
			return HeadOther
		case kind == recordHandshake && size > 0:
			return sniffHandshake(b, body[:min(size, len(body))], size)
		case len(body) < size:
			return moreTLS(b)
		}
		rest = body[size:]
	}
}

// moreTLS: what may yet become a hello counts as one where no more is read.
func moreTLS(b []byte) HeadKind {
	if len(b) >= MaxHead {
		return HeadTLS
	}
	return HeadMore
}

// sniffHandshake looks at the beginning of a handshake, which is the type of the
// message and its length, in a record of size bytes, which may end in the middle
// of them. b is all there is.
func sniffHandshake(b, begin []byte, size int) HeadKind {
	switch {
	case len(begin) > 0 && begin[0] != typeClientHello:
		return HeadOther
	case len(begin) >= 4 && begin[1] == 0 && begin[2] == 0 && begin[3] < minHello:
		return HeadOther
	case len(begin) < min(size, 4):
		return moreTLS(b)
	}
	return HeadTLS
}

// maxSSL2 is longer in bytes than any record of SSL 2.0 that a server of TLS
// reads: OpenSSL's have a buffer for one of TLS, 16 KiB and some (ssl3_get_record).
const maxSSL2 = 24 << 10

// lineSpace is what servers part the words of a request line by (RFC 9112 section 3).
const lineSpace = " \t\v\f\r"

func isControl(r rune) bool { return r < ' ' && !strings.ContainsRune(lineSpace, r) }

// resemblesRequest: the last word is a version of HTTP, whatever stands before it;
// or the first could be a method and another begins as a version does.
func resemblesRequest(line []byte) bool {
	words := bytes.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(lineSpace, r) })
	if len(words) < 2 {
		return false
	}
	last := words[len(words)-1]
	if beginsVersion(last) && len(last) > 5 && last[5] >= '0' && last[5] <= '9' {
		return true
	}
	return isToken(string(words[0])) && !bytes.ContainsFunc(line, isControl) && slices.ContainsFunc(words[1:], beginsVersion)
}

func beginsVersion(word []byte) bool {
	return len(word) >= 5 && strings.EqualFold(string(word[:5]), "HTTP/")
}

// No registered method is shorter or longer in bytes (RFC 9110 section 16.1).
const minMethod, maxMethod = 3, 24

// beginsRequest tells whether a line that has not ended may become a request with
// a method as they all are spelled: capitals, and - or _ between them.
func beginsRequest(line []byte) bool {
	for i, c := range line {
		switch {
		case i > 0 && strings.IndexByte(lineSpace, c) >= 0:
			return i >= minMethod
		case i == maxMethod, (c < 'A' || c > 'Z') && (i == 0 || c != '-' && c != '_'):
			return false
		}
	}
	return true
}
