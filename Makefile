# Everything a newcomer needs: `make demo` and `make test` work on a bare machine (Linux x86-64, Python 3.10 to 3.13, a C++ compiler, no ROS).
# ROS_DISTRO=kilted does the same on Kilted, in folders of its own. PYTHON=python3.12 picks the interpreter.

PYTHON ?= python3
ROS_DISTRO ?= jazzy
KILLS ?= 1000
HOURS ?= 24
RUN := build/$(ROS_DISTRO)/run

.PHONY: help build demo test lint docs train bench bench-memory soak crash endurance clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

build:  ## install ROS 2 and the requirements into build/$ROS_DISTRO, build the package; instant when nothing changed
	@$(PYTHON) tools/bootstrap.py $(ROS_DISTRO)

demo: build  ## watch, speak, remember and recall for a minute; VIDEO=path or BAG=path takes your own footage
	@$(RUN) python -m stream_vlm_lab.demo

lint: build  ## ruff (rules and format) and mypy
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy src tools test benchmark deploy

test: lint  ## lint, then every test, in three processes
	$(RUN) pytest -n 3

docs:  ## build the documentation site in build/docs/site; a warning or a broken link is an error
	@$(PYTHON) tools/build_docs.py

train: build  ## train the small default model on the simulated camera; ARGS="--help" shows what can be set
	$(RUN) stream-vlm train $(ARGS)

bench: build  ## figures of this machine: how well and how fast the model watches, how fast the memory writes and answers
	$(RUN) stream-vlm eval --world heldout --minutes 20 --out build/bench/watching
	$(RUN) python benchmark/streaming.py
	$(RUN) python benchmark/memory.py
	$(RUN) python benchmark/memory_questions.py
	$(RUN) python benchmark/memory_links.py

bench-memory: build  ## the memory alone, beside emem, LanceDB and a naive scan where they can be installed; MEMORY_ARGS="--records 1000000" for more
	$(PYTHON) -m venv build/alternatives
	build/alternatives/bin/pip install --quiet --disable-pip-version-check -r requirements/benchmark.txt || build/alternatives/bin/pip install --quiet numpy
	$(RUN) python benchmark/memory.py --alternatives build/alternatives/bin/python $(MEMORY_ARGS)

soak: build  ## twelve hours of stream faster than real time: step time and memory of the first and the last hour (about a quarter of an hour)
	OMP_NUM_THREADS=1 $(RUN) python benchmark/soak.py

crash: build  ## a thousand kill -9 of the memory's writer under load, everything committed looked for after each (KILLS=1000; about an hour)
	OMP_NUM_THREADS=1 $(RUN) python benchmark/crash.py --kills $(KILLS)

endurance: build  ## a day in the life of the node, over DDS and faster than real time: everything at once, kill -9 every hour, losses and growth counted (HOURS=24; ARGS="--seed 7 --minutes 40")
	$(RUN) python benchmark/endure.py --hours $(HOURS) $(ARGS)

clean:  ## remove everything that was installed or built
	rm -rf build
