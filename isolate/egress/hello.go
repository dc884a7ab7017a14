package egress

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Numbers of TLS (RFC 8446, RFC 6066, RFC 9849).
const (
	recordChangeCipher = 20
	recordAlert        = 21
	recordHandshake    = 22
	recordHead         = 5                  // bytes: type, version, length
	maxRecord          = 1 << 14            // bytes of plaintext in a record
	maxCiphertext      = 1<<14 + 2048       // bytes of a record on the wire, of TLS 1.2 (RFC 5246 section 6.2.3)
	minHello           = 2 + 32 + 1 + 2 + 1 // bytes of a ClientHello's body with nothing in its lists
	typeClientHello    = 1
	extServerName      = 0
	extEncryptedHello  = 0xfe0d // ECH: the name that counts is in a second, encrypted hello
	extEncryptedName   = 0xffce // its draft predecessor, ESNI
	nameTypeHost       = 0
)

// A hello is what counts of a ClientHello.
type hello struct {
	name   string // in the form of NormalName; empty: none is named
	hidden bool   // it offers, or pretends to offer, an encrypted hello with another name
}

// ServerName gives the host name of the TLS ClientHello that b begins with, in
// the form of NormalName; empty: it names none. ErrMore: b ends before the hello
// does. It is stricter than servers have to be: where two parsers could read two
// names, or one and none, it is an error. What follows the record in which the
// hello ends is not looked at.
func ServerName(b []byte) (string, error) {
	h, err := parseHello(b)
	return h.name, err
}

func parseHello(b []byte) (hello, error) {
	message, err := helloMessage(b)
	if err != nil {
		return hello{}, err
	}
	var version uint16
	var random []byte
	var session, suites, compression cryptobyte.String
	if !message.ReadUint16(&version) || !message.ReadBytes(&random, 32) ||
		!message.ReadUint8LengthPrefixed(&session) || len(session) > 32 ||
		!message.ReadUint16LengthPrefixed(&suites) || len(suites) == 0 || len(suites)%2 != 0 ||
		!message.ReadUint8LengthPrefixed(&compression) || len(compression) == 0 {
		return hello{}, errors.New("the TLS hello is malformed")
	}
	if version>>8 != 3 {
		return hello{}, errors.New("the TLS hello is of an unknown version")
	}
	if message.Empty() {
		return hello{}, nil // no extensions, as TLS 1.2 allows
	}
	var extensions cryptobyte.String
	if !message.ReadUint16LengthPrefixed(&extensions) || !message.Empty() {
		return hello{}, errors.New("the TLS hello is malformed")
	}
	return parseExtensions(extensions)
}

// helloMessage joins the records that the first handshake message lies in and
// gives its body.
func helloMessage(b []byte) (cryptobyte.String, error) {
	var joined []byte
	for rest := cryptobyte.String(b[:min(len(b), MaxHead)]); ; {
		if err := checkRecordHead(rest, joined == nil); err != nil {
			return nil, err
		}
		var kind uint8
		var version uint16
		var fragment cryptobyte.String
		if !rest.ReadUint8(&kind) || !rest.ReadUint16(&version) || !rest.ReadUint16LengthPrefixed(&fragment) {
			return nil, moreOf(b, "TLS hello")
		}
		joined = append(joined, fragment...)
		message := cryptobyte.String(joined)
		var body cryptobyte.String
		var first uint8
		switch {
		case message[0] != typeClientHello:
			return nil, errors.New("the TLS handshake does not begin with a ClientHello")
		case len(message) >= 4 && 4+int(message[1])<<16+int(message[2])<<8+int(message[3]) > MaxHead:
			return nil, errors.New("the TLS hello is too long")
		case !message.ReadUint8(&first) || !message.ReadUint24LengthPrefixed(&body):
			continue // in the next record
		case !message.Empty():
			return nil, errors.New("the TLS hello is followed by another message in its record")
		}
		return body, nil
	}
}

// checkRecordHead refuses a record by what is there of its head. The version is
// 3.1 to 3.3 in a first hello, and ignored by servers (RFC 8446 section 5.1), but
// for its first byte.
func checkRecordHead(b []byte, first bool) error {
	switch {
	case len(b) > 0 && b[0] != recordHandshake && first:
		return errors.New("it is not a TLS handshake")
	case len(b) > 0 && b[0] != recordHandshake:
		return errors.New("the TLS hello is interrupted by another record")
	case len(b) > 1 && b[1] != 3:
		return errors.New("the TLS record is of an unknown version")
	case len(b) > 4 && b[3] == 0 && b[4] == 0:
		return errors.New("a TLS record is empty") // not allowed: RFC 8446 section 5.1
	case len(b) > 4 && int(b[3])<<8+int(b[4]) > maxRecord:
		return errors.New("a TLS record is too long")
	}
	return nil
}

func parseExtensions(extensions cryptobyte.String) (hello, error) {
	var h hello
	var seen []uint16
	for !extensions.Empty() {
		var kind uint16
		var data cryptobyte.String
		if !extensions.ReadUint16(&kind) || !extensions.ReadUint16LengthPrefixed(&data) {
			return hello{}, errors.New("the TLS hello is malformed")
		}
		if slices.Contains(seen, kind) {
			return hello{}, fmt.Errorf("the TLS hello has the extension %d twice", kind)
		}
		if seen = append(seen, kind); len(seen) > 256 {
			return hello{}, errors.New("the TLS hello has more than 256 extensions")
		}
		switch kind {
		case extServerName:
			name, err := parseServerNames(data)
			if err != nil {
				return hello{}, err
			}
			h.name = name
		case extEncryptedHello, extEncryptedName:
			h.hidden = true
		}
	}
	return h, nil
}

// parseServerNames reads a server_name extension: exactly one name, of the one
// type that there is (RFC 6066 section 3).
func parseServerNames(data cryptobyte.String) (string, error) {
	var list, text cryptobyte.String
	var kind uint8
	switch {
	case !data.ReadUint16LengthPrefixed(&list) || !data.Empty(),
		!list.ReadUint8(&kind) || !list.ReadUint16LengthPrefixed(&text):
		return "", errors.New("the server name in the TLS hello is malformed")
	case !list.Empty():
		return "", errors.New("the TLS hello has more than one server name")
	case kind != nameTypeHost:
		return "", errors.New("the server name in the TLS hello is not a host name")
	case len(text) > 0 && text[len(text)-1] == '.':
		return "", errors.New("the server name in the TLS hello ends with a dot") // forbidden by RFC 6066
	}
	name, err := NormalName(string(text))
	if err != nil {
		return "", fmt.Errorf("the server name in the TLS hello: %w", err)
	}
	return name, nil
}
