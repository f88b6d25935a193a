package host

import (
	"bytes"
	"crypto/sha1"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// subjectHash returns what OpenSSL calls a name, X509_NAME_hash_ex(3): in a directory of
// certificates it looks for a file that is called so.
func subjectHash(raw []byte) (string, error) {
	type attribute struct{ Type, Value asn1.RawValue }
	type relativeNameSET []attribute
	var names []relativeNameSET
	if rest, err := asn1.Unmarshal(raw, &names); err != nil || len(rest) > 0 {
		return "", errors.New("a certificate's subject is no name")
	}
	h := sha1.New()
	for _, set := range names {
		for i, a := range set {
			if text, ok := nameText(a.Value); ok {
				set[i].Value = asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: canonical(text)}
			}
		}
		der, err := asn1.Marshal(set)
		if err != nil {
			return "", fmt.Errorf("hash a certificate's subject: %w", err)
		}
		h.Write(der)
	}
	return fmt.Sprintf("%08x", binary.LittleEndian.Uint32(h.Sum(nil))), nil
}

// The string types that encoding/asn1 has no names for.
const (
	tagVisibleString   = 26
	tagUniversalString = 28
)

// nameText returns a value in UTF-8, if it is of a type that OpenSSL compares as text.
func nameText(v asn1.RawValue) ([]byte, bool) {
	if v.Class != asn1.ClassUniversal || v.IsCompound {
		return nil, false
	}
	var text []byte
	switch v.Tag {
	case asn1.TagUTF8String:
		text = v.Bytes
	case asn1.TagPrintableString, asn1.TagT61String, asn1.TagIA5String, tagVisibleString:
		for _, c := range v.Bytes { // OpenSSL takes them all for Latin 1
			text = utf8.AppendRune(text, rune(c))
		}
	case asn1.TagBMPString:
		units := make([]uint16, len(v.Bytes)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(v.Bytes[2*i:])
		}
		text = []byte(string(utf16.Decode(units)))
	case tagUniversalString:
		for i := 0; i+4 <= len(v.Bytes); i += 4 {
			text = utf8.AppendRune(text, rune(binary.BigEndian.Uint32(v.Bytes[i:])))
		}
	default:
		return nil, false
	}
	return text, true
}

// canonical returns text in lower case, without spaces at its ends and with one where
// there are several, in ASCII only.
func canonical(text []byte) []byte {
	const spaces = " \t\n\v\f\r"
	var out []byte
	for _, c := range bytes.Trim(text, spaces) {
		if strings.IndexByte(spaces, c) >= 0 {
			if out[len(out)-1] != ' ' {
				out = append(out, ' ')
			}
			continue
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	return out
}
