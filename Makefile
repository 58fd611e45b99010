# GNU make. Variables: DIR (working directory), CONFIG (configuration file), CORES, PROFILE, and
# ARGS (for pytest and pip-compile).
#   make setup && make demo          install, then run everything on simulated data
#   make help                        one line per target

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CORES ?= $(shell n=$$(nproc); echo $$((n < 8 ? n : 8)))
DIR ?= demo
EXAMPLE = $(wildcard config/examples/$(DIR).yaml)
CONFIG ?= $(if $(EXAMPLE),$(EXAMPLE),config/config.yaml)
PROFILE ?= slurm
ARGS ?=

# Programs of the environment (bamCoverage, snakemake) are found without activating it.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Snakemake keeps a small cache below the home folder; some cluster and CI accounts have none.
ifneq ($(shell test -w "$$HOME" && echo yes),yes)
export XDG_CACHE_HOME ?= $(CURDIR)/.snakemake/cache
endif

PYTHON = .venv/bin/python
SNAKEMAKE = $(PYTHON) -m snakemake --directory "$(DIR)" --configfile "$(CONFIG)"

.PHONY: help setup demo real e003 dnase pilot_dna pilot_latents pilot_cells report sources test
.PHONY: lint docs lock clean rescue doctor
.PHONY: faults

help: ## this list
	@grep -hE '^[a-z0-9_]+:.*## ' Makefile | sed -E 's/^([a-z0-9_]+):.*## /  make \1\t/' | expand -t 18

setup: ## install into .venv (bedtools through apt-get when run as root)
	@envs/setup.sh

demo: DIR = demo
demo: CONFIG = config/examples/demo.yaml
real: DIR = real
real: CONFIG = config/examples/real.yaml
e003: DIR = e003
e003: CONFIG = config/examples/e003.yaml
dnase: DIR = dnase
dnase: CONFIG = config/examples/dnase.yaml
pilot_dna: DIR = pilot_dna
pilot_dna: CONFIG = config/examples/pilot_dna.yaml
pilot_latents: DIR = pilot_latents
pilot_latents: CONFIG = config/examples/pilot_latents.yaml
pilot_cells: DIR = pilot_cells
pilot_cells: CONFIG = config/examples/pilot_cells.yaml
demo: setup ## everything on simulated data, no network (minutes)
real: setup ## the same on real Roadmap signal of the ENCODE pilot regions
E003 = $(wildcard ../shared/data/roadmap_e003/genes.tsv)
e003: $(if $(E003),setup) ## both models on real read depth around 100 genes (skipped without it)
DNASE = $(wildcard ../shared/data/hg38_dnase_windows/genome.fa.gz)
dnase: $(if $(DNASE),setup) ## Epiformer on DNA and DNase of 65 hg38 contigs (skipped without them)
PILOT = $(wildcard ../shared/data/hg19_pilot_mini/genome.fa.gz)
pilot_dna: $(if $(PILOT),setup) ## Epiformer on DNA and conservation of 3.3 Mb (skipped without it)
TRACKS = $(wildcard ../shared/data/hg19_encode_pilot/signal/E003-H3K4me3.pval.signal.bigwig)
pilot_latents: $(if $(TRACKS),setup) ## Epi-LSTM on 20 real tracks of 18 Mb (skipped without them)
pilot_cells: $(if $(PILOT),setup) ## EpiGePT, each of 4 real cells held out (skipped without it)

define everything
	$(SNAKEMAKE) --cores $(CORES)
	@echo "report: $(DIR)/results/report.html"
	@if [ -z "$${CI:-}" ] && [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ] && \
	command -v xdg-open >/dev/null; \
	then xdg-open "$(DIR)/results/report.html" >/dev/null 2>&1 & fi
endef
demo real:
	$(everything)
e003:
ifneq ($(E003),)
	$(everything)
else
	@echo "e003: skipped, its tracks and genes are not in ../shared/data/roadmap_e003"
endif
dnase:
ifneq ($(DNASE),)
	$(everything)
else
	@echo "dnase: skipped, its contigs are not in ../shared/data/hg38_dnase_windows"
endif
pilot_dna:
ifneq ($(PILOT),)
	$(everything)
else
	@echo "pilot_dna: skipped, its contigs are not in ../shared/data/hg19_pilot_mini"
endif
pilot_latents:
ifneq ($(TRACKS),)
	$(everything)
else
	@echo "pilot_latents: skipped, its tracks are not in ../shared/data/hg19_encode_pilot"
endif
pilot_cells:
ifneq ($(PILOT),)
	$(everything)
else
	@echo "pilot_cells: skipped, its contigs are not in ../shared/data/hg19_pilot_mini"
endif

report: setup ## rebuild the report of DIR from what is finished
	$(SNAKEMAKE) --cores 1 report_now
	@echo "report: $(DIR)/results/report.partial.html"

sources: DIR = .
sources: CONFIG = config/config.yaml
sources: setup ## list every remote file of CONFIG, with size and licence
	$(SNAKEMAKE) --cores 1 sources

# Nothing may follow pytest's own last line, so nothing does.
test: setup ## all tests, e.g. make test ARGS="-k genome"
	@$(PYTHON) -m pytest $(ARGS)

# Options of the kills: make faults ARGS="--kills 10 --seed 2".
faults: setup ## kill a tiny study 50 times, then all tests that break something
	@$(PYTHON) -m tests.faults.kills $(ARGS)
	@$(PYTHON) -m pytest -m faults --deselect tests/faults/test_kills.py

lint: setup ## ruff, snakefmt and snakemake --lint
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	.venv/bin/snakefmt --check Snakefile rules
	$(PYTHON) -m snakemake --lint

docs: setup ## remake config/README.md from the schema
	$(PYTHON) -m epiloom.plan.config > config/README.md.new
	mv config/README.md.new config/README.md

lock: ## remake requirements.lock from pyproject.toml (needs network)
	@envs/lock.sh $(ARGS)

# Downloads (resources/) stay. Without DIR: those of all examples.
EXAMPLES = demo real e003 dnase pilot_dna pilot_latents pilot_cells
CLEAN = $(if $(filter command,$(origin DIR)),"$(DIR)",$(EXAMPLES))
clean: ## remove results, training state and logs, never downloads
	@for dir in $(CLEAN); do for part in results runs logs benchmarks simulated; do \
	if [ -e "$$dir/$$part" ]; then echo "removing $$dir/$$part"; rm -rf "$$dir/$$part"; fi; \
	done; done
	@echo "clean: downloads in resources/ are kept"

# Without setup: it also says what keeps setup from working.
doctor: ## is this machine, and the cluster it belongs to, ready for a run?
	@$(if $(wildcard $(PYTHON)),$(PYTHON),python3) -m epiloom.plan.doctor --directory "$(DIR)" \
	--configfile "$(CONFIG)" --profile "$(PROFILE)"

# After Snakemake itself was killed on a cluster: its jobs go on, and a new run would start second
# copies of them.
rescue: ## cluster: cancel the orphaned jobs of DIR, unlock, continue
	@squeue -h -u "$$(id -un)" -o '%i|%j|%Z' | awk -F'|' -v d="$$(cd "$(DIR)" && pwd -P)" \
	'$$2 ~ /^epiloom_/ && $$3 == d {print $$1}' | xargs -r -t scancel
	$(SNAKEMAKE) --unlock
	$(SNAKEMAKE) --profile $(PROFILE) --rerun-incomplete
