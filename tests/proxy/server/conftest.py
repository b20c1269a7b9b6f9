"""Servers that end with their test."""

from __future__ import annotations

import pytest

from tests.proxy.server import running


@pytest.fixture
def application():
    return running.Application()


@pytest.fixture
def serve(application):
    servers = []

    def serve(app, **options):
        servers.append(running.start(app, application, **options))
        return servers[-1]

    yield serve
    for server in servers:
        server.stop()
