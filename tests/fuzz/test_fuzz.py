"""Every fuzz target runs: over what it once was broken by, and for a while over new inputs.

``MKSFILTER_FUZZ_SECONDS`` says for how long, each (3); ``make fuzz`` gives them a minute.
"""

from __future__ import annotations

import logging
import os

import pytest

from tests.fuzz import engine

SECONDS = int(os.environ.get("MKSFILTER_FUZZ_SECONDS", "3"))


@pytest.fixture(autouse=True)
def _other_tests_may_log():
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("target", engine.TARGETS)
def test_no_known_input_breaks_a_promise(target):
    """Needs no atheris, so it holds on every interpreter."""
    test_one_input = engine.load(target)
    inputs = engine.seeds(target)
    assert inputs
    for path in inputs:
        test_one_input(path.read_bytes())


@pytest.mark.skipif(not engine.WHEELS, reason="atheris has no wheel for this interpreter")
@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 90)
@pytest.mark.parametrize("target", engine.TARGETS)
def test_no_input_that_the_fuzzer_finds_breaks_a_promise(target, tmp_path, capsys):
    # Where there are wheels atheris is one of the test requirements: without it this fails.
    outcome = engine.fuzz(target, seconds=SECONDS, found=tmp_path)
    with capsys.disabled():
        print(f" [{target}: {outcome.executions} executions]", end="")
    assert not outcome.failed, outcome.output
    assert outcome.executions > 100, outcome.output


def test_each_target_has_a_module_and_seeds_of_its_own():
    assert {path.name for path in engine.CORPUS.iterdir()} == set(engine.TARGETS)


@pytest.mark.slow
@pytest.mark.skipif(not engine.WHEELS, reason="atheris has no wheel for this interpreter")
def test_a_target_that_does_not_run_does_not_pass(tmp_path):
    outcome = engine.fuzz("no_such_target", seconds=1, found=tmp_path)
    assert outcome.failed
    assert "no_such_target" in outcome.output
    assert outcome.executions == 0
