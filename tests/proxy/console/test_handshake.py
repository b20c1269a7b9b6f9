"""The opening handshake, by the sections of RFC 6455."""

from __future__ import annotations

import base64
import contextlib
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mksfilter.exceptions import HandshakeError, UpgradeRequired
from mksfilter.proxy.console import handshake

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def environ(**changes: str | None) -> dict[str, str]:
    fields: dict[str, str | None] = {
        "REQUEST_METHOD": "GET",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "console.example.com",
        "HTTP_UPGRADE": "websocket",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        "HTTP_SEC_WEBSOCKET_KEY": KEY,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def offer(*subprotocols: str) -> handshake.Handshake:
    return handshake.read(environ(HTTP_SEC_WEBSOCKET_PROTOCOL=", ".join(subprotocols)))


def test_the_answer_proves_that_the_key_was_read():
    """Section 1.3 has this pair of key and answer."""
    headers = dict(handshake.response(handshake.read(environ())))
    assert headers == {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    }


def test_names_are_compared_without_case_and_lists_are_read_as_lists():
    """Section 4.2.1, points 3 and 4."""
    handshake.read(environ(HTTP_UPGRADE="WebSocket", HTTP_CONNECTION="keep-alive, upgrade"))


@pytest.mark.parametrize("version", ["12", "8", "7", "0", "14", "013", "13, 8", "", None])
def test_another_version_than_13_is_told_which_one_we_speak(version):
    """Section 4.4; gevent-websocket speaks versions 7 and 8 too."""
    with pytest.raises(UpgradeRequired):
        handshake.read(environ(HTTP_SEC_WEBSOCKET_VERSION=version))


@pytest.mark.parametrize(
    "upgrade", ["h2c", "", None, "websocket, h2c", "websocketx", "websocket/13"]
)
def test_an_upgrade_to_something_else_is_not_ours(upgrade):
    with pytest.raises(UpgradeRequired):
        handshake.read(environ(HTTP_UPGRADE=upgrade))


@pytest.mark.parametrize(
    "changes",
    [
        {"REQUEST_METHOD": "HEAD"},
        {"SERVER_PROTOCOL": "HTTP/2.0"},
        {"HTTP_HOST": None},
        {"HTTP_CONNECTION": None},
        {"HTTP_CONNECTION": "close"},
        {"HTTP_CONNECTION": "xupgrade"},
        {"HTTP_CONNECTION": '"upgrade"'},
        {"HTTP_SEC_WEBSOCKET_PROTOCOL": "binary,,@"},
        {"HTTP_SEC_WEBSOCKET_PROTOCOL": "binary, binary"},
        {"HTTP_SEC_WEBSOCKET_PROTOCOL": "mks.token.a, mks.token.b"},
    ],
)
def test_what_section_4_2_1_demands_is_demanded(changes):
    with pytest.raises(HandshakeError) as refused:
        handshake.read(environ(**changes))
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "key",
    [
        None,
        "",
        "x",
        "!" * 24,
        "é" * 24,
        KEY + "A",
        KEY[:-2],
        *(base64.b64encode(bytes(size)).decode() for size in (0, 15, 17)),
    ],
)
def test_a_key_that_is_not_16_bytes_is_refused(key):
    """gevent-websocket answers some of these with 500."""
    with pytest.raises(HandshakeError):
        handshake.read(environ(HTTP_SEC_WEBSOCKET_KEY=key))


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        ([], None),
        (["binary"], "binary"),
        (["binary", "mks.v1"], "mks.v1"),
        (["binary", "vmware-vvc"], "binary"),
        (["base64"], None),
        (["xbinary", "binaryx", "mks.v11"], None),  # never by substring
        (["Binary"], None),
    ],
)
def test_exactly_one_offered_subprotocol_is_answered_and_none_if_none_was(offered, answered):
    shake = offer(*offered)
    assert shake.subprotocol == answered
    assert shake.control is (answered == "mks.v1")
    assert dict(handshake.response(shake)).get("Sec-WebSocket-Protocol") == answered


def test_the_token_comes_as_a_subprotocol_that_is_never_echoed():
    shake = offer("mks.v1", "binary", "mks.token.mks1.k.p.m")
    assert shake.token == "mks1.k.p.m"
    assert shake.subprotocol == "mks.v1"


def test_the_token_comes_as_the_last_token_of_the_query_which_is_novas_rule():
    assert handshake.read(environ(QUERY_STRING="token=a&title=x&token=b")).token == "b"
    assert handshake.read(environ(QUERY_STRING="")).token == ""


def test_the_subprotocols_token_wins_over_the_querys():
    fields = environ(QUERY_STRING="token=old", HTTP_SEC_WEBSOCKET_PROTOCOL="mks.token.new")
    assert handshake.read(fields).token == "new"


def test_horizons_title_may_hold_anything():
    assert handshake.query_token("token=a&title=%3Cb%3E%26token(x)&y=%zz") == "a"


def test_a_query_of_many_fields_holds_no_token():
    assert handshake.query_token("a=1&" * 1000 + "token=x") == ""


@given(st.text("tokenpah=&+%2674ab\xe9", max_size=40))
def test_a_query_is_read_as_by_everybody_else(query):
    """Without decoding the rest of it, which may be long."""
    tokens = [value for name, value in parse_qsl(query) if name == "token"]
    assert handshake.query_token(query) == (tokens or [""])[-1]


@pytest.mark.parametrize(
    ("query", "token"),
    [
        ("token=a", "a"),
        ("path=cell1%2Fwebsockify%3Ftoken%3Da", "a"),
        ("path=cell1/websockify?token=a&title=x", "a"),
        ("path=?token=a", "a"),
        ("path=websockify?token=old&token=a", "a"),
        ("path=websockify", ""),
        ("path=token=a", ""),
        ("title=x?token=a", ""),
    ],
)
def test_a_links_token_may_stand_in_the_path_that_it_names(query, token):
    """Nova's links for noVNC; a WebSocket's own query has no such field."""
    assert handshake.link_token(query) == token


@pytest.mark.parametrize(
    "cookie",
    ["token=a", "x=1; token=a", "token=old; token=a", "token=a&title=web-1", "path=x&token=a"],
)
def test_a_client_without_an_origin_may_send_its_token_as_a_cookie(cookie):
    """Tempest sends the whole query of the link."""
    assert handshake.read(environ(HTTP_COOKIE=cookie)).token == "a"


def test_a_cookie_is_the_last_resort():
    cookie = "token=cookie"
    assert handshake.read(environ(HTTP_COOKIE=cookie, QUERY_STRING="token=q")).token == "q"
    offered = "mks.token.s"
    fields = environ(HTTP_COOKIE=cookie, HTTP_SEC_WEBSOCKET_PROTOCOL=offered)
    assert handshake.read(fields).token == "s"


@pytest.mark.parametrize("origin", ["https://console.example.com", "null", ""])
def test_a_browsers_cookie_is_no_token_cve_2015_0259(origin):
    assert handshake.read(environ(HTTP_COOKIE="token=a", HTTP_ORIGIN=origin)).token == ""


@pytest.mark.parametrize("cookie", ["", "token", "xtoken=a", "tokenx=a", 'x="token=a"', "; ;&="])
def test_another_cookie_is_no_token(cookie):
    assert handshake.read(environ(HTTP_COOKIE=cookie)).token == ""


def test_neither_token_nor_subprotocols_are_in_the_repr_or_in_an_error():
    assert "secret" not in repr(handshake.read(environ(QUERY_STRING="token=secret")))
    with pytest.raises(HandshakeError) as refused:
        handshake.read(environ(HTTP_SEC_WEBSOCKET_PROTOCOL="mks.token.secret, ?"))
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=60))
def test_any_token_survives_the_way_through_a_query(token):
    assert handshake.query_token(f"token={quote(token)}") == token


@given(
    st.dictionaries(
        st.sampled_from(
            [name for name in environ() if name.startswith("HTTP_")]
            + ["HTTP_SEC_WEBSOCKET_PROTOCOL", "QUERY_STRING"]
        ),
        st.text(st.characters(max_codepoint=255), max_size=40),
    )
)
def test_whatever_arrives_there_is_a_handshake_or_a_refusal(changes):
    with contextlib.suppress(HandshakeError):
        assert handshake.response(handshake.read(environ(**changes)))


@pytest.mark.parametrize(
    "header", ["HTTP_UPGRADE", "HTTP_CONNECTION", "HTTP_SEC_WEBSOCKET_PROTOCOL"]
)
def test_a_list_of_thousands_is_refused_unread(header, monkeypatch):
    """The parsers take 30 ms for 30 kB."""
    for name in ("parse_upgrade", "parse_connection", "parse_subprotocol"):
        monkeypatch.delattr(handshake, name)
    with pytest.raises(HandshakeError, match="elements"):
        handshake.read(environ(**{header: "a," * 4000 + "Upgrade"}))
