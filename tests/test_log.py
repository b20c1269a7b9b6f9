"""Nothing secret in a log (CVE-2015-9543)."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from pathlib import Path

import pytest

from mksfilter import log as log_module
from mksfilter import log_format

TOKEN = "mks1.0123456789ab.eyJqdGkiOiJ4In0.AbC-_123"


@pytest.fixture
def log():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(log_module.SecretsFilter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger, stream


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"GET /?token={TOKEN}&title=x",
        f"Sec-WebSocket-Protocol: binary, mks.token.{TOKEN}",
        "mks.token.5f1c7e20-0000-4000-8000-000000000001",
        "token=5f1c7e20-0000-4000-8000-000000000001",
        "wss://esx1:443/ticket/cst-AbC--tp-01?x=1",
        "wss://vc/console/authd?vmId=vm-1&sessionTicket=cst-AbC--tp-01&thumbprint=AA",
    ],
)
def test_a_secret_in_a_message_is_masked(log, text):
    logger, stream = log
    logger.warning("something about %s happened", text)
    logger.warning(text)
    for secret in ("0123456789ab", "eyJ", "5f1c7e20", "cst-AbC"):
        assert secret not in stream.getvalue()
    assert "***" in stream.getvalue()


def test_a_secret_in_a_traceback_is_masked(log):
    logger, stream = log
    try:
        raise ValueError(f"bad header {TOKEN}")
    except ValueError:
        logger.exception("it failed")
    assert "Traceback" in stream.getvalue()
    assert "eyJ" not in stream.getvalue()


def test_everything_else_is_logged_as_it_is(log):
    logger, stream = log
    logger.warning("instance %s of %d", "5f1c7e20-0000-4000-8000-000000000001", 3)
    assert stream.getvalue() == "instance 5f1c7e20-0000-4000-8000-000000000001 of 3\n"


def test_a_broken_format_is_not_made_worse(log, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger, _ = log
    logger.warning("%d", "not a number")


def test_the_access_log_sees_neither_query_nor_subprotocols():
    environ = {
        "PATH_INFO": f"/{TOKEN}",
        "RAW_URI": f"/{TOKEN}?token={TOKEN}",
        "QUERY_STRING": f"token={TOKEN}",
        "HTTP_REFERER": f"https://console.example.com/?token={TOKEN}",
        "HTTP_SEC_WEBSOCKET_PROTOCOL": f"mks.token.{TOKEN}",
        "HTTP_COOKIE": f"token={TOKEN}",
        "HTTP_AUTHORIZATION": "Basic Zm9v",
        "REMOTE_ADDR": "192.0.2.1",
    }
    clean = log_module.scrub_environ(environ)
    assert "eyJ" not in str(clean)
    assert "Zm9v" not in str(clean)
    assert clean["HTTP_REFERER"] == "https://console.example.com/?***"
    assert clean["REMOTE_ADDR"] == "192.0.2.1"
    assert environ["QUERY_STRING"] == f"token={TOKEN}"
    headers = [("Referer", f"/?token={TOKEN}"), ("Sec-WebSocket-Protocol", f"mks.token.{TOKEN}")]
    assert log_module.scrub_headers([*headers, ("Host", "h")]) == [
        ("Referer", "/?***"),
        ("Host", "h"),
    ]


def test_no_value_can_pretend_to_be_another_field_or_another_line():
    line = log_module.event("x", user='a" admin="1', project="p\nevent=forged", empty="", n=3)
    assert line == r'event=x user="a\" admin=\"1" project="p\nevent=forged" empty="" n=3'
    assert log_module.event("changed", name="web-1") == "event=changed name=web-1"


def _log_calls():
    package = Path(log_module.__file__).parent
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id.strip("_").lower() in ("log", "logger")
                and node.func.attr in ("debug", "info", "warning", "error", "exception", "critical")
            ):
                yield f"{path.relative_to(package)}:{node.lineno}", node


def test_every_line_of_the_package_is_one_event():
    calls = list(_log_calls())
    assert len(calls) > 30
    for where, call in calls:
        assert call.func.value.id == "LOG", where
        (message,) = call.args
        assert re.match(r"(log\.)?event\('[a-z-]+'", ast.unparse(message)), where


@pytest.fixture
def formatted(log):
    logger, stream = log

    def formatted(formatter, message, **options):
        logger.handlers[0].setFormatter(formatter)
        log_module.mask_secrets()
        logger.error(message, **options)
        return stream.getvalue()

    return formatted


def test_every_line_of_a_session_names_it_and_its_request(formatted):
    text = log_format.TextFormatter()
    with log_module.serving():
        log_module.name_session("the-session", "req-1")
        line = log_module.event("something", detail="of a library below")
        assert {"event=something", "request=req-1", "session=the-session"} < set(line.split())
        assert log_module.event("x", session="another").count("session=") == 1
        assert formatted(text, "of a library").endswith(" session=the-session request=req-1\n")
    assert "session=" not in log_module.event("later")


def test_json_has_the_names_of_oslo_log_and_the_parts_of_an_event(formatted):
    with log_module.serving():
        log_module.name_session("the-session", "req-1")
        try:
            raise ValueError("two\nlines")
        except ValueError:
            event = log_module.event("it-failed", tries=3, why=None)
            out = formatted(log_format.JSONFormatter(), event, exc_info=True)
    assert out.count("\n") == 1
    line = json.loads(out)
    assert line["message"].startswith("event=it-failed tries=3 why=")
    assert (line["levelname"], line["name"], line["funcname"]) == ("ERROR", "test", "formatted")
    assert line["extra"]["event"] == "it-failed"
    assert line["extra"]["tries"] == 3
    assert line["context"] == {"session_id": "the-session", "request_id": "req-1"}
    assert line["traceback"][0].startswith("Traceback")
    assert line["error_summary"] == "lines"


def test_a_secret_is_in_no_field_of_json(formatted):
    out = formatted(log_format.JSONFormatter(), log_module.event("leak", token=TOKEN))
    assert "eyJ" not in out


def test_the_form_can_be_changed_by_a_reload():
    logger = logging.getLogger("mksfilter")
    before = list(logger.handlers), logger.level
    try:
        log_module.configure_logging("INFO", "json")
        assert log_format.chosen().__class__ is log_format.JSONFormatter
    finally:
        log_module.configure_logging("INFO", "text")
        logger.handlers[:], _ = before
        logger.setLevel(before[1])


def test_what_a_stranger_writes_is_cut_before_it_is_searched_for_secrets(log):
    long = "a" * 30_000
    line = log_module.event("request-refused", detail=long)
    assert len(line) < 1200
    assert line.endswith('...(28976 more)"')
    environ = {"RAW_URI": "/" + long, "HTTP_ORIGIN": long, "HTTP_REFERER": long, "PATH_INFO": long}
    assert all(len(value) < 1200 for value in log_module.scrub_environ(environ).values())
    headers = [("Origin", long), ("Referer", long), ("User-Agent", long)]
    assert all(len(value) < 1200 for _, value in log_module.scrub_headers(headers))
    logger, stream = log
    logger.warning("%s", long)
    assert 1000 < len(stream.getvalue()) < 17_000


@pytest.mark.parametrize("spare", range(-4, 60, 7))
def test_a_secret_at_the_cut_is_masked_all_the_same(log, spare):
    """However the line is cut, no part of a token is left over."""
    text = "x" * (log_module.MAX_VALUE - spare) + " mks1.0123456789ab.c2VjcmV0.bWFj"
    logger, stream = log
    logger.warning("%s", log_module.event("x", detail=text))
    assert stream.getvalue()
    assert "c2Vj" not in stream.getvalue()
