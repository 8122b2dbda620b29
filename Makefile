# `make help` lists what can be made. Everything is set up on first use and again only if a
# requirements file changes.

PYTHON ?= python3
VENV ?= .venv
# Index of PyTorch's CPU wheels, for a machine without an NVIDIA GPU (empty: pip's default, the CUDA build).
TORCH_INDEX_URL ?=
# Folder of images; empty: real microscope pictures from scikit-image and synthetic ones of each modality.
IN ?=
# Folder for label images and, in $(OUT)/overlays, pictures to look at.
OUT ?= build/labels
# More options for predict.py, e.g. ARGS="--device cpu --verbose".
ARGS ?=
# More options for pytest, e.g. PYTEST_ARGS="-m 'not slow' -k tiling".
PYTEST_ARGS ?=
DOCKER ?= docker
IMAGE ?= cellseg:latest

RUN := $(VENV)/bin/python
SAMPLES := build/samples
RUNTIME_STAMP := $(VENV)/.requirements
DEV_STAMP := $(VENV)/.requirements-dev
SAMPLES_STAMP := build/.samples
ROOMS := $(wildcard *.py imaging router models tiling training eval synthetic bench workers tests)

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help predict samples test lint format bench image clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

predict: $(RUNTIME_STAMP) $(if $(IN),,$(SAMPLES_STAMP))  ## label the images of IN=..., write to OUT=... with overlays
	$(RUN) predict.py -i "$(or $(IN),$(SAMPLES)/images)" -o "$(OUT)" --overlays "$(OUT)/overlays" $(ARGS)

samples: $(SAMPLES_STAMP)  ## make the images that `make predict` labels without IN

test: lint  ## ruff, mypy and the tests
	$(RUN) -m pytest $(PYTEST_ARGS)

lint: $(DEV_STAMP)  ## ruff and mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy $(ROOMS)

format: $(DEV_STAMP)  ## format the code and mend what ruff can
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(DEV_STAMP)  ## speed and memory as a table, JSON and a picture
	$(RUN) -m bench --torch-index-url "$(TORCH_INDEX_URL)" $(ARGS)

image:  ## build the container image IMAGE=... (cellseg:latest)
	$(DOCKER) build --build-arg TORCH_INDEX_URL="$(TORCH_INDEX_URL)" \
	    --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
	    --build-arg CREATED="$$(date -u +%Y-%m-%dT%H:%M:%SZ)" -t $(IMAGE) .

clean:  ## remove what was made, but not the environment
	rm -rf build .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

distclean: clean  ## remove the environment too
	rm -rf "$(VENV)"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv "$(VENV)"

$(RUNTIME_STAMP): requirements.txt | $(VENV)/bin/python
ifneq ($(TORCH_INDEX_URL),)
	$(RUN) -m pip install --no-deps --index-url "$(TORCH_INDEX_URL)" "$$(grep -o '^torch==[^ ]*' $<)"
endif
	$(RUN) -m pip install --disable-pip-version-check -r $<
	@touch $@

$(DEV_STAMP): requirements-dev.txt $(RUNTIME_STAMP)
	$(RUN) -m pip install --disable-pip-version-check -r $<
	@touch $@

$(SAMPLES_STAMP): $(RUNTIME_STAMP) imaging/samples.py $(wildcard synthetic/*.py)
	rm -rf "$(SAMPLES)"
	$(RUN) -m imaging.samples -o "$(SAMPLES)/images"
	$(RUN) -m synthetic -o "$(SAMPLES)"
	@touch $@
