# make alone lists the targets.
GO ?= go
DATA ?= data
FUZZTIME ?= 20s
SOAKTIME ?= 10m
BIN := $(DATA)/bin/verenc

.PHONY: help run demo test lint fuzz bench scale soak cover build setup clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: SoftHSM2, and the AWS clients, the browser, the other tokens and PostgreSQL for the tests
	@scripts/setup.sh clients browser tokens postgres

build: ## build the server into $(DATA)/bin
	@mkdir -p $(dir $(BIN))
	@test -e $(BIN) || echo 'building; the first time takes a minute or two' >&2
	@$(GO) build -o $(BIN) ./cmd/verenc

run: ## install SoftHSM2 if need be, make a token and an access key below $(DATA), and serve on 127.0.0.1
	@scripts/setup.sh
	@$(MAKE) --no-print-directory build
	@scripts/run.sh $(DATA)

demo: ## the main job with the real AWS CLI, on a throw-away server
	@scripts/setup.sh clients
	@scripts/demo.sh

test: ## all tests, with the race detector, SoftHSM2 and the real AWS clients
	@scripts/setup.sh clients browser tokens postgres
	@echo 'testing; the first time, compiling takes a few minutes' >&2
	@$(GO) test -race -timeout 30m ./...

lint: ## gofmt, vet, staticcheck, govulncheck
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run gofmt -w on these files'; exit 1; }
	@$(GO) vet ./...
	@$(GO) tool staticcheck ./...
	@$(GO) tool govulncheck ./...

fuzz: ## every fuzz target for $(FUZZTIME)
	@scripts/fuzz.sh $(FUZZTIME)

bench: ## rates over HTTP, of the raw token, a bare handler and a far token, their ratios; what the audit log costs
	@scripts/setup.sh
	@$(GO) test -run '^$$' -bench 'BenchmarkService|BenchmarkAudit' -benchtime 1x -timeout 30m ./hsm

scale: ## what a request costs, the start and the memory, with 1,000,000 keys and with 10
	@scripts/setup.sh
	@$(GO) test -run '^$$' -bench BenchmarkManyKeys -benchtime 1x -timeout 30m ./cmd/verenc

soak: ## hours of an HSM's bad days in $(SOAKTIME), and what became of the keys
	@scripts/setup.sh
	@$(GO) run ./softhsm/faults/soak -for $(SOAKTIME)

cover: ## coverage by package
	@scripts/setup.sh clients browser tokens postgres
	@$(GO) test -cover ./...

clean: ## remove $(DATA): the demo's token, keys and database
	@rm -rf $(DATA)
