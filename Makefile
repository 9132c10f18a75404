# d2export: `make demo` sets everything up and builds a bundle, `make test` runs every test.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# What a change of which makes the installation old, and what clang-format reads.
BUILD   := pyproject.toml constraints.txt plugins/CMakeLists.txt \
           $(wildcard plugins/cmake/* plugins/*/CMakeLists.txt)
SOURCES := $(shell find plugins engines -name '*.cpp' -o -name '*.cu' -o -name '*.h')

.PHONY: setup demo test lint fuzz clean

setup: $(VENV)/.installed

$(VENV)/.installed: $(BUILD) $(filter-out plugins/tests/% engines/%,$(SOURCES))
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing d2export, PyTorch and ONNX Runtime into $(VENV) (a minute or two) ..."
	@PIP_CONSTRAINT=constraints.txt $(BIN)/pip install -qq -e '.[ort,export,dev]'
	@$(BIN)/d2export doctor | grep '^native core'
	@touch $@

demo: setup
	@$(BIN)/python scripts/demo.py

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@echo "clang-format --dry-run --Werror plugins/** engines/**"
	@$(BIN)/clang-format --dry-run --Werror $(SOURCES)

# Half a minute (SECONDS) of any bytes for each target, under sanitizers: libFuzzer's where there is
# Clang, else seeded random ones.
SECONDS := 30
CLANG := $(firstword $(foreach name,clang++ clang++-14,$(shell command -v $(name))))
FUZZ  := build/fuzz
FUZZED-plugins := plugins
FUZZED-runtime := engines/runtime

fuzz: fuzz-plugins fuzz-runtime

fuzz-%:
	@cmake -S $(FUZZED-$*) -B $(FUZZ)/$* -DD2EXPORT_TESTS=ON -DD2EXPORT_CUDA=OFF \
	    '-DD2EXPORT_SANITIZE=address;undefined' \
	    $(if $(CLANG),-DCMAKE_CXX_COMPILER=$(CLANG) -DD2EXPORT_FUZZ=ON)
	@cmake --build $(FUZZ)/$* --parallel 2
	@cd $(FUZZ)/$* && find . -type f -executable -name 'fuzz_*' | xargs -P 2 -I TARGET sh -c \
	    'echo "TARGET ..."; name=$$(basename TARGET); mkdir -p $$name.corpus; \
	     TARGET $(if $(CLANG),-max_total_time=$(SECONDS) -max_len=4096 -len_control=0 $$name.corpus \
	         $$(ls -d $(CURDIR)/$(FUZZED-$*)/tests/corpus/$$name 2> /dev/null),10000) \
	         > $$name.log 2>&1 || { cat $$name.log; exit 1; }'

clean:
	rm -rf $(VENV) out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
