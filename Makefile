# Two commands: `make up` (everything runs, the example shop is loaded) and `make test`
# (everything is checked). Both begin with `make install`, which does nothing the second time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := build/stamps
SAY := printf '%s\n'

.PHONY: install up test check format clean ledger fuzz fuzz-api bench-sandbox bench-first-run bench-api bench-functions bench-capture bench-latency bench-memory bench-reads bench-snapshot

install: $(STAMPS)/python $(STAMPS)/kafka $(STAMPS)/pyodide $(STAMPS)/sandbox

$(STAMPS):
	@mkdir -p $@

$(STAMPS)/python: requirements.lock pyproject.toml hatch_build.py $(wildcard cdc/*.pyx) | $(STAMPS)
	@$(SAY) '[1/4] Python packages, MongoDB, PostgreSQL and Deno into $(VENV) (about a minute the first time)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/kafka: infra/embedded/kafka/pom.xml infra/embedded/kafka_archive.py | $(STAMPS)/python
	@$(SAY) '[2/4] Kafka 4.3.1 with Maven into build/kafka (90 MB)'
	@rm -rf build/kafka && mkdir -p build/kafka
	@mvn --batch-mode --quiet --file infra/embedded/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/build/kafka
	@$(BIN)/python -m infra.embedded.kafka_archive build/kafka
	@touch $@

$(STAMPS)/pyodide: infra/embedded/pyodide/package.json infra/embedded/pyodide/package-lock.json | $(STAMPS)
	@$(SAY) '[3/4] Pyodide with npm into build/pyodide (13 MB)'
	@rm -rf build/pyodide && mkdir -p build/pyodide
	@cp infra/embedded/pyodide/package.json infra/embedded/pyodide/package-lock.json build/pyodide/
	@npm --prefix build/pyodide ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

$(STAMPS)/sandbox: $(STAMPS)/python $(STAMPS)/pyodide listener_runtime/image.py listener_runtime/sandbox_command.py $(wildcard listener_runtime/guest/*) | $(STAMPS)
	@$(SAY) '[4/4] The sandbox image into build/sandbox'
	@$(BIN)/python -m listener_runtime.image build/pyodide/node_modules/pyodide build/sandbox
	@touch $@

up: install
	@exec $(BIN)/rowcast up $(ARGS)

check: $(STAMPS)/python
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports --no-cache > build/lint-imports.log || { cat build/lint-imports.log; exit 1; }
	@$(BIN)/basedpyright --level error

format: $(STAMPS)/python
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

# Each of two processes has servers of its own; a file's tests stay together.
test: install check $(STAMPS)/jdbc-sink $(STAMPS)/supabase
	@infra/debian-packages.sh
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

$(STAMPS)/supabase: tests/integration/supabase/package.json tests/integration/supabase/package-lock.json | $(STAMPS)
	@$(SAY) 'The stock client supabase-js with npm into build/supabase, for the tests'
	@rm -rf build/supabase && mkdir -p build/supabase
	@cp tests/integration/supabase/package.json tests/integration/supabase/package-lock.json build/supabase/
	@npm --prefix build/supabase ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

fuzz-api: install
	@FUZZ_EXAMPLES=$(or $(EXAMPLES),200) $(BIN)/python -m pytest -q tests/integration/test_data_api.py -k schemathesis

bench-sandbox: install
	@PYTHONPATH=. $(BIN)/python bench/sandbox.py

bench-first-run: install
	@PYTHONPATH=. $(BIN)/python bench/first_run.py

bench-api: install
	@PYTHONPATH=. $(BIN)/python bench/data_api.py

bench-functions: install
	@PYTHONPATH=. $(BIN)/python bench/functions.py

bench-capture: install $(STAMPS)/debezium
	@PYTHONPATH=. $(BIN)/python bench/capture.py

.PHONY: bench-streaming
bench-streaming: install
	@PYTHONPATH=. $(BIN)/python bench/streaming.py

bench-memory: install
	@PYTHONPATH=. $(BIN)/python bench/memory.py

bench-reads: install
	@PYTHONPATH=. $(BIN)/python bench/reads.py
	@PYTHONPATH=. $(BIN)/python bench/mongo_reads.py

bench-latency: install $(STAMPS)/debezium
	@PYTHONPATH=. $(BIN)/python bench/latency.py

bench-snapshot: install $(STAMPS)/debezium
	@PYTHONPATH=. $(BIN)/python bench/snapshot.py

$(STAMPS)/debezium: bench/debezium/pom.xml | $(STAMPS)
	@$(SAY) 'Debezium and Kafka Connect with Maven into build/debezium, for the comparison'
	@rm -rf build/debezium && mkdir -p build/debezium
	@mvn --batch-mode --quiet --file bench/debezium/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/build/debezium
	@touch $@

$(STAMPS)/jdbc-sink: tests/cdc/jdbc_sink/pom.xml | $(STAMPS)
	@$(SAY) 'Kafka Connect and the Debezium JDBC sink with Maven into build/jdbc-sink, for a test'
	@rm -rf build/jdbc-sink && mkdir -p build/jdbc-sink
	@mvn --batch-mode --quiet --file tests/cdc/jdbc_sink/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/build/jdbc-sink
	@touch $@

# Kills in a row under load, and a ledger of them: make ledger KILLS=200 SEED=42
ledger: install
	@PYTHONPATH=. $(BIN)/python -m tests.faults.ledger --kills $(or $(KILLS),200) $(if $(SEED),--seed $(SEED)) $(if $(OUT),--out $(OUT))

# Any bytes into the decoders, guided by what they cover: make fuzz RUNS=200000
fuzz: $(STAMPS)/python $(STAMPS)/atheris
	@PYTHONPATH=. $(BIN)/python -m tests.fuzz.decoders -atheris_runs=$(or $(RUNS),200000) -max_len=512 -timeout=20 $(if $(SEED),-seed=$(SEED))

$(STAMPS)/atheris: tests/fuzz/requirements.txt | $(STAMPS)
	@$(SAY) 'atheris into $(VENV), for fuzzing'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement tests/fuzz/requirements.txt
	@touch $@

clean:
	rm -rf build $(VENV)
