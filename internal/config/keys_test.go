package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
)

// beside is what the value of a key needs beside it.
var beside = map[string]string{
	"network.address": `network.mode = "bridge"`,
	"network.mac":     "network.mode = \"bridge\"\nnetwork.address = \"192.168.83.6/24\"",
}

// document writes a file in which key has a value, with what has to be there, too.
func document(key Key, value string) string {
	name := strings.ReplaceAll(key.Name, "NAME", "TOKEN")
	for _, table := range []string{"network.allow", "workspace.clone", "volume", "share", "secrets.TOKEN"} {
		last, ok := strings.CutPrefix(name, table+".")
		if !ok {
			continue
		}
		var pairs []string
		for _, other := range Keys() {
			prefix := strings.ReplaceAll(table, "TOKEN", "NAME") + "."
			if strings.HasPrefix(other.Name, prefix) && other.Name != key.Name && other.Default == Required {
				pairs = append(pairs, strings.TrimPrefix(other.Name, prefix)+" = "+other.Example)
			}
		}
		element := "{ " + strings.Join(append(pairs, last+" = "+value), ", ") + " }"
		if table != "secrets.TOKEN" {
			element = "[" + element + "]"
		}
		name, value = table, element
	}
	text := name + " = " + value + "\n" + beside[key.Name] + "\n"
	if key.Name != "version" {
		text = "version = 1\n" + text
	}
	return text
}

func TestKeysExamples(t *testing.T) {
	for _, key := range Keys() {
		if key.Type == "" || key.Meaning == "" {
			t.Errorf("%s has no type or no meaning", key.Name)
		}
		if key.Example == "" {
			if key.Type != "list of tables" {
				t.Errorf("%s has no example", key.Name)
			}
			continue
		}
		text := document(key, key.Example)
		own := file("example.toml", text)
		own.Own = true
		if _, err := Load(Sources{Files: []File{own}}); err != nil {
			t.Errorf("the example of %s: %v\n%s", key.Name, err, text)
		}
	}
}

// A default that is a value is what the configuration has without the key.
func TestKeysDefaults(t *testing.T) {
	const none = "version = 1\n"
	without, err := Load(Sources{Files: []File{file("empty.toml", none)}})
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, f := range fields {
		var value map[string]any
		if toml.Unmarshal(fmt.Appendf(nil, "v = %s", f.preset), &value) != nil {
			continue // words
		}
		checked++
		own := file("default.toml", none+f.key+" = "+f.preset+"\n")
		own.Own = true
		with, err := Load(Sources{Files: []File{own}})
		if err != nil {
			t.Errorf("the default of %s: %v", f.key, err)
		} else if d := cmp.Diff(without, with); d != "" {
			t.Errorf("%s = %s is not the default (-none +with):\n%s", f.key, f.preset, d)
		}
	}
	if checked < 10 {
		t.Errorf("only %d defaults checked", checked)
	}
}
