# What there is to do here: make help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint format bench words lock clean

help:  ## This list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/'

$(VENV)/installed: requirements.lock pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	touch $@

demo: $(VENV)/installed  ## Doorlist with a practice LMS and a mailbox, on loopback
	$(BIN)/flask --app wsgi demo

test: $(VENV)/installed  ## Style, types and every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not browser"
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m browser

lint: $(VENV)/installed  ## Style and types alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed  ## Put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed  ## Our paths against their floors, as ratios
	$(BIN)/python -m tests.bench

words: $(VENV)/installed  ## Collect the words to translate into lti_tool/translations/messages.pot
	$(BIN)/pybabel --quiet extract -F lti_tool/translations/babel.cfg -k lazy_gettext -k _n:1,2 --no-location --sort-output \
	  --project=Doorlist --copyright-holder="The Doorlist authors" -o lti_tool/translations/messages.pot .

lock:  ## Pin the newest versions that pyproject.toml allows (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --extra test pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url tests/interop/requirements-consumer.in -o tests/interop/requirements-consumer.txt

clean:  ## Remove what make made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
