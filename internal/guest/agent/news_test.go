package agent

import (
	"strings"
	"testing"
)

func TestKilled(t *testing.T) {
	for record, want := range map[string]string{
		"3,871,44123,-;Out of memory: Killed process 412 (perl) total-vm:1900000kB, anon-rss:1800000kB, file-rss:0kB, shmem-rss:0kB, UID:1000 pgtables:3600kB oom_score_adj:0\n": "perl",
		"3,9,1,c;Memory cgroup out of memory: Killed process 7 (a) (b)) total-vm:1kB\n SUBSYSTEM=x\n":                                                                            "a) (b)",
		"3,9,1,-;Out of memory and no killable processes...":                                                                                                                     "",
		"3,9,1,-;Out of memory: Killed process 7":                                                                                                                                "",
		"3,9,1,-;Out of memory: Killed process 7 (x":                                                                                                                             "",
		"11,9,1,-;Out of memory: Killed process 7 (perl) total-vm:1kB":                                                                                                           "", // a program wrote it
		"3,9,1,-;my driver: Out of memory: Killed process 7 (perl) total-vm:1kB":                                                                                                 "",
		"6,9,1,-;hello": "",
		"":              "",
		";":             "",
		"3,9,1,-;Out of memory: Killed process 7 (" + strings.Repeat("x", 100) + ") total-vm:1kB": "",
	} {
		if got, ok := killed(record); got != want || ok != (want != "") {
			t.Errorf("killed(%q) = %q, %v; want %q", record, got, ok, want)
		}
	}
}

func FuzzKilled(f *testing.F) {
	f.Add("3,871,44123,-;Out of memory: Killed process 412 (perl) total-vm:1900000kB\n")
	f.Fuzz(func(t *testing.T, record string) {
		if name, ok := killed(record); len(name) > maxName || !ok && name != "" {
			t.Errorf("killed(%q) = %q, %v", record, name, ok)
		}
	})
}
