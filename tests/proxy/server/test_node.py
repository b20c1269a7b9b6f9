"""The socket of the management listener, before and after somebody knows its address."""

from __future__ import annotations

import os
import socket

import pytest

from mksfilter.exceptions import OperationError
from mksfilter.proxy.server.node import ManagementSocket, listener_address


def test_whoever_binds_it_binds_it_for_all_that_have_it():
    shared = ManagementSocket()
    pid = os.fork()
    if not pid:
        shared.listen("127.0.0.1:0")
        os._exit(0)
    os.waitpid(pid, 0)
    listener = shared.listen("127.0.0.1:0")
    with socket.create_connection(listener.getsockname(), timeout=5):
        accepted, _ = listener.accept()
        accepted.close()


def test_a_port_in_use_is_told_and_can_be_tried_again():
    shared = ManagementSocket()
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(OperationError, match="already"):
            shared.listen(f"127.0.0.1:{port}")
    assert shared.listen(f"127.0.0.1:{port}").getsockname()[1] == port


def test_a_reload_does_not_move_it():
    shared = ManagementSocket()
    here = listener_address(shared.listen("127.0.0.1:0"))
    with pytest.raises(OperationError, match=f"listens at {here} until it is stopped"):
        shared.listen("127.0.0.2:0")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_ipv6_address_is_written_in_brackets():
    try:
        listener = ManagementSocket().listen("[::1]:0")
    except OperationError as exc:
        pytest.skip(str(exc))
    assert listener_address(listener).startswith("[::1]:")
