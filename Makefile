# make demo      chat with the model that comes with this repository
# make test      run the tests that take minutes
# make test-all  run all of them, the kernels on a CPU included
# make check     lint, formatting and types
#
# The first run makes .venv and installs into it; a stamp file makes the next
# one quick. EXTRAS=dev,reference also installs the reference implementation,
# which turns the live comparisons on.

VENV ?= .venv
EXTRAS ?= dev
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS_STAMP := $(VENV)/.installed-$(EXTRAS)

# A worker for each core; more than eight would mostly take memory.
PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist worksteal

# What is compiled once is not compiled again by each worker and command of the tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all check clean

demo: $(STAMP)
	$(BIN)/gemma4 chat --model demo "What is the capital of France?"
	@echo "Go on in this terminal:"
	@echo "  source $(BIN)/activate"
	@echo "  gemma4 chat"

test: $(EXTRAS_STAMP)
	$(PYTEST) -m "not slow and not reference"

test-all: $(EXTRAS_STAMP)
	$(PYTEST)

check: $(EXTRAS_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache

$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(EXTRAS_STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	touch $(STAMP) $@

# A name on the PATH is not enough: version managers leave stubs that fail, and
# some systems ship Python without venv. Each candidate has to prove itself. One for
# Intel Macs, from an older Homebrew, runs on Apple silicon too, but there is no MLX for it.
$(BIN)/python:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3.14 python3 \
	    /opt/homebrew/bin/python3.1[1-9] /usr/local/bin/python3.1[1-9] \
	    "$$HOME"/.pyenv/versions/3.1[1-9]*/bin/python3; do \
	  "$$python" -c 'import platform, sys; \
	      (sys.platform, platform.machine()) == ("darwin", "x86_64") and sys.exit(3); \
	      import venv, ensurepip; \
	      sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  case $$? in \
	    0) echo "Creating $(VENV) with $$("$$python" --version) ($$python)"; \
	       exec "$$python" -m venv --clear $(VENV);; \
	    3) echo "Not with $$python: it is made for Intel Macs." >&2;; \
	  esac; \
	done; \
	echo "No Python 3.11 or newer with venv was found. Get one with:" >&2; \
	echo "  Apple silicon  brew install python@3.13  (Homebrew in /opt/homebrew)" >&2; \
	echo "  Debian/Ubuntu  sudo apt install python3 python3-venv" >&2; \
	echo "or name one:     make demo PYTHON=/path/to/python3" >&2; \
	exit 1
