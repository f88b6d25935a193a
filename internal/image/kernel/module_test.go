package kernel

import (
	"testing"
)

func TestUnsigned(t *testing.T) {
	const (
		info   = "\x00\x00\x02\x01\x02\x00\x00\x00\x00\x00\x00\x03" // a signer of 1 byte, a key of 2, a signature of 3
		tooBig = "\x00\x00\x02\x01\x02\x00\x00\x00\xff\xff\xff\xff"
	)
	for _, tt := range []struct{ name, in, want string }{
		{"signed", "module" + "NKKsig" + info + signatureMagic, "module"},
		{"nothing but a signature", "NKKsig" + info + signatureMagic, ""},
		{"not signed", "module", "module"},
		{"too long a signature", "module" + tooBig + signatureMagic, "module" + tooBig + signatureMagic},
		{"only the end", signatureMagic, signatureMagic},
		{"empty", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(Unsigned([]byte(tt.in))); got != tt.want {
				t.Errorf("Unsigned(%q) = %q; want %q", tt.in, got, tt.want)
			}
		})
	}
}
