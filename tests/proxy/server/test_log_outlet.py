"""A log that nobody reads, or that cannot be written, stops nothing."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import re

import pytest

from mksfilter import log
from mksfilter.proxy.server import log_outlet


@pytest.fixture
def logger():
    logger = logging.Logger("mksfilter.test")
    yield logger
    for outlet in logger.handlers:
        logging.Handler.close(outlet)


def settle():
    log_outlet.flush(10)


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as read, os.fdopen(writer, "w") as write:
        yield read, write


def test_a_reader_that_has_stopped_costs_lines_and_the_next_line_says_how_many(logger, pipe):
    reader, writer = pipe
    os.set_blocking(reader.fileno(), False)
    logger.addHandler(log_outlet.outlet_for(logging.StreamHandler(writer), limit=10))
    before = log.lines_dropped()
    line = "x" * 16_000
    for _ in range(100):
        logger.warning(line)
    dropped = log.lines_dropped() - before
    assert dropped > 80
    read = b""
    while not logger.handlers[0].queue.idle:
        read += reader.read(65536) or b""
    logger.warning("the last")
    settle()
    read += reader.read(65536)
    *written, said, last = read.decode().splitlines()
    assert last == "the last"
    # A writer that gets its turn between two lines makes room, and then it is said in between too.
    told = [text for text in (*written, said) if text != line]
    counts = [re.search("event=log-lines-dropped lines=([0-9]+) ", text) for text in told]
    assert said == told[-1]
    assert sum(int(count[1]) for count in counts) == dropped
    assert len(written) + 1 - len(told) == 100 - dropped


def test_a_full_disk_is_counted_and_no_traceback_is_printed(logger, capfd):
    logger.addHandler(log_outlet.outlet_for(logging.FileHandler("/dev/full")))
    before = log.lines_dropped()
    for _ in range(5):
        logger.warning("no room for this")
    settle()
    assert log.lines_dropped() - before >= 5
    assert capfd.readouterr().err == ""


def test_a_syslog_socket_that_is_gone_is_counted_and_found_again(logger, tmp_path, capfd):
    import socket

    path = str(tmp_path / "syslog")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(path)
        logger.addHandler(log_outlet.outlet_for(logging.handlers.SysLogHandler(path)))
        logger.warning("%s and %s", "one", "two")
        settle()
        assert syslog.recv(100).rstrip(b"\0") == b"<12>one and two"
    os.unlink(path)
    before = log.lines_dropped()
    logger.warning("lost")
    settle()
    assert log.lines_dropped() == before + 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(path)
        logger.warning("again")
        settle()
        assert b"event=log-lines-dropped lines=1" in syslog.recv(1000)
        assert syslog.recv(100).rstrip(b"\0") == b"<12>again"
    assert capfd.readouterr().err == ""


def test_a_rotated_file_is_written_anew(logger, tmp_path):
    file = tmp_path / "log"
    logger.addHandler(log_outlet.outlet_for(logging.FileHandler(file)))
    logger.warning("old")
    settle()
    file.rename(tmp_path / "log.1")
    log_outlet.reopen_files()
    logger.warning("new")
    settle()
    assert file.read_text() == "new\n"
    assert (tmp_path / "log.1").read_text() == "old\n"


def test_each_process_writes_its_own_lines_after_a_fork(logger, tmp_path):
    file = tmp_path / "log"
    logger.addHandler(log_outlet.outlet_for(logging.FileHandler(file)))
    logger.warning("parent")
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            logger.warning("child")
            settle()
        os._exit(0)
    os.waitpid(child, 0)
    logger.warning("parent again")
    settle()
    assert sorted(file.read_text().splitlines()) == ["child", "parent", "parent again"]


def test_level_filters_format_and_name_are_those_of_the_handler(logger, pipe):
    reader, writer = pipe
    handler = logging.StreamHandler(writer)
    handler.setLevel("ERROR")
    handler.setFormatter(logging.Formatter("<%(message)s>"))
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    outlet = log_outlet.outlet_for(handler)
    logger.addHandler(outlet)
    logger.warning("below")
    logger.error("a secret")
    try:
        raise ValueError("of this")
    except ValueError:
        logger.exception("because")
    settle()
    assert re.fullmatch(
        r"<because>\nTraceback .*ValueError: of this\n", reader.read(9999).decode(), re.DOTALL
    )
