# Two commands do everything on a fresh machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
NAME ?= core
STUDY ?= demo
CORES ?= 2
ENV := .envs/$(NAME)
CORE := .envs/core
BIN := $(CORE)/bin
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES) --rerun-incomplete

# This checkout's package, also where the environment was made for another one and is only linked.
export PYTHONPATH := $(CURDIR)/src$(if $(PYTHONPATH),:$(PYTHONPATH))

.PHONY: help env demo demo-consumer run tables report unlock validate fetch wheelhouse test test-lm-eval slurm test-slurm preview afterwards lint format clean-demo

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(CORE)/installed: envs/core.txt scripts/make_env.sh
	@scripts/make_env.sh core "$(PYTHON)"

$(CORE)/installed-dev: envs/dev.txt $(CORE)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(wildcard .wheels/dev),--no-index --find-links .wheels/dev) --requirement envs/dev.txt
	@touch $@

env: ## make one pinned environment: make env NAME=core|vllm|tables
	@scripts/make_env.sh "$(NAME)" "$(PYTHON)"

demo: $(CORE)/installed ## run the embedded study on the CPU and show its result
	@$(SNAKEMAKE) --profile profiles/local --quiet rules --config study=config/demo.yaml
	@$(BIN)/python scripts/make_tables.py --study config/demo.yaml --show

CONSUMER := consumer-4gb-demo $(if $(wildcard .envs/llamacpp/bin/python),tinyllama-demo)

demo-consumer: $(CORE)/installed ## run the CPU forms of the consumer studies and show their tables
	@set -e; for study in $(CONSUMER); do \
	  $(SNAKEMAKE) --profile profiles/local --quiet rules --config study=config/$$study.yaml; \
	done
	@for study in $(CONSUMER); do $(BIN)/python scripts/make_tables.py --study config/$$study.yaml --show; done
	@$(if $(filter tinyllama-demo,$(CONSUMER)),,echo "left out: tinyllama-demo; make env NAME=llamacpp builds what it needs (ten minutes or more)")

run: $(CORE)/installed ## run a study: make run STUDY=qwen2.5-0.5b
	$(SNAKEMAKE) --config study=config/$(STUDY).yaml

validate: $(CORE)/installed ## check every record of a study: make validate STUDY=demo
	@$(BIN)/python scripts/validate.py --study config/$(STUDY).yaml

# With WHEELS=no without the wheels, which nobody needs where all machines see this folder's .envs.
fetch: $(CORE)/installed ## bring data, base model, environments and wheels of a study for nodes without internet: make fetch STUDY=qwen2.5-1.5b
	@for name in $$($(BIN)/python scripts/environments.py --lacking --study config/$(STUDY).yaml); do \
		scripts/make_env.sh $$name "$(PYTHON)" || exit; done
	$(SNAKEMAKE) fetch --config study=config/$(STUDY).yaml
	@[ "$(WHEELS)" = no ] || for name in $$($(BIN)/python scripts/environments.py --study config/$(STUDY).yaml) slurm; do \
		scripts/make_wheelhouse.sh $$name $(BIN)/python || exit; done

preview: $(CORE)/installed ## what a study will cost, by rule: jobs, GPU-hours, disk, joules: make preview STUDY=demo
	@$(BIN)/python scripts/preview.py --study config/$(STUDY).yaml

afterwards: $(CORE)/installed ## what a study has used, by rule, beside Slurm's accounting: make afterwards STUDY=demo
	@$(BIN)/python scripts/afterwards.py --study config/$(STUDY).yaml

wheelhouse: ## download the wheels of an environment for machines without internet: make wheelhouse NAME=core
	@scripts/make_wheelhouse.sh "$(NAME)" "$(PYTHON)"

# The full environment where it is there, else a small one without torch; ENV_NAME=tables asks for that one.
ENV_NAME ?= $(if $(wildcard $(CORE)/installed),core,tables)
# ALLOW_STALE=1 uses records that were made with other settings, and says so.
STALE := $(if $(ALLOW_STALE),--allow-stale)

tables: ## regenerate tables and figures of a study from its records; measures nothing, needs no checkpoint
	@scripts/make_env.sh "$(ENV_NAME)" "$(PYTHON)"
	.envs/$(ENV_NAME)/bin/python scripts/make_tables.py --study config/$(STUDY).yaml $(STALE) --show
	.envs/$(ENV_NAME)/bin/python scripts/make_figures.py --study config/$(STUDY).yaml $(STALE)
	.envs/$(ENV_NAME)/bin/python scripts/validate.py --report-only --study config/$(STUDY).yaml

report: tables ## make the report of a study from its records, one page that opens offline: make report STUDY=demo
	.envs/$(ENV_NAME)/bin/python scripts/make_report.py --study config/$(STUDY).yaml

unlock: ## remove the lock that a killed run left (first make sure that no other run is going on)
	$(SNAKEMAKE) --unlock --config study=config/$(STUDY).yaml

test: $(CORE)/installed-dev ## install what the tests need and run them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not demo and not consumer and not faults and not processes and not slurm"

faults: $(CORE)/installed-dev ## stop, starve and crowd every stage on purpose, and see that the same command goes on (minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "faults or processes"

test-lm-eval: $(CORE)/installed-dev ## install lm-eval and compare with its own code
	@scripts/make_env.sh lm-eval "$(PYTHON)"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -m lm_eval --lm-eval-python=.envs/lm-eval/bin/python

$(CORE)/installed-slurm: envs/slurm.txt $(CORE)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(if $(wildcard .wheels/slurm),--no-index --find-links .wheels/slurm) --requirement envs/slurm.txt
	@touch $@

slurm: $(CORE)/installed-slurm ## install what `snakemake --profile profiles/slurm` needs

test-slurm: $(CORE)/installed-dev $(CORE)/installed-slurm ## start a Slurm of this one machine and test the workflow on it
	@if scripts/install_slurm.sh; then \
		OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m slurm --durations 0 tests/slurm; \
	elif [ $$? = 5 ]; then \
		echo "skipped: this machine has no Slurm, and this user may not install it (see above)"; \
	else exit 1; fi

lint: $(CORE)/installed-dev ## ruff, snakefmt, snakemake --lint, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint --config study=config/demo.yaml
	$(BIN)/mypy

format: $(CORE)/installed-dev ## format Python and Snakemake files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

clean-demo: ## remove the results of the embedded study
	rm -rf results/demo
