"""Certificates of console hosts, and servers that stand in for hosts."""

from __future__ import annotations

import contextlib

import pytest
from gevent.server import StreamServer

from tests.support.certificates import SelfSigned


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return SelfSigned(tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="session")
def other_certificate(tmp_path_factory):
    return SelfSigned(tmp_path_factory.mktemp("other"))


@pytest.fixture
def serve():
    """Start a server whose connections are handled by a function; returns its port."""
    with contextlib.ExitStack() as stack:

        def start(handle) -> int:
            def guarded(sock, address):
                with contextlib.suppress(OSError):
                    handle(sock)

            server = StreamServer(("127.0.0.1", 0), guarded)
            server.start()
            stack.callback(server.stop, 0)
            return server.server_port

        yield start
