"""How descriptors are divided."""

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mksfilter.proxy import fd_budget, http_head
from mksfilter.proxy.server import waiting_list


@given(st.integers(256, 2_000_000))
def test_whoever_may_come_finds_a_descriptor(limit):
    taken = 2 * fd_budget.sessions(limit) + fd_budget.waiting(limit)
    assert taken < limit
    assert fd_budget.waiting(limit) >= 64


@given(st.integers(2, 100_000))
def test_the_advice_is_enough_and_not_much_more(wanted):
    advice = fd_budget.needed(wanted)
    assert fd_budget.sessions(advice) >= wanted
    assert fd_budget.sessions(advice - 8) < wanted


def test_the_crowd_without_a_token_fits_the_memory_of_a_pod():
    """The unfinished heads alone of 20,000 strangers were more than the example gives."""
    example = (Path(__file__).parents[2] / "etc/kubernetes/base/deployment.yaml").read_text()
    memory = int(re.search(r"limits: \{memory: (\d+)Gi\}", example)[1]) << 10
    workers = int(re.search(r"--workers=(\d+)", example)[1])
    connection, tls_record, worker = 3 << 10, 17 << 10, 64 << 20
    short = fd_budget.waiting(1 << 20) * (connection + waiting_list.SHORT_HEAD)
    long = waiting_list.MOST_LONG_HEADS * (http_head.MAX_HEAD + tls_record)
    assert workers * (worker + short + long) < 0.75 * (memory << 20)
