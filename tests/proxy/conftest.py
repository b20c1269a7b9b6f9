"""What holds after every test of the proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mksfilter.proxy.relay.tls_buffers import shared_buffers


@pytest.fixture(autouse=True)
def _nothing_left_in_the_shared_buffers() -> Iterator[None]:
    """OpenSSL's buffers are all connections': what one leaves, another would read or send."""
    yield
    buffers = shared_buffers()
    left = buffers.incoming.read(), buffers.outgoing.read()
    assert left == (b"", b"")
