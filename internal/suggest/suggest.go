// Package suggest finds what was probably meant by a word that nobody knows.
package suggest

import "strings"

// most is how many bytes of a word are compared: the time that it takes grows with
// the product of the lengths.
const most = 64

// Nearest returns the candidate, all of them in lower case, that word is probably
// a misspelling of, or "".
func Nearest(word string, candidates []string) string {
	if len(word) > most {
		return "" // not a typing error
	}
	best, limit := "", 1+len(word)/4
	for _, c := range candidates {
		if d := Distance(strings.ToLower(word), c); d <= limit {
			best, limit = c, d-1
		}
	}
	return best
}

// Distance is the number of bytes to insert, remove or replace, or of neighbours
// to exchange, to make b of a (optimal string alignment). It compares the first
// 64 bytes.
func Distance(a, b string) int {
	a, b = a[:min(len(a), most)], b[:min(len(b), most)]
	older, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], older[j-2]+1)
			}
		}
		older, prev, cur = prev, cur, older
	}
	return prev[len(b)]
}
