package linediff

import (
	"hash/maphash"
	"slices"
)

// Print is what two contents are compared by as a whole: the pieces of one, with how many
// bytes of it are such.
type Print struct {
	pieces []piece // by hash
	size   int
}

type piece struct {
	hash  uint64
	bytes int
}

// mostPiece is the length at which a line without an end is cut, as git does.
const mostPiece = 64

var seed = maphash.MakeSeed()

// NewPrint returns that of a content, which may be binary.
func NewPrint(content []byte) Print {
	p := Print{size: len(content)}
	for len(content) > 0 {
		n := min(len(content), mostPiece)
		if i := slices.Index(content[:n], '\n'); i >= 0 {
			n = i + 1
		}
		p.pieces = append(p.pieces, piece{maphash.Bytes(seed, content[:n]), n})
		content = content[n:]
	}
	slices.SortFunc(p.pieces, func(a, b piece) int {
		switch {
		case a.hash < b.hash:
			return -1
		case a.hash > b.hash:
			return 1
		}
		return 0
	})
	all := p.pieces[:0]
	for _, one := range p.pieces {
		if n := len(all); n > 0 && all[n-1].hash == one.hash {
			all[n-1].bytes += one.bytes
			continue
		}
		all = append(all, one)
	}
	p.pieces = slices.Clip(all)
	return p
}

// Len is what a comparison with p costs.
func (p Print) Len() int { return len(p.pieces) }

// Alike returns how much of the larger of two contents is in the other, in percent.
func (p Print) Alike(q Print) int {
	larger := max(p.size, q.size)
	if larger == 0 {
		return 100
	}
	if min(p.size, q.size)*100/larger < MostUnlike {
		return 0
	}
	same := 0
	for a, b := p.pieces, q.pieces; len(a) > 0 && len(b) > 0; {
		switch {
		case a[0].hash < b[0].hash:
			a = a[1:]
		case a[0].hash > b[0].hash:
			b = b[1:]
		default:
			same += min(a[0].bytes, b[0].bytes)
			a, b = a[1:], b[1:]
		}
	}
	return same * 100 / larger
}

// MostUnlike is the percentage from which on a file is taken for another that was renamed
// and edited, as git has it.
const MostUnlike = 50
