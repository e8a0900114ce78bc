# make alone lists the targets.
GO ?= go
DATA ?= data
FUZZTIME ?= 20s
SOAKTIME ?= 10m
CHAOSTIME ?= 3m
SEED ?= 0
DIST ?= dist
# Of a commit without a tag, the version is the one that Go gives it.
VERSION ?= $(shell git describe --tags --exact-match --match 'v*' 2>/dev/null || \
	TZ=UTC git show -s --abbrev=12 --date=format-local:%Y%m%d%H%M%S --format=v0.0.0-%cd-%h)
BIN := $(DATA)/bin/verenc

.PHONY: help run demo test recipes lint fuzz bench bench-history pgo scale soak chaos cover build setup clean release \
	release-test reproduce container container-test

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: SoftHSM2, and the AWS clients, the browser, the other tokens, PostgreSQL, systemd and promtool for the tests
	@scripts/setup.sh clients browser tokens postgres deploy

build: ## build the server into $(DATA)/bin
	@mkdir -p $(dir $(BIN))
	@test -e $(BIN) || echo 'building; the first time this takes a minute or two' >&2
	@$(GO) build -o $(BIN) ./cmd/verenc

run: ## install SoftHSM2 if needed, make a token and an access key in $(DATA), and serve on 127.0.0.1 (verenc dev)
	@scripts/setup.sh
	@$(MAKE) --no-print-directory build
	@VERENC_PRIVATE_LISTEN=$${VERENC_PRIVATE_LISTEN-127.0.0.1:8601} $(BIN) dev --data $(DATA)

demo: ## create a key, make and open a data key with the real AWS CLI, on a temporary server
	@scripts/setup.sh clients
	@scripts/demo.sh

test: setup ## all tests, with the race detector, SoftHSM2 and the real AWS clients
	@echo 'testing; the first time, compiling takes a few minutes' >&2
	@$(GO) test -race -timeout 30m ./...
	@cd scripts/deploy && $(GO) test -timeout 30m ./...

recipes: ## the commands of docs/recipes, with the real tools, against a server
	@scripts/setup.sh clients recipes
	@echo 'testing; the first time, compiling takes a few minutes' >&2
	@cd docs/recipes && $(GO) test -count=1 -parallel 2 -timeout 60m .

lint: ## gofmt, vet, staticcheck, and govulncheck where its database can be reached
	@echo gofmt; test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run gofmt -w on these files'; exit 1; }
	@echo go vet; $(GO) vet ./...
	@echo staticcheck; $(GO) tool staticcheck ./...
	@check=$$($(GO) tool -n staticcheck) && for module in scripts/release scripts/deploy docs/recipes; do \
		echo $$module; (cd $$module && $(GO) vet ./... && $$check ./...) || exit 1; done
	@echo govulncheck; GO=$(GO) scripts/vulncheck.sh

fuzz: ## every fuzz target for $(FUZZTIME)
	@GO=$(GO) scripts/fuzz.sh $(FUZZTIME)

bench: ## allocations and cost of a request by its parts; rates over HTTP, of the raw token and of a far token; audit log, PostgreSQL, nodes
	@scripts/setup.sh postgres
	@$(GO) test -run '^$$' -bench BenchmarkRequest -benchtime 5000x ./cmd/bench
	@$(GO) test -run '^$$' -bench 'BenchmarkCost|BenchmarkService|BenchmarkAudit|BenchmarkPages|BenchmarkDatabases|BenchmarkFairness|BenchmarkTurns' -benchtime 1x -timeout 30m ./cmd/bench
	@$(GO) test -run '^$$' -bench BenchmarkNodes -benchtime 1x -timeout 30m ./cmd/verenc

bench-history: ## add this commit to docs/performance-history.csv and its picture; on a machine that does nothing else
	@scripts/setup.sh
	@$(GO) test -run '^$$' -bench BenchmarkCost -benchtime 1x -timeout 30m ./cmd/bench -args -rounds 25 \
		-history $(abspath docs/performance-history.csv) -picture $(abspath docs/images/performance.svg) \
		-commit $$(git rev-parse --short=7 HEAD)

pgo: ## write $(DATA)/mix.pgo, a profile of the requests that a server gets most, for go build -pgo
	@scripts/setup.sh
	@mkdir -p $(DATA)
	@$(GO) test -run '^$$' -bench BenchmarkMix -benchtime 100x -timeout 30m -cpuprofile $(abspath $(DATA))/mix.pgo \
		-o $(abspath $(DATA))/bench.test ./cmd/bench
	@rm -f $(abspath $(DATA))/bench.test

scale: ## what a request costs, the time to start and the memory, with 1,000,000 keys and with 10, in SQLite and in PostgreSQL
	@scripts/setup.sh postgres
	@$(GO) test -run '^$$' -bench BenchmarkManyKeys -benchtime 1x -timeout 30m ./cmd/verenc

soak: ## use a token that fails in every way for $(SOAKTIME), and check that no key is lost
	@scripts/setup.sh
	@$(GO) run ./softhsm/faults/soak -for $(SOAKTIME)

chaos: ## kill, pause and cut off three servers under load for $(CHAOSTIME), and check their promises; SEED=N as that run
	@scripts/setup.sh postgres
	@mkdir -p $(DATA)/chaos
	@$(GO) test -count=1 -timeout 0 -v -run TestChaos -artifacts -outputdir $(abspath $(DATA))/chaos ./cmd/chaos \
		-args -for $(CHAOSTIME) -seed $(SEED)

release: ## binaries for amd64 and arm64, .deb, .rpm, SPDX and SHA256SUMS of the commit, in $(DIST)
	@scripts/setup.sh release
	@rm -rf $(DIST)
	@GO=$(GO) scripts/release/build.sh $(DIST) $(VERSION) amd64 arm64

release-test: ## install, start, use, upgrade and remove the .deb and the .rpm of $(DIST) on Debian in a container; as root
	@scripts/setup.sh release
	@scripts/release/test.sh $(DIST) $(VERSION)

reproduce: ## build the release a second time, elsewhere, and compare it with $(DIST)
	@GO=$(GO) scripts/release/reproduce.sh $(DIST) $(VERSION)

container: ## images of the release in $(DIST): verenc:VERSION, and verenc:VERSION-softhsm, which runs verenc dev
	@scripts/setup.sh container
	@scripts/deploy/container.sh $(DIST) $(VERSION)

container-test: ## build both images on a Debian made here, and serve from them without rights or a writable root; as root
	@scripts/setup.sh container
	@scripts/deploy/container-test.sh $(DIST) $(VERSION)

cover: setup ## coverage by package
	@$(GO) test -cover ./...

clean: ## remove $(DATA): the demo's token, keys and database
	@rm -rf $(DATA)
