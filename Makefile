# Every habit is a target; `make help` lists them. FORMAT=json makes those that report print one JSON object on standard output.
SHELL := /bin/sh
.SUFFIXES:
.PHONY: help setup setup-dev up down status logs doctor tour erase test test-fast faults lint types fmt protos verify migrate bench bench-quick clean

H := .holdfast
STACK := sh deploy/stack/verb.sh
DEV := $(H)/dev/bin/python
TOOLS := $(H)/tools/bin/python
# Tests and linters see this tree, not what is installed.
TREE := PYTHONPATH=$(CURDIR):$(CURDIR)/libs/client/src
export FORMAT NAME S
export HOLDFAST_CHECKOUT := $(CURDIR)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | while IFS='|' read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done

setup: ## install missing Debian packages, make the environments, install the services
	@sh deploy/stack/packages.sh
	@/usr/bin/python3 -m deploy.stack.install

setup-dev:
	@sh deploy/stack/packages.sh dev
	@/usr/bin/python3 -m deploy.stack.install dev

up: setup ## start everything, wait until it is well, take the tour the first time and after a change
	@$(STACK) up

down: ## stop every process of the stack and keep the data
	@$(STACK) down

status: ## every part, its address and health; last drill, live RPO, what can be restored
	@$(STACK) status

logs: ## follow the log of one part: make logs S=files (all parts without S; FOLLOW=no to print and end)
	@$(STACK) logs

doctor: ## examine ports, clock, secrets, database roles, archive, listeners, versions
	@$(STACK) doctor

tour: ## the main job, done by real parts through the edge, each step asserted
	@$(STACK) tour

erase: ## end what a user's files say, in every backup too, for good: NAME=organizations/…/users/…
	@$(STACK) erase

test: setup-dev ## every test, on a stack of its own beside a running one; ONLY=path::name narrows, PROMISES=1 lists promises
	@$(TREE) $(DEV) -m pytest -q $(if $(PROMISES),--promises) $(ONLY)

test-fast: setup-dev ## the tests that need no stack
	@$(TREE) $(DEV) -m pytest -q -m "not stack" tests/unit $(ONLY)

faults: setup-dev ## every fault, longer: bounded, stops by itself
	@$(TREE) $(DEV) -m pytest -q -s -o faulthandler_timeout=0 -m "faults or sweep" $(ONLY)

lint: setup-dev ## ruff, the import walls, buf
	@$(DEV) -m ruff check .
	@$(DEV) -m ruff format --check .
	@$(TREE) $(H)/dev/bin/lint-imports
	@$(TOOLS) protos/build.py lint

types: setup-dev ## mypy, strict
	@$(TREE) $(DEV) -m mypy

fmt: setup-dev ## format the sources and sort the imports
	@$(DEV) -m ruff check --fix -q . ; $(DEV) -m ruff format .

protos: setup ## generate the stubs and the rules image from the contract
	@$(TOOLS) protos/build.py generate

verify: setup ## compare the committed stubs with the contract, and every method with its policy
	@$(TOOLS) protos/build.py verify
	@$(TREE) $(H)/venv/bin/python -c 'from libs.rpc import policy; print(f"{len(policy.all_methods())} methods declare their policy")'

migrate: setup ## run pending migrations on the running stack
	@$(STACK) migrate

bench: setup-dev ## judge the bars and rewrite BENCHMARKS.md: make bench ONLY=P5,P9
	@$(TREE) $(DEV) -m tests.bench --write $(if $(ONLY),--only $(ONLY)) $(if $(filter json,$(FORMAT)),--json)

bench-quick: setup-dev ## one short round of the figures; judges nothing
	@$(TREE) $(DEV) -m tests.bench --quick $(if $(ONLY),--only $(ONLY)) $(if $(filter json,$(FORMAT)),--json)

clean: ## destroy the stack, its data, secrets and environments; asks for its name first (or NAME=…)
	@$(STACK) clean
