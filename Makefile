# make run    set this machine up, build, and run a command in a machine
# make build  build bin/mayfly
# make test   install what the tests need, then check and run all of them
# make bench  measure, print a table, write bench.json
# make fuzz   run every fuzz target for FUZZTIME, one minute
# make check  gofmt, go vet, staticcheck, and the tests without machines
# make docs   write docs/reference and docs/design/modules.txt anew

GO ?= go
AGENT := internal/guest/binary/build/mayfly-guest
# Go files and what they embed.
SOURCES := $(shell find cmd internal -type f ! -path '*/build/*' ! -path '*/testdata/*') $(wildcard *.go) go.mod go.sum
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

.PHONY: all build run test bench fuzz check docs man clean

all: build

build: bin/mayfly

# Static, since it runs in an initramfs without any library.
$(AGENT): $(SOURCES)
	CGO_ENABLED=0 GOOS=linux $(GO) build -trimpath -ldflags='-s -w' -o $@ ./cmd/mayfly-guest

bin/mayfly: $(AGENT) $(SOURCES)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-X main.version=$(VERSION)' -o $@ ./cmd/mayfly

run:
	scripts/setup.sh run
	$(MAKE) --no-print-directory build
	scripts/first-run.sh

test:
	scripts/setup.sh test
	$(MAKE) --no-print-directory build
	scripts/test.sh all

bench: build
	$(GO) run ./cmd/mayfly-bench $(BENCHFLAGS)

fuzz: $(AGENT)
	scripts/fuzz.sh

check: $(AGENT)
	scripts/test.sh check

docs: $(AGENT)
	$(GO) test ./internal/treetest -run 'TestReference|TestModuleList' -count=1 -update

man: build
	bin/mayfly man man

clean:
	rm -rf bin bench.json $(AGENT)
