package wire

// News is what happens in the guest, as it happens.
type News struct {
	// Killed is a program that the kernel ended because there was no memory left.
	Killed *Killed `json:"killed,omitempty"`
}

// Killed is a program that the kernel ended.
type Killed struct {
	Program string `json:"program"` // its name, which it chooses itself
}
