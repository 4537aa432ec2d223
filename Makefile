# Every target works in a fresh clone: it makes .venv first where it needs one. `make help` lists them.
PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt
export TOKENIZERS_PARALLELISM := false
export HAYSTACK_TELEMETRY_ENABLED := False
# Where Python may not keep byte code, each start compiles torch and all it needs anew: ten seconds and more.
unexport PYTHONDONTWRITEBYTECODE
# A machine without a GPU saves gigabytes with TORCH_INDEX=… (the address of PyTorch's index of CPU builds).
TORCH := torch $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
INPUTS := settings.ini setup.py constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check docs lab style sync bench gpu clean env

help:           ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.demo  ## the whole job on real input: data, training, comparison, index, questions (minutes)
	@.venv/bin/ragcun demo

test: .venv/.dev   ## everything that must pass, from nothing (about a quarter of an hour)
	@$(PY) .ci/check.py test

test-all: .venv/.dev  ## test, plus every notebook compared, slow tests, kill sweeps, JupyterLab in a browser
	@$(PY) .ci/check.py all

check:             ## the fast part of test, for daily use: in sync, clean, leaks, lint, types, quick tests
	@test -x .venv/bin/nbdev_export || { echo "The development tools are not in .venv yet: run 'make env' once."; exit 2; }
	@$(PY) .ci/check.py check

docs: .venv/.dev   ## the documentation site in _docs/ (pandoc, no Quarto needed), links checked
	@$(PY) .ci/docs.py

sync: .venv/.dev   ## write what is generated: clean notebooks, ragcun/, README.md
	@cd nbs && ../.venv/bin/nbdev_clean && ../.venv/bin/nbdev_export
	@$(PY) .ci/readme.py

lab: .venv/.dev    ## open the notebooks in JupyterLab
	@cd nbs && ../$(PY) -m jupyterlab

style: .venv/.dev  ## the measures of the house style; fails where a hard one is broken
	@$(PY) .ci/style.py

bench: .venv/.dev   ## rerun the recorded benchmarks (hours; BENCH=quick: under 15 minutes, BENCH="NAME …": some)
	@$(PY) benchmarks/run.py $(BENCH)

gpu:               ## what only a GPU can show, under eight minutes (BASE=FOLDER); writes data/results/gpu.json
	@$(or $(wildcard $(PY)),$(PYTHON)) tests/system/gpu_check.py $(if $(BASE),--base $(BASE))

env: .venv/.dev    ## only make the development environment

clean:             ## remove what the other targets made, except .venv and results/
	@rm -rf _proc _docs _site build dist *.egg-info .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find nbs ragcun tests benchmarks .ci -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

.venv/bin/python:
	@echo "making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@$(PIP) -U pip || echo "going on with the pip that came with Python; a newer one needs half the time"

.venv/.demo: $(INPUTS) | .venv/bin/python
	@echo "installing ragcun and what the demo needs (once; torch is large)"
	@$(PIP) $(TORCH)
	@$(PIP) -e '.[offline,documents,onnx,serve,mcp]'
	@touch $@

.venv/.dev: $(INPUTS) | .venv/bin/python
	@echo "installing ragcun with its development tools (once; torch is large)"
	@$(PIP) $(TORCH)
	@$(PIP) -e '.[dev]'
	@touch $@ .venv/.demo
