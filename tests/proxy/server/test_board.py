"""What the workers of a node tell each other, across forks and deaths."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from mksfilter.proxy.server import board
from mksfilter.proxy.server.board import Board


def in_a_child(work) -> int:
    """Run *work* in a forked process; its number, when it has ended and is reaped."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_a_process_reads_what_another_has_published():
    shared = Board(2)
    shared.page().publish(b"here")
    theirs = shared.take(SimpleNamespace(pid=os.getpid()))
    other = shared.take(SimpleNamespace(pid="[booting]"))
    reader, writer = os.pipe()

    def child():
        other.publish(b"there")
        os.write(writer, b"|".join(report.content for report in shared.read()))

    pid = in_a_child(child)
    assert os.read(reader, 100) == b"here|there"
    assert [(r.alive, r.content) for r in shared.read()] == [(True, b"here"), (False, b"there")]
    assert [r.pid for r in shared.read()] == [os.getpid(), pid]
    assert theirs.read().content == b"here"


def test_the_page_of_a_process_that_ended_goes_to_the_next_with_what_it_said():
    shared = Board(1)
    worker = SimpleNamespace(pid="[booting]")
    first = shared.take(worker)
    worker.pid = in_a_child(lambda: first.publish(b"7 sessions"))
    again = shared.take(SimpleNamespace(pid="[booting]"))
    assert again.read().content == b"7 sessions"
    assert not again.read().alive


def test_a_worker_that_is_being_started_keeps_its_page():
    shared = Board(2)
    first = shared.take(SimpleNamespace(pid="[booting]"))
    second = shared.take(SimpleNamespace(pid="[booting]"))
    first.publish(b"1")
    second.publish(b"2")
    assert [report.content for report in shared.read()] == [b"1", b"2"]


def test_more_workers_than_pages_still_have_one_for_themselves():
    shared = Board(1)
    shared.take(SimpleNamespace(pid=os.getpid()))
    extra = shared.take(SimpleNamespace(pid=os.getpid()))
    extra.publish(b"mine")
    assert [report.content for report in extra.board.read()] == [b"mine"]
    assert list(shared.read()) == []


def test_the_last_publication_is_what_is_read():
    page = board.alone()
    for number in range(5):
        page.publish(str(number).encode())
        assert page.read().content == str(number).encode()


def test_what_is_too_long_is_refused_and_the_last_stays():
    page = board.alone(1000)
    page.publish(b"short")
    with pytest.raises(ValueError, match="room"):
        page.publish(b"x" * (page.room + 1))
    assert page.read().content == b"short"


def test_a_process_id_that_is_used_again_is_another_process(monkeypatch):
    page = board.alone()
    page.publish(b"old")
    monkeypatch.setattr(board, "started", lambda pid: 1)
    assert not page.read().alive


def test_a_process_that_ended_and_is_not_reaped_does_not_run():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert board.started(pid) is None
    os.waitpid(pid, 0)
    assert board.started(os.getpid())


def test_nothing_of_it_is_in_the_file_system():
    before = set(os.listdir("/proc/self/fd"))
    Board().page().publish(b"x")
    assert set(os.listdir("/proc/self/fd")) == before
