"""Whom ``mksfilter drain`` signals."""

from __future__ import annotations

import http.server
import os
import re
import threading

import pytest

from mksfilter.cli import main
from mksfilter.commands import drain
from mksfilter.exceptions import OperationError
from mksfilter.proxy.server import board, roster


@pytest.fixture
def ordered(monkeypatch):
    """The processes that were told something, and what."""
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: told.append((pid, number)))
    return told


def master(**changes: object) -> dict[str, object]:
    pid = os.getpid()
    return {"pid": pid, "started": board.started(pid), "boot": roster.boot_id(), **changes}


@pytest.mark.parametrize("boot", [roster.boot_id(), ""], ids=["seen", "under ProcSubset=pid"])
def test_the_nodes_master_is_told(ordered, boot):
    drain._order(master(boot=boot))
    assert ordered == [(os.getpid(), roster.DRAIN_SIGNAL)]


@pytest.mark.parametrize(
    "changes", [{"boot": "another machine"}, {"started": 1}], ids=["elsewhere", "another process"]
)
def test_a_process_that_only_has_its_number_is_left_alone(ordered, changes):
    with pytest.raises(OperationError, match="none of this machine or container"):
        drain._order(master(**changes))
    assert ordered == []


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"[]", b"{}", b"null", b"\xff"])
def test_something_else_at_the_management_address_is_told(body, capsys):
    class Stranger(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.handle_request).start()
        assert main(["drain", "--status", "--management", f"127.0.0.1:{server.server_port}"]) == 1
    error = capsys.readouterr().err
    assert "something else than a node's management listener answers there" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--management", "localhost"], 2, "--management localhost: not of the form HOST:PORT"),
        (["--management", "[::1]:0"], 2, "--management has port 0"),
        (["--management", "[::1]:1"], 1, r"management listener \[::1\]:1: "),
        (["--wait", "nan"], 2, "'nan' is not a number of seconds"),
        (["--wait", "-1"], 2, "'-1' is not a number of seconds"),
    ],
)
def test_a_wrong_command_line_is_told_as_it_was_written(arguments, code, words, capsys):
    try:
        ended = main(["drain", *arguments])
    except SystemExit as exc:
        ended = exc.code
    error = capsys.readouterr().err
    assert ended == code
    assert re.search(words, error)
    assert error.count("\n") == 1
