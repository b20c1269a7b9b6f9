"""The filter under each WSGI server that nova-api is run with: it loads, serves, takes new keys."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from .site import SERVERS, Running


@pytest.fixture(params=SERVERS)
def server(request):
    return request.param


def kid(token):
    return token.split(".")[1]


def test_the_filter_serves_and_takes_new_keys_without_a_restart(serve, server, site):
    running = serve(server, site)
    assert running.ask("nobody").status_code == 401
    serves_and_takes_new_keys(running)


def test_novas_own_api_serves_with_the_filter_in_it(serve, server, nova):
    serves_and_takes_new_keys(serve(server, nova))


def serves_and_takes_new_keys(running: Running) -> None:
    site = running.site
    claims = site.codec.verify(running.token())
    assert (claims.iid, claims.mode) == (site.instance, "full")
    assert running.ask(site.reader).status_code == 403

    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda _: running.token(), range(40)))
    assert len({site.codec.verify(token).jti for token in tokens}) == 40

    old = {kid(token) for token in tokens}
    assert len(old) == 1
    site.command("keys", "rotate")
    site.command("keys", "rotate")
    deadline = time.monotonic() + 60
    fresh = 0
    # Every process has to see it: more answers in a row than there are processes.
    while fresh < 20:
        token = running.token()
        site.codec.verify(token)
        fresh = 0 if kid(token) in old else fresh + 1
        assert time.monotonic() < deadline, f"still signs with key {old}"
        if not fresh:
            time.sleep(0.2)
