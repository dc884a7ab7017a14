# rcc: build, test, check. "make test" is what the README names.

GO          ?= go
PREFIX      ?= /usr/local
DESTDIR     ?=
VERSION     ?=
FUZZTIME    ?= 50000x
TESTTIMEOUT ?= 20m

# The tools are run at fixed versions and stay out of go.mod.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOFUMPT     = mvdan.cc/gofumpt@v0.12.0
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.8.0

LDFLAGS = -s -w $(if $(VERSION),-X main.version=$(VERSION))

.PHONY: build demo test test-plain test-race check vet staticcheck gofumpt govulncheck vendorhash fuzz bench install clean

build: ## ./rcc, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o rcc ./cmd/rcc

demo: build ## the whole thing on a scratch repository
	./rcc demo

# The race detector first: the plain run tells the result at the end.
test: test-race test-plain ## everything; RCC_REQUIRE=all lets nothing be skipped

test-plain:
	$(GO) test -count=1 -timeout $(TESTTIMEOUT) ./...

# The scripts drive a binary of their own, which the race detector does not see.
test-race:
	@if command -v "$$($(GO) env CC)" >/dev/null; then \
		set -x; CGO_ENABLED=1 $(GO) test -race -count=1 -timeout $(TESTTIMEOUT) -skip '^TestScripts' ./...; \
	elif [ "$$RCC_REQUIRE" = all ]; then \
		echo 'cannot run the race detector: there is no C compiler; install gcc' >&2; exit 1; \
	else \
		echo 'skipped: the race detector needs a C compiler, and there is none' >&2; \
	fi

check: vet staticcheck gofumpt govulncheck vendorhash ## what CI looks for beside the tests

vet:
	$(GO) vet ./...
	$(GO) vet -tags rcccrash,rccprobe ./...

staticcheck:
	$(GO) run $(STATICCHECK) ./...

gofumpt:
	@out=$$($(GO) run $(GOFUMPT) -l .) || exit 1; \
	if [ -n "$$out" ]; then echo "not formatted; run: $(GO) run $(GOFUMPT) -w ." >&2; echo "$$out" >&2; exit 1; fi

# Without its database there is no answer, which is not a finding.
govulncheck:
	@if out=$$($(GO) run $(GOVULNCHECK) ./... 2>&1); then echo 'govulncheck: nothing found'; \
	elif printf '%s\n' "$$out" | grep -q '^govulncheck: fetching vulnerabilities: '; then \
		echo 'skipped: govulncheck cannot reach its database' >&2; \
	else printf '%s\n' "$$out" >&2; exit 1; fi

vendorhash: ## the modules' hash in nix/package.nix is right
	@GO='$(GO)' nix/vendorhash

fuzz: ## every fuzz target for FUZZTIME, runs (50000x) or a time (1m)
	@grep -rlE --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do \
		for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$$file"); do \
			echo "$$target in $$(dirname "$$file")"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x "$$(dirname "$$file")" || exit 1; \
		done; \
	done

bench: build ## the numbers of BENCHMARKS.md
	testdata/bench/run

install: build
	install -D -m 0755 rcc '$(DESTDIR)$(PREFIX)/bin/rcc'

clean:
	rm -f rcc
