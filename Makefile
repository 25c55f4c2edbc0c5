# make run [IN=path]   build, learn a stream live, let the model write, compare with gzip, bzip2 and xz
# make test            build everything, benchmarks too, and run all tests
# make build           the program alone: build/brood
# make install         library, headers, program under PREFIX (/usr/local)
# make bench           every number of the README's table
# make fuzz            every fuzz target for SECONDS (60)
# make format          clang-format over all sources

BUILD   ?= build
PREFIX  ?= /usr/local
SECONDS ?= 60
JOBS    ?= $(shell nproc)
# Precompiled headers may be kept, too.
export CCACHE_SLOPPINESS := pch_defines,time_macros
CCACHE  := $(if $(shell command -v ccache),-D CMAKE_CXX_COMPILER_LAUNCHER=ccache)

.PHONY: run test build install bench fuzz format configure deps deps-run deps-test deps-bench deps-ci

run: deps-run build
	@examples/run.sh $(BUILD)/brood $(IN)

build: configure
	@cmake --build $(BUILD) -j $(JOBS) --target brood_program

test: deps-test
	@cmake --preset release -B $(BUILD) $(CCACHE) -D BROOD_TESTS=ON -D BROOD_EXAMPLES=ON -D BROOD_BENCH=ON >/dev/null
	@cmake --build $(BUILD) -j $(JOBS)
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

configure: deps
	@cmake --preset release -B $(BUILD) $(CCACHE) -D BROOD_TESTS=OFF -D BROOD_EXAMPLES=OFF >/dev/null

install: configure
	@cmake --build $(BUILD) -j $(JOBS)
	@cmake --install $(BUILD) --prefix $(PREFIX)

bench: deps-bench
	@cmake --preset release -B $(BUILD) $(CCACHE) -D BROOD_BENCH=ON >/dev/null
	@cmake --build $(BUILD) -j $(JOBS)
	@bench/run.sh $(BUILD)

fuzz: deps-ci
	@cmake --preset fuzz $(CCACHE) >/dev/null
	@tests/fuzz/run.sh build-fuzz $(SECONDS)

format: deps-ci
	@git ls-files '*.h' '*.cc' | xargs clang-format-14 -i

deps:
	@cmake/dependencies.sh build
# A static pattern: make looks for no other kind of rule with % for a target that is phony.
deps-run deps-test deps-bench deps-ci: deps-%:
	@cmake/dependencies.sh build $*
