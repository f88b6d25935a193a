// Package treetest holds no code, only the tests of what the source as a whole
// must keep to: who may import whom, what is written in no file, which modules
// are used and why.
//
// They are statements of policy. One that fails says that a change breaks a
// rule; changing the rule is a decision of its own, with its own reason.
//
// Everything is read in-process with go/parser. A test that asks the go or the
// git command instead is wrongly cached by go test, which does not see what
// those read.
package treetest
