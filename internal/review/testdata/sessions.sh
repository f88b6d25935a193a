#!/usr/bin/env bash
# Workloads of honest sessions, for TestSessions. "sessions.sh list" prints their names,
# "sessions.sh base NAME" makes the project in the current directory, and "sessions.sh work
# NAME" works on it as a coding agent would, with the real tools: TestRecordSessions calls
# that in a machine.
set -eu
export GIT_AUTHOR_NAME=U GIT_AUTHOR_EMAIL=u@host.example GIT_COMMITTER_NAME=U GIT_COMMITTER_EMAIL=u@host.example
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false

w() { mkdir -p "$(dirname "$1")"; cat >"$1"; } # write a file
edit() { python3 - "$@" <<'PY'
import sys
path, old, new = sys.argv[1:4]
text = open(path, encoding='utf-8').read()
assert old in text, (path, old)
open(path, 'w', encoding='utf-8').write(text.replace(old, new).replace('\\n', '\n') if '\\n' in new else text.replace(old, new))
PY
}
commit() { git add -A && git commit -qm "$1"; }

base_go() {
	git init -q -b main
	w go.mod <<<$'module example.com/shop\n\ngo 1.24'
	w .gitignore <<<$'/bin/\n*.log\n'
	w README.md <<<$'# shop\n\nA small shop. Run `make test`.\n'
	w Makefile <<<$'test:\n\tgo test ./...\n'
	w CHANGELOG.md <<<$'# Changes\n\n## 1.2.0\n\n- Carts.\n'
	w .github/workflows/ci.yml <<<$'name: ci\non: [push, pull_request]\njobs:\n  test:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: actions/checkout@v4\n      - uses: actions/setup-go@v5\n        with:\n          go-version: "1.23"\n      - run: make test\n'
	w internal/cart/cart.go <<'G'
// Package cart holds what a customer is about to buy.
package cart

import "errors"

// ErrEmpty is the error of a cart without items.
var ErrEmpty = errors.New("cart is empty")

// Item is one line of a cart.
type Item struct {
	Name  string
	Price int // cents
	Count int
}

// Total returns the sum of all items.
func Total(items []Item) (int, error) {
	if len(items) == 0 {
		return 0, ErrEmpty
	}
	sum := 0
	for _, i := range items {
		sum += i.Price
	}
	return sum, nil
}
G
	w internal/cart/cart_test.go <<<$'package cart\n\nimport "testing"\n\nfunc TestTotal(t *testing.T) {\n\tgot, err := Total([]Item{{"a", 3, 1}})\n\tif err != nil || got != 3 {\n\t\tt.Errorf("Total = %d, %v", got, err)\n\t}\n}\n'
	w internal/token/token.go <<<$'// Package token makes session tokens.\npackage token\n\nimport "crypto/rand"\n\n// New returns a token.\nfunc New() string { return rand.Text() }\n'
	w cmd/shop/main.go <<<$'package main\n\nimport (\n\t"fmt"\n\n\t"example.com/shop/internal/token"\n)\n\nfunc main() { fmt.Println(token.New()) }\n'
	w internal/render/render.go <<<$'package render\n\n// Price renders cents.\nfunc Price(cents int) string { return "" }\n'
	commit "Begin the shop"
}
base_node() {
	git init -q -b main
	w .gitignore <<<$'node_modules/\ndist/\n.env\n'
	w package.json <<<$'{\n  "name": "web",\n  "version": "0.3.0",\n  "private": true,\n  "type": "module",\n  "scripts": {\n    "dev": "vite",\n    "test": "node --test"\n  },\n  "dependencies": {\n    "ms": "^2.1.2"\n  }\n}'
	w src/main.ts <<<$'import { Button } from "./components/Button";\n\nexport const app = () => Button({ label: "Buy" });\n'
	w src/components/Button.tsx <<<$'type Props = { label: string };\n\nexport function Button({ label }: Props) {\n  return <button className="btn">{label}</button>;\n}\n'
	w src/api.js <<<$'export async function load(id, token) {\n  const res = await fetch(`/api/items/${id}`, { headers: { Authorization: `Bearer ${token}` } });\n  if (!res.ok) throw new Error(`status ${res.status}`);\n  return res.json();\n}\n'
	w src/styles.css <<<$'.btn { color: white; background: #2563eb; }\n'
	w vite.config.ts <<<$'import { defineConfig } from "vite";\n\nexport default defineConfig({ server: { port: 5173 } });\n'
	w locales/en.json <<<$'{\n  "buy": "Buy",\n  "cart": "Your cart has {count} items"\n}\n'
	w README.md <<<$'# web\n\n    npm install\n    npm run dev\n'
	npm install --silent --package-lock-only >/dev/null
	commit "Begin the site"
}
base_python() {
	git init -q -b main
	w .gitignore <<<$'.venv/\n__pycache__/\n*.pyc\n.env\n'
	w pyproject.toml <<<$'[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n\n[project]\nname = "ledger"\nversion = "0.4.1"\ndependencies = ["click>=8"]\n\n[tool.ruff]\nline-length = 100\n'
	w requirements.txt <<<$'click==8.1.7\nrequests==2.31.0\n'
	w src/ledger/__init__.py <<<$'"""A ledger."""\n'
	w src/ledger/book.py <<<$'from dataclasses import dataclass\n\n\n@dataclass\nclass Entry:\n    name: str\n    cents: int\n\n\ndef balance(entries):\n    return sum(e.cents for e in entries)\n'
	w src/ledger/auth.py <<<$'import os\n\nAPI_TOKEN = os.environ.get("LEDGER_API_TOKEN", "")\n\n\ndef check(password: str, stored: str) -> bool:\n    return password == stored\n'
	w tests/test_book.py <<<$'from ledger.book import Entry, balance\n\n\ndef test_balance():\n    assert balance([Entry("a", 3)]) == 3\n'
	w README.md <<<$'# ledger\n\nKeeps books.\n'
	commit "Begin the ledger"
}
base_rust() {
	git init -q -b main
	w .gitignore <<<$'/target\n'
	w Cargo.toml <<<$'[package]\nname = "grid"\nversion = "0.1.0"\nedition = "2021"\n\n[dependencies]\nitoa = "1"\n'
	w src/lib.rs <<<$'//! A grid.\n\npub fn area(w: u32, h: u32) -> u32 {\n    w * h\n}\n\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn area() {\n        assert_eq!(super::area(2, 3), 6);\n    }\n}\n'
	cargo generate-lockfile -q
	commit "Begin the grid"
}
base_infra() {
	git init -q -b main
	w Dockerfile <<<$'FROM debian:12\nRUN apt-get update && apt-get install -y curl\nCOPY . /app\nCMD ["/app/run.sh"]\n'
	w compose.yaml <<<$'services:\n  web:\n    build: .\n    ports: ["8080:8080"]\n    environment:\n      DATABASE_URL: postgres://app:app@db:5432/app\n  db:\n    image: postgres:15\n    volumes:\n      - data:/var/lib/postgresql/data\nvolumes:\n  data: {}\n'
	w run.sh <<<$'#!/bin/sh\nset -e\nexec /app/server\n'
	chmod +x run.sh
	w deploy/web.yaml <<<$'apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 2\n  template:\n    spec:\n      containers:\n        - name: web\n          image: shop/web:1.2.0\n          securityContext:\n            runAsNonRoot: true\n'
	w main.tf <<<$'variable "region" {\n  default = "eu-1"\n}\n\nresource "x_bucket" "logs" {\n  name = "logs-${var.region}"\n}\n'
	w .github/workflows/deploy.yml <<<$'name: deploy\non:\n  push:\n    branches: [main]\njobs:\n  deploy:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: actions/checkout@v4\n      - run: ./run.sh\n        env:\n          TOKEN: ${{ secrets.DEPLOY_TOKEN }}\n'
	w README.md <<<$'# infra\n\nDeploys the shop.\n'
	commit "Begin the infrastructure"
}
base_docs() {
	git init -q -b main
	w README.md <<<$'# Kite\n\nKite flies.\n\n## Install\n\nDownload a release.\n'
	w docs/guide.md <<<$'# Guide\n\n1. Open the box.\n2. Fly.\n'
	w docs/api.md <<<$'# API\n\n| call | does |\n|-|-|\n| `GET /kites` | lists kites |\n'
	w CHANGELOG.md <<<$'# Changelog\n\n## 2.0.0\n\n- New string.\n'
	w main.c <<<$'#include <stdio.h>\n\nint main(void) {\n\tputs("kite");\n\treturn 0;\n}\n'
	w Makefile <<<$'kite: main.c\n\t$(CC) -o $@ main.c\n'
	w pom.xml <<<$'<project>\n  <modelVersion>4.0.0</modelVersion>\n  <groupId>com.example</groupId>\n  <artifactId>kite</artifactId>\n  <version>2.0.0</version>\n</project>\n'
	commit "Begin the kite"
}

# Go
go_fix() {
	edit internal/cart/cart.go "sum += i.Price" "sum += i.Price * i.Count"
	edit internal/cart/cart_test.go '{"a", 3, 1}' '{"a", 1, 3}'
	go test ./... >/dev/null
	commit "Count items"
}
go_tidy() {
	edit internal/cart/cart_test.go 'import "testing"' $'import (\n\t"testing"\n\n\t"github.com/google/go-cmp/cmp"\n)\n\nfunc TestItems(t *testing.T) {\n\tif d := cmp.Diff(Item{}, Item{}); d != "" {\n\t\tt.Error(d)\n\t}\n}'
	go mod tidy >/dev/null 2>&1
	go test ./... >/dev/null
}
go_rename() { git mv internal/cart internal/basket; grep -rl 'package cart' internal | xargs sed -i 's/package cart/package basket/;s/Package cart/Package basket/'; go build ./...; commit "Call it a basket"; }
go_test() { w internal/token/token_test.go <<<$'package token\n\nimport "testing"\n\nfunc TestNew(t *testing.T) {\n\tif a, b := New(), New(); a == b {\n\t\tt.Errorf("the token %q twice", a)\n\t}\n}\n'; go test ./... >/dev/null; }
go_generate() {
	edit internal/cart/cart.go $'package cart\n\nimport' $'package cart\n\n//go:generate go run ../../tools/kinds.go\n\nimport'
	w tools/kinds.go <<<$'//go:build ignore\n\npackage main\n\nimport (\n\t"fmt"\n\t"os"\n)\n\nfunc main() {\n\tf, _ := os.Create("kinds_gen.go")\n\tfmt.Fprintln(f, "// Code generated by kinds.go. DO NOT EDIT.\\n\\npackage cart\\n\\nvar kinds = map[string]int{")\n\tfor i := range 200 {\n\t\tfmt.Fprintf(f, "\\t\\"k%d\\": %d,\\n", i, i)\n\t}\n\tfmt.Fprintln(f, "}")\n}\n'
	go generate ./...; gofmt -w internal
}
go_format() { for i in $(seq 20); do printf 'package render\nfunc  f%d( )  int {\nreturn   %d }\n' "$i" "$i" >internal/render/f$i.go; done; commit x; gofmt -w .; }
go_make() { printf '\nlint:\n\tgo vet ./...\n\nbuild:\n\tgo build -o bin/shop ./cmd/shop\n' >>Makefile; make -s build lint; }
go_command() { w cmd/report/main.go <<<$'// Command report prints the sales of a day.\npackage main\n\nimport (\n\t"flag"\n\t"fmt"\n)\n\nfunc main() {\n\tday := flag.String("day", "today", "the day")\n\tflag.Parse()\n\tfmt.Println("sales of", *day)\n}\n'; go run ./cmd/report >/dev/null; edit README.md "Run" "See \`go run ./cmd/report\`. Run"; }
go_colours() { w internal/render/testdata/help.golden <<<$'\e[1mshop\e[0m  \e[32mok\e[0m\n'; w internal/render/render_test.go <<<$'package render\n\nimport "testing"\n\nfunc TestPrice(t *testing.T) {\n\tif got := "\\x1b[1m" + Price(3); got == "" {\n\t\tt.Error(got)\n\t}\n}\n'; go test ./... >/dev/null; }
go_version() { sed -i 's/^go 1.24/go 1.25/' go.mod; edit .github/workflows/ci.yml '"1.23"' '"1.25"'; }
go_remove() { git rm -qr internal/render; edit README.md "A small shop." "A very small shop."; commit "Remove what nobody uses"; }
go_rebase() {
	git checkout -qb topic; edit README.md "A small shop" "A good shop"; commit "Praise"
	git checkout -q main; edit CHANGELOG.md "Carts." $'Carts.\n- Tokens.'; commit "More changes"
	git checkout -q topic; git rebase -q main
	git checkout -q main; git merge -q --ff-only topic
}
go_release() { edit CHANGELOG.md $'# Changes\n' $'# Changes\n\n## 1.3.0\n\n- Tokens are longer.\n'; w internal/version/version.go <<<$'// Package version says which release this is.\npackage version\n\n// Version is the release.\nconst Version = "1.3.0"\n'; commit "Release 1.3.0"; git tag -a v1.3.0 -m 1.3.0; }
go_sql() { for i in 1 2 3; do w migrations/000$i.up.sql <<<"CREATE TABLE t$i (id bigint PRIMARY KEY, password_hash text NOT NULL, token uuid DEFAULT gen_random_uuid());"; w migrations/000$i.down.sql <<<"DROP TABLE t$i;"; done; w migrations/embed.go <<<$'package migrations\n\nimport "embed"\n\n//go:embed *.sql\nvar Files embed.FS\n'; }
go_http() { w internal/server/server.go <<'G'
package server

import (
	"crypto/subtle"
	"net/http"
)

// Server answers requests that carry the token.
type Server struct{ Token string }

const tokenHeader = "X-Session-Token-V2"

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secret := r.Header.Get(tokenHeader)
	if subtle.ConstantTimeCompare([]byte(secret), []byte(s.Token)) != 1 {
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
G
	w internal/server/server_test.go <<<$'package server\n\nimport (\n\t"net/http/httptest"\n\t"testing"\n)\n\nfunc TestServer(t *testing.T) {\n\tw := httptest.NewRecorder()\n\tr := httptest.NewRequest("GET", "http://user:pass@localhost/", nil)\n\tr.Header.Set(tokenHeader, "test-token-1")\n\t(&Server{Token: "test-token-1"}).ServeHTTP(w, r)\n\tif w.Code != 204 {\n\t\tt.Error(w.Code)\n\t}\n}\n'
	go test ./... >/dev/null; }
go_ci() { edit .github/workflows/ci.yml "actions/checkout@v4" "actions/checkout@v5"; edit .github/workflows/ci.yml "      - run: make test" $'      - uses: actions/cache@v4\n        with:\n          path: ~/go/pkg/mod\n          key: go-${{ hashFiles(\'**/go.sum\') }}\n      - run: make test'; }
go_license() { for f in $(git ls-files '*.go'); do { echo "// Copyright 2026 The Shop Authors. All rights reserved."; echo; cat "$f"; } >t && mv t "$f"; done; w LICENSE <<<"Permission is granted to all."; }
go_hash() { w internal/cart/sums.go <<<$'package cart\n\n// sums are the hashes of price lists.\nvar sums = map[string]string{\n\t"token": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",\n\t"id":    "6f1d1a90-58c4-4f0a-9d3e-0a1b2c3d4e5f",\n}\n'; go vet ./internal/cart; }

# The web
node_install() { npm install --silent is-odd@3.0.1 >/dev/null; w src/odd.js <<<$'import isOdd from "is-odd";\n\nexport const stripe = (i) => (isOdd(i) ? "odd" : "even");\n'; w test/odd.test.js <<<$'import test from "node:test";\nimport assert from "node:assert";\nimport { stripe } from "../src/odd.js";\n\ntest("stripe", () => assert.equal(stripe(3), "odd"));\n'; npm test --silent >/dev/null; }
node_bump() { npm install --silent --package-lock-only ms@2.1.3 >/dev/null; }
node_component() { w src/components/Cart.tsx <<<$'import { Button } from "./Button";\n\ntype Props = { items: { id: string; name: string }[] };\n\nexport function Cart({ items }: Props) {\n  return (\n    <ul className="cart">\n      {items.map((i) => (\n        <li key={i.id}>{i.name} <Button label="×" /></li>\n      ))}\n    </ul>\n  );\n}\n'; printf '.cart { list-style: none; padding: 0 }\n' >>src/styles.css; w "src/routes/[id].tsx" <<<$'export default function Page({ params }) {\n  return <main>{params.id}</main>;\n}\n'; w "src/routes/(shop)/\$cart.tsx" <<<$'export default () => null;\n'; }
node_snapshot() { w src/__snapshots__/Cart.test.tsx.snap <<<$'// Jest Snapshot v1\n\nexports[`renders 1`] = `\n<ul\n  class="cart"\n/>\n`;\n\nexports[`logs 1`] = `"\e[33mwarn\e[39m token expired"`;\n'; w src/Cart.test.tsx <<<$'import { Cart } from "./components/Cart";\n\nit("renders", () => expect(Cart({ items: [] })).toMatchSnapshot());\n'; }
node_i18n() {
	w locales/ar.json <<<$'{\n  "buy": "اشترِ",\n  "cart": "في سلتك \u2066{count}\u2069 عناصر",\n  "from": "من \u200fA إلى B"\n}\n'
	w locales/he.json <<<$'{\n  "buy": "לקנות",\n  "cart": "יש {count} פריטים בעגלה (\u200e+972)"\n}\n'
	w locales/fa.json <<<$'{\n  "buy": "می\u200cخرم"\n}\n'
	w locales/zh.json <<<$'{\n  "buy": "购买",\n  "cart": "您的购物车有 {count} 件商品"\n}\n'
	w locales/hi.json <<<$'{\n  "buy": "ख़रीदें", "x": "क्\u200dष"\n}\n'
	w locales/ru.json <<<$'{\n  "buy": "Купить", "api": "API-ключ"\n}\n'
	w locales/th.json <<<$'{\n  "buy": "ซื้อ\u200bเลย"\n}\n'; }
node_format() { python3 - <<'PY'
import glob
for p in glob.glob('src/**/*.*', recursive=True):
    s = open(p).read()
    open(p, 'w').write(s.replace('"', "'").replace('  ', '\t'))
PY
}
node_config() { edit vite.config.ts "port: 5173" "port: 5173, open: false"; }
node_minified() { python3 - <<'PY'
import os
os.makedirs('public/vendor', exist_ok=True)
s = '!function(e){"use strict";' + ''.join('e.f%d=function(t){return t+%d};' % (i, i) for i in range(600)) + '}(window);'
open('public/vendor/charts.min.js', 'w').write('/*! charts 3.1 */\n' + s + '\n')
PY
}
node_icons() { w public/icon.svg <<<$'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path d="M12 2 2 22h20z"/></svg>\n'; python3 -c "
import zlib,struct
c=lambda t,d: struct.pack('>I',len(d))+t+d+struct.pack('>I',zlib.crc32(t+d))
open('public/icon.png','wb').write(b'\x89PNG\r\n\x1a\n'+c(b'IHDR',struct.pack('>IIBBBBB',4,4,8,2,0,0,0))+c(b'IDAT',zlib.compress((b'\0'+b'\x25\x63\xeb'*4)*4))+c(b'IEND',b''))"; }
node_script() { edit package.json '"test": "node --test"' $'"test": "node --test",\n    "lint": "eslint src"'; w eslint.config.js <<<$'export default [{ rules: { "no-unused-vars": "error" } }];\n'; }
node_version() { npm version --silent --no-git-tag-version 0.4.0 >/dev/null; commit "Release 0.4.0"; }
node_env() { w .env.example <<<$'API_URL=http://localhost:3000\nAPI_KEY=your-api-key-here\nDATABASE_URL=postgres://postgres:postgres@localhost:5432/app\n'; edit README.md "npm install" $'cp .env.example .env\n    npm install'; }
node_api() { edit src/api.js "return res.json();" $'const data = await res.json();\n  if (!data.token) throw new Error("no token");\n  return data;'; w src/auth.ts <<<$'export const STORAGE_KEY = "auth.session.token.v2";\nexport const TOKEN_ENDPOINT = "/oauth/token";\n\nexport function authHeader(accessToken: string) {\n  return { Authorization: `Bearer ${accessToken}`, "X-Api-Key": import.meta.env.VITE_API_KEY };\n}\n'; }
node_move() { mkdir -p src/ui; git mv src/components/Button.tsx src/ui/Button.tsx; edit src/main.ts "./components/Button" "./ui/Button"; }
node_build() { mkdir -p dist/assets; for i in 1 2 3; do head -c 9000 /dev/zero | tr '\0' 'a' >dist/assets/index-$i.js; done; edit src/styles.css "#2563eb" "#1d4ed8"; }

# Python
py_venv() { python3 -m venv --without-pip .venv; w src/ledger/report.py <<<$'from .book import balance\n\n\ndef report(entries):\n    return f"balance: {balance(entries) / 100:.2f}"\n'; PYTHONPATH=src python3 -c "import ledger.report"; }
py_test() { w tests/test_auth.py <<<$'import pytest\n\nfrom ledger.auth import check\n\n\n@pytest.mark.parametrize("password", ["s3cr3t-pa55word", "hunter2", "correct horse"])\ndef test_check(password):\n    assert check(password, password)\n'; }
py_pins() { sed -i 's/8.1.7/8.1.8/;s/2.31.0/2.32.3/' requirements.txt; }
py_depend() { edit pyproject.toml '"click>=8"' '"click>=8", "rich>=13"'; edit src/ledger/book.py "def balance(entries):" "def balance(entries: list[Entry]) -> int:"; }
py_notebook() { python3 - <<'PY'
import json
cells = [{"cell_type": "code", "execution_count": 1, "metadata": {}, "outputs": [{"data": {"image/png": "iVBORw0KGgo" + "AAECAwQFBgcICQ" * 60}, "output_type": "display_data", "metadata": {}}], "source": ["plot(balance)"]}]
json.dump({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, open("analysis.ipynb", "w"), indent=1)
PY
}
py_fake_keys() { w tests/fixtures/credentials.ini <<<$'[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n'; w tests/test_mask.py <<<$'TOKEN = "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"\nKEY = "sk-test-0000000000000000"\n\n\ndef test_mask():\n    assert TOKEN[:4] + "…" == "ghp_…"\n'; }
py_cassette() { w tests/cassettes/login.yaml <<<$'interactions:\n- request:\n    headers: {Authorization: [Bearer REDACTED]}\n    uri: https://api.host.example/v1/login\n  response:\n    body: {string: \'{"access_token": "f3a9c1e7b5d24860"}\'}\n'; }
py_types() { sed -i 's/def check(password: str, stored: str)/def check(password: str, *, stored: str)/' src/ledger/auth.py; edit src/ledger/book.py "    cents: int" $'    cents: int\n    note: str | None = None'; }
py_migration() { w src/ledger/migrations/0002_note.py <<<$'dependencies = [("ledger", "0001_initial")]\n\noperations = [("add", "entry", "note", "text")]\n'; w src/ledger/migrations/__init__.py </dev/null; }
py_install_docs() { edit README.md "Keeps books." $'Keeps books.\n\n## Install\n\n    curl -LsSf https://ledger.example/install.sh | sh\n'; }
py_split() { mkdir -p src/ledger/core; git mv src/ledger/book.py src/ledger/core/book.py; w src/ledger/core/__init__.py <<<$'from .book import Entry, balance\n\n__all__ = ["Entry", "balance"]\n'; sed -i 's/ledger.book/ledger.core/' tests/test_book.py; PYTHONPATH=src python3 -c "import ledger.core"; }
py_script() { w scripts/export.py <<<$'#!/usr/bin/env python3\n"""Exports the ledger as CSV."""\nimport csv\nimport sys\n\ncsv.writer(sys.stdout).writerow(["name", "cents"])\n'; chmod +x scripts/export.py; ./scripts/export.py >/dev/null; }

# Rust
rust_add() { cargo add -q ryu@1.0.18; cargo generate-lockfile -q; edit src/lib.rs "//! A grid." $'//! A grid.\n\n/// Prints a number.\npub fn show(x: f64) -> String {\n    ryu::Buffer::new().format(x).to_owned()\n}\n'; }
rust_split() { w src/cell.rs <<<$'//! Cells.\n\n#[derive(Debug, Clone, PartialEq)]\npub struct Cell {\n    pub x: u32,\n    pub y: u32,\n}\n'; edit src/lib.rs "//! A grid." $'//! A grid.\n\npub mod cell;\n'; rustfmt --check src/cell.rs >/dev/null 2>&1 || true; }
rust_version() { sed -i 's/^version = "0.1.0"/version = "0.2.0"/' Cargo.toml; cargo generate-lockfile -q; commit "Release 0.2.0"; }

# Infrastructure
infra_docker() { edit Dockerfile "apt-get install -y curl" "apt-get install -y --no-install-recommends curl ca-certificates && rm -rf /var/lib/apt/lists/*"; }
infra_image() { edit compose.yaml "postgres:15" "postgres:16"; }
infra_scale() { edit deploy/web.yaml "replicas: 2" "replicas: 3"; edit deploy/web.yaml "1.2.0" "1.3.0"; }
infra_variable() { printf '\nvariable "keep_days" {\n  type    = number\n  default = 30\n}\n' >>main.tf; }
infra_matrix() { edit .github/workflows/deploy.yml "    runs-on: ubuntu-24.04" $'    strategy:\n      matrix:\n        region: [eu-1, us-1]\n    runs-on: ubuntu-24.04'; }
infra_script() { edit run.sh "set -e" "set -eu"; edit README.md "Deploys" "Builds and deploys"; }

# Texts
docs_change() { edit docs/guide.md "2. Fly." $'2. Check the wind: `curl -s https://wind.example/api | jq .speed`.\n3. Fly.'; edit docs/api.md "lists kites |" $'lists kites |\n| `POST /kites` | makes one; needs an `Authorization: Bearer TOKEN` header |'; }
docs_emoji() { edit README.md "Kite flies." $'🪁 Kite flies. 👩‍💻 Made with ❤️ by 🧑🏽‍🚀 in 🏴󠁧󠁢󠁳󠁣󠁴󠁿 and 🏳️‍🌈. 1️⃣ ✅ ⚡️\n\n```\n⠋⠙⠹ ⣿⣿⠀⣿⣿\n```'; }
docs_arabic() { w docs/README.ar.md <<<$'# طائرة ورقية\u200f\n\nثبّت \u2066kite\u2069 ثم شغّل `make`.\n'; w docs/README.he.md <<<$'# עפיפון\n\nהריצו `make`\u200f.\n'; }
docs_chinese() { w docs/zh/指南.md <<<$'# 指南\n\n打开盒子，然后放飞。葛\U000e0100城。\n'; w docs/ja/案内.md <<<$'# 案内\n\n箱を開けて、飛ばす。\n'; }
docs_diagram() { w docs/flow.svg <<<$'<svg xmlns="http://www.w3.org/2000/svg"><rect width="10" height="10"/><text>wind → kite</text></svg>\n'; w docs/flow.mmd <<<$'graph LR\n  wind --> kite\n'; }
docs_changelog() { edit CHANGELOG.md $'# Changelog\n' $'# Changelog\n\n## 2.1.0\n\n- Longer tail.\n- Fix: the key `secret_token` is read again.\n'; }
docs_c() { edit main.c 'puts("kite");' $'for (int i = 0; i < 3; i++)\n\t\tputs("kite");'; edit Makefile '$(CC) -o' '$(CC) -O2 -Wall -o'; make -s kite && rm kite; }
docs_java() { w src/main/java/com/example/Kite.java <<<$'package com.example;\n\npublic final class Kite {\n    private final String accessTokenHeader = "X-Access-Token-2";\n\n    public String header() {\n        return accessTokenHeader;\n    }\n}\n'; edit pom.xml "<version>2.0.0</version>" $'<version>2.1.0</version>\n  <dependencies>\n    <dependency><groupId>junit</groupId><artifactId>junit</artifactId><version>4.13.2</version></dependency>\n  </dependencies>'; }
docs_crlf() { sed -i 's/$/\r/' docs/guide.md; }
docs_table() { python3 -c "
rows = [['name', 'what it does', 'since']] + [['kite%d' % i, 'flies ' * (i * 3), '1.%d' % i] for i in range(12)]
print('# Kites\n'); [print('| ' + ' | '.join(c.ljust(180) for c in r) + ' |') for r in rows]" >docs/table.md; }

# A coding agent, with a model that TestRecordSessions plays
agent_claude() { claude --dangerously-skip-permissions -p "Write a page about the wind, and commit it."; }

case "$1" in
list) sed -n 's/^\(\(go\|node\|py\|rust\|infra\|docs\|agent\)_[a-z0-9_]*\)() .*/\1/p' "$0" ;;
base)
	case "$2" in go_*) base_go ;; node_*) base_node ;; py_*) base_python ;; rust_*) base_rust ;; infra_*) base_infra ;; docs_* | agent_*) base_docs ;; esac
	;;
work) "$2" ;;
esac
