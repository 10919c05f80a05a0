# make demo and make test set themselves up: they need Python 3.10 or newer, and the network once.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.10 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
JOBS ?= 2

.PHONY: install demo train-demo calvin-data calvin-train calvin-demo example test check smoke bench format clean

install: $(READY)

$(READY): setup.py robomimic/setup.py calvin/setup.py Makefile
	@test -n "$(PYTHON)" || { echo "error: Python 3.10 or newer is needed"; exit 2; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); $(PYTHON) -m pip install --user -q virtualenv && $(PYTHON) -m virtualenv -q $(VENV); }
	$(RUN) -m pip install -q -e ".[dev]" -e robomimic -e calvin
	@touch $@

demo: $(READY)
	$(RUN) toy_squares_experiment/demo.py $(if $(TARGET),--target $(TARGET)) $(if $(EPISODES),--episodes $(EPISODES))

train-demo: $(READY)
	PYTHON=$(CURDIR)/$(RUN) toy_squares_experiment/train_demo.sh

calvin-data: $(READY)
	PYTHON=$(CURDIR)/$(RUN) data_processing_calvin/make_calvin_data.sh

calvin-train: $(READY)
	PYTHON=$(CURDIR)/$(RUN) paper_experiments/train_calvin.sh

calvin-demo: $(READY)
	$(RUN) paper_experiments/calvin_demo.py $(if $(TARGET),--target $(TARGET)) $(if $(EPISODES),--episodes $(EPISODES))

example: $(READY)
	$(RUN) examples/steer_your_policy.py

test: $(READY)
	$(RUN) -m pytest -n $(JOBS) --dist loadgroup

smoke: $(READY)
	$(RUN) -m pytest tests/smoke

check: $(READY)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

format: $(READY)
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

bench: $(READY)
	$(RUN) benchmarks/steering.py
	$(RUN) benchmarks/guidance.py --profile
	$(RUN) benchmarks/loading.py
	$(RUN) benchmarks/dynamics_training.py
	$(RUN) benchmarks/calvin.py

clean:
	rm -rf $(VENV) results .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -o -name '*.egg-info' | xargs rm -rf
