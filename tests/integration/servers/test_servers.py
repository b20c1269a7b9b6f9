"""The filter under each WSGI server that nova-api is run with: it loads, serves, takes new keys."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from .site import INSTANCE, SERVERS


@pytest.fixture(params=SERVERS)
def running(request, serve):
    return serve(request.param)


def kid(token):
    return token.split(".")[1]


def test_it_loads_serves_and_takes_new_keys_without_a_restart(running):
    claims = running.site.codec.verify(running.token())
    assert (claims.iid, claims.pid, claims.mode) == (INSTANCE, "demo", "full")
    assert running.ask("demo-reader").status_code == 403
    assert running.ask("nobody").status_code == 401

    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda _: running.token(), range(40)))
    assert len({running.site.codec.verify(token).jti for token in tokens}) == 40

    old = kid(tokens[0])
    running.site.command("keys", "rotate")
    running.site.command("keys", "rotate")
    deadline = time.monotonic() + 60
    fresh = 0
    # Every process has to see it: more answers in a row than there are processes.
    while fresh < 20:
        token = running.token()
        running.site.codec.verify(token)
        fresh = fresh + 1 if kid(token) != old else 0
        assert time.monotonic() < deadline, f"still signs with key {old}"
        if not fresh:
            time.sleep(0.2)
