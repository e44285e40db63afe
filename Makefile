# SPDX-License-Identifier: Apache-2.0
# The front door. Everything behind it is meson and the scripts in tools/.

BUILD ?= build
FUZZ_SECONDS ?= 60

all: build-deps
	@test -f $(BUILD)/build.ninja || meson setup $(BUILD) -Dtests=false
	@ninja -C $(BUILD) posthouse

run: all
	@$(BUILD)/posthouse sandbox

test: test-deps
	@tools/test

bench: bench-deps
	@bench/run

bench-full: bench-deps
	@bench/run --full

lint: test-deps
	@tools/lint

asan: test-deps
	@tools/test-sanitized address,undefined

tsan: test-deps
	@tools/test-sanitized thread

nightly: test-deps
	@tools/nightly

fuzz: test-deps
	@tools/fuzz $(FUZZ_SECONDS)

install: all
	@meson install -C $(BUILD) --no-rebuild

clean:
	@rm -rf build build-*

build-deps test-deps bench-deps:
	@tools/install-packages $(@:-deps=)

.PHONY: all run test bench bench-full lint asan tsan nightly fuzz install clean build-deps test-deps bench-deps
