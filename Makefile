# One virtual environment in the checkout, made by whichever target needs it first.
# PYTHON=… chooses the interpreter it is made of, 3.11 or newer.

BIN := .venv/bin
# Named after the checksum of its inputs, and made last: an interrupted setup leaves none, and is repeated.
INSTALLED := .venv/installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)

# Programs in Go for tests of the chart and for load tests: helm, ghz. Built outside of .venv, which setup may clear.
GO := $(shell command -v go || ls /usr/local/go/bin/go 2>/dev/null)
TOOLS := helm.sh/helm/v3/cmd/helm@v3.19.0 github.com/bojand/ghz/cmd/ghz@v0.121.0
BUILT := build/tools/built-$(shell echo '$(TOOLS)' | cksum | cut -d ' ' -f 1)
# helm's own build sets the Kubernetes for which it renders by default.
KUBERNETES := helm.sh/helm/v3/pkg/chartutil.k8sVersion
TOOLS_LDFLAGS := -s -w -X $(KUBERNETES)Major=1 -X $(KUBERNETES)Minor=35

# Processes among which the tests are divided.
WORKERS := 3

# Of the images. BUILD_FLAGS is for what this machine needs, such as a secret with pip's configuration.
BUILDER := podman
REPOSITORY := localhost
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

FUZZ_SECONDS := 3600

.DEFAULT_GOAL := help
.PHONY: help setup tools test lint polyglot contract demo bench fuzz lock release images check-images

help:
	@echo 'make demo    analyse a sample video on this machine, from an empty checkout to the result'
	@echo 'make test    run the checks of make lint, then the tests (WORKERS: processes that share them, 3)'
	@echo 'make lint    check style, format and types, of Python and of the protos'
	@echo 'make fuzz    read hostile input for an hour (FUZZ_SECONDS); needs Python below 3.14'
	@echo 'make polyglot  build and run the clients in Go, Node and Java of docs/other-languages.md'
	@echo 'make contract  the protos as they are become those that later changes must stay compatible with'
	@echo 'make lock    hashes of what the images install, after a change of versions; needs uv'
	@echo 'make bench   measure sampling against its alternatives, in about ten minutes, into benchmarks/RESULTS.md'
	@echo 'make release  wheel, sdist, chart and SBOMs into dist/, and what to publish'
	@echo 'make images  build the three images with $(BUILDER) (BUILDER, BUILD_FLAGS, REPOSITORY, VERSION)'
	@echo 'make check-images   start them together and analyse the sample clip (RUN_FLAGS)'
	@echo 'make setup   only make .venv; $(BIN)/videoanalysis is then the command line'
	@echo 'make tools   helm and ghz into .venv/bin, where there is Go; tests that need them are skipped otherwise'

setup: $(INSTALLED)

$(INSTALLED):
	@set -e; \
	if ls .venv/installed-* >/dev/null 2>&1; then \
	    rm .venv/installed-*; \
	else \
	    for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	        $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found=$$python && break; \
	    done; \
	    test -n "$${found:-}" || { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python' >&2; exit 1; }; \
	    $$found -m venv --clear .venv; \
	fi
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(BUILT):
	@mkdir -p $(@D)
	@test -n '$(GO)' || echo 'There is no Go, so no helm and no ghz: tests that need them are skipped.'
	@for tool in $(if $(GO),$(TOOLS)); do \
	    GOBIN=$(abspath $(@D)) $(GO) install -ldflags '$(TOOLS_LDFLAGS)' $$tool \
	        || { echo "$$tool could not be built: tests that need it are skipped."; exit 0; }; \
	done; \
	test -z '$(GO)' || touch $@

tools: $(INSTALLED) $(BUILT)
	@for tool in helm ghz; do test ! -x build/tools/$$tool || cp build/tools/$$tool $(BIN)/; done

# The tools are built while Python's packages are downloaded and their types checked.
test:
	@$(MAKE) --no-print-directory --jobs=2 tools lint
	$(BIN)/python -m pytest --numprocesses=$(WORKERS)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against protos/contract.binpb
	$(BIN)/mypy

demo: setup
	@mkdir -p build
	$(BIN)/videoanalysis analyze services/ingress/sources/sample_clip.mp4 --report build/report.html

# With Java, which `make test` leaves out: Maven downloads for minutes.
polyglot: setup
	POLYGLOT_JAVA=1 $(BIN)/python -m pytest tests/polyglot

# Not among the tests: atheris has no wheels for the newest Python.
fuzz: setup
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev,fuzz]'
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

# The hashes of what images install, after a change of versions. UV is uv's command.
UV := uv
OF_TORCH := torch triton cuda-bindings cuda-pathfinder cuda-toolkit

lock:
	for service in ingress encoder decoder; do \
	    lock=services/$$service/requirements.lock; \
	    $(UV) pip compile pyproject.toml --extra $$service --extra tracing --constraint constraints.txt --quiet --generate-hashes \
	        --universal --python-version 3.12 --no-annotate --no-header --output-file $$lock.new \
	        $(OF_TORCH:%=--no-emit-package %) \
	        $$(sed -n 's/^\(nvidia[a-z0-9-]*\)==.*/--no-emit-package \1/p' constraints.txt) || exit; \
	    { sed -n '/^#/p' $$lock; cat $$lock.new; } >$$lock.tmp && mv $$lock.tmp $$lock && rm $$lock.new || exit; \
	done

# What `make lint` compares the protos with. After a release, so that callers of that release are not broken.
contract: setup
	$(BIN)/buf build --exclude-source-info --output protos/contract.binpb

bench: setup
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python -m benchmarks

# Everything that a release publishes, in dist/, after the checks of versions, images and the chart. Publishes nothing.
release: setup tools
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev,release]'
	$(BIN)/python -m pytest -q tests/images tests/chart/test_documents.py tests/chart/test_upgrade.py
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/helm package helm/video-analysis --destination dist
	for service in ingress encoder decoder; do \
	    { cat services/$$service/requirements.lock; \
	      test $$service != encoder || grep -E '^(torch|triton|cuda-[a-z]+|nvidia[a-z0-9-]*)==' constraints.txt; } \
	    | $(BIN)/cyclonedx-py requirements --output-file dist/video-analysis-$$service-$(VERSION).cdx.json - || exit; \
	done
	cd dist && sha256sum -- * >SHA256SUMS
	@echo; echo 'To publish $(VERSION):'; ls -1 dist | sed 's/^/    dist\//'
	@for service in ingress encoder decoder; do echo "    $(REPOSITORY)/video-analysis-$$service:$(VERSION) (make images)"; done
	@echo 'Then: git tag v$(VERSION), and make contract for what comes after.'

images:
	for service in ingress encoder decoder; do \
	    $(BUILDER) build $(BUILD_FLAGS) --file services/$$service/Dockerfile \
	        --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
	        --tag $(REPOSITORY)/video-analysis-$$service:$(VERSION) . || exit; \
	done

check-images:
	$(or $(PYTHON),python3) images/check.py --builder $(BUILDER) --repository $(REPOSITORY) --version $(VERSION) \
	    --run-flags '$(RUN_FLAGS)'
