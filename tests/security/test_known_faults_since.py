"""Faults of such software that were published in 2025 and 2026, and are absent here.

``docs/security.md`` maps each id to its test; where another folder has the test, it is there.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mksfilter.auth.replay import replay_guard
from mksfilter.auth.token import TokenCodec
from mksfilter.exceptions import InstanceLimitReached, OriginDenied, TokenError
from mksfilter.log import event
from mksfilter.proxy.console.authorization import Authorization
from mksfilter.proxy.console.handshake import Handshake
from mksfilter.proxy.console.limits import SessionLimits
from mksfilter.proxy.console.origin import OriginPolicy, TrustedProxies
from mksfilter.proxy.relay.frames import FrameTracker, Violation
from mksfilter.request import ConsoleRequest
from mksfilter.simulator.client import DB_1, WEB_1
from tests.auth.keyring import Keyring, key
from tests.proxy.relay.session import Session
from tests.support.page_client import open_page, told
from tests.support.proxy import read_head

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


def passes(policy: OriginPolicy, origin: str, host: str = "internal.example") -> bool:
    environ = {"HTTP_HOST": host, "HTTP_ORIGIN": origin, "wsgi.url_scheme": "https"}
    try:
        policy.check({**environ, "REMOTE_ADDR": "192.0.2.1"})
    except OriginDenied:
        return False
    return True


@given(st.lists(LABEL, min_size=1, max_size=3), st.lists(LABEL, max_size=3))
def test_cve_2026_21883_no_label_more_or_less_passes(before, after):
    """Bokeh compared label by label, as far as the shorter name went."""
    policy = OriginPolicy(["https://a.b"], TrustedProxies(), base_url="https://c.d/")
    for allowed in ("a.b", "c.d"):
        assert passes(policy, f"https://{allowed}")
        for other in (
            ".".join([*before, allowed, *after]),
            ".".join([allowed, *after, *before]),
            f"{before[0]}{allowed}",
            f"{allowed}{before[0]}",
            f"{allowed}.",
            allowed.partition(".")[0],
        ):
            assert not passes(policy, f"https://{other}")
            assert not passes(policy, f"https://{other}", host=other)
        assert not passes(policy, f"https://{allowed}:8443")


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("length", [2**63 - 1, 2**63, 2**64 - 1, 2**64 - 14, 2**64 - 10])
def test_cve_2026_27889_no_length_wraps_around(masked, length):
    """64 bits, and sums with the header: refused, or counted to the last byte; never the next
    frame's header."""
    tracker = FrameTracker(masked=masked)
    header = struct.pack("!BBQ", 0x82, 0x80 * masked | 127, length) + b"\0\0\0\0" * masked
    stream = header + b"\x82\x00" * 100
    pieces = tracker.feed(stream, len(stream))
    if length < 2**63 and not (pieces and isinstance(pieces[-1], Violation)):
        assert tracker._left == length - 200
    else:
        assert pieces
        assert isinstance(pieces[-1], Violation)
        assert tracker.closed


def test_cve_2026_27889_other_sessions_go_on(proxy):
    with proxy.viewer(proxy.token(DB_1)) as other, proxy.connect() as hostile:
        hostile.sendall(proxy.handshake(proxy.token(WEB_1)))
        read_head(hostile)
        hostile.sendall(struct.pack("!BBQ", 0x82, 0xFF, 2**64 - 1))
        while hostile.recv(65536):
            pass
        other.framebuffer()


def test_go_2026_4831_a_crowd_before_any_token_costs_a_bounded_memory(proxy):
    """Heads that never end, and upgrades without a token: 600 of them."""
    (worker,) = psutil.Process(proxy.process.pid).children()
    proxy.get("/healthz")
    before = worker.memory_info().rss
    with contextlib.ExitStack() as stack:
        for number in range(300):
            client = stack.enter_context(contextlib.closing(proxy.connect()))
            with contextlib.suppress(OSError):
                client.sendall(b"GET /websockify HTTP/1.1\r\nX-Padding: " + b"x" * 7000)
            if number % 10 == 0:
                assert proxy.upgrade("garbage").status in (403, 429)
        grown = worker.memory_info().rss - before
        assert grown < 64 << 20, f"{grown >> 20} MiB"
        with proxy.viewer(proxy.token(WEB_1)) as viewer:
            viewer.framebuffer()


def test_cve_2026_7776_half_a_tls_handshake_holds_nobody_up(proxy_factory, certificate):
    """The deadline is a minute: all of them are still at it while a console opens."""
    proxy = proxy_factory(
        *("--certfile", str(certificate / "cert.pem"), "--keyfile", str(certificate / "key.pem")),
        tls=True,
        handshake_timeout=60,
    )
    context = ssl.create_default_context(cafile=certificate / "cert.pem")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    hello = outgoing.read()
    with contextlib.ExitStack() as stack:
        for number in range(200):
            client = stack.enter_context(contextlib.closing(proxy.connect()))
            client.sendall(hello if number % 2 else hello[: len(hello) // 2])
        with proxy.viewer(proxy.token(WEB_1), ssl_context=context) as viewer:
            viewer.framebuffer()
            waiting = stack.enter_context(contextlib.closing(proxy.connect()))
            waiting.sendall(hello)
            assert waiting.recv(1, socket.MSG_PEEK), "the server still answers handshakes"


def test_cve_2026_31903_bad_tokens_are_cheap_and_cost_no_neighbour(proxy_factory, vsphere):
    """And CVE-2026-25114: attempts without limit over WebSocket."""
    proxy = proxy_factory(trusted_proxies="127.0.0.0/8", connection_rate=5)
    good = proxy.token(WEB_1)
    bad = [
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        "x" * 4000,
        "",
        good.replace("mks1", "mks2"),
    ]
    before = vsphere.calls()["total"]
    for number in range(300):
        answer = proxy.upgrade(bad[number % len(bad)], headers={"X-Forwarded-For": "198.51.100.9"})
        assert answer.status in (403, 414, 429, 431)
    assert vsphere.calls()["total"] == before
    assert proxy.upgrade(good, headers={"X-Forwarded-For": "198.51.100.10"}).status == 101


def test_cve_2026_53522_streams_are_counted_and_every_place_comes_back():
    """And CVE-2025-69199."""
    limits = SessionLimits(1000, 2, 3)
    for number in range(1000):
        first, second = limits.reserve("i", f"u{number}"), limits.reserve("i", "u")
        with pytest.raises(InstanceLimitReached):
            limits.reserve("i", "another")
        first.release()
        second.release()
        first.release()  # a second release gives back nothing that was not taken
    places = [limits.reserve(f"i{number}", f"u{number}") for number in range(1000)]
    assert len(places) == 1000


def test_go_2026_5821_knowing_a_stream_s_id_opens_nothing(proxy, vsphere):
    """And CVE-2025-54289, CVE-2026-54324: ids that logs, lists, metrics and frames tell."""
    token = proxy.token(WEB_1)
    claims = proxy.codec.verify(token)
    with open_page(proxy, token) as page:
        hello = told(page)
        connection = vsphere.connections("web-1", count=1)[0]
        line = proxy.wait_for_log(f"event=session-opened session={hello['session']}")
        words = {word.partition("=")[2] for word in line.split() if "=" in word}
        ids = {hello["session"], claims.jti, WEB_1, token.split(".")[1], *words}
        ids |= {str(value) for value in connection.values()}
        for name in sorted(ids - {""}):
            if all(33 <= ord(char) < 127 and char not in '"&#%+' for char in name):
                assert proxy.upgrade(name).status == 403, name
                offered = ["mks.v1", f"mks.token.{name}"]
                assert proxy.upgrade(subprotocols=offered).status in (400, 403), name
        assert len(vsphere.connections("web-1")) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/websockify?mode=full",
        "/websockify?mode=full&use=connect&iid=" + DB_1,
        "/?path=websockify&mode=full",
    ],
)
def test_cve_2026_6383_a_view_token_is_not_widened_by_path_or_query(proxy, path):
    token = proxy.token(WEB_1, mode="view")
    jti = proxy.codec.verify(token).jti
    assert proxy.upgrade(path=f"{path}&token={token}").status == 101
    line = proxy.wait_for_log(f"jti={jti} use=")
    assert "mode=view" in line
    assert WEB_1 in line


def _claim(authorization: Authorization, token: str) -> contextlib.AbstractContextManager[None]:
    return authorization.claim(authorization.verify(Handshake("key", "binary", token), "")[0])


def test_cve_2026_43002_garbage_is_remembered_nowhere():
    """Not in the once-only memory, whose names the outside would choose."""
    codec = TokenCodec(Keyring(key()), "tests")
    guard = replay_guard("local")
    authorization = Authorization(codec, once_only=guard)
    good = codec.issue(ConsoleRequest(WEB_1, mode="full"), ttl=60).token
    for number in range(10_000):
        token = f"{good[:20]}{number:06}{good[26:]}"
        with pytest.raises(TokenError), _claim(authorization, token):
            pytest.fail("garbage is a token")
    assert len(guard._names) == 0
    with _claim(authorization, good):
        assert len(guard._names) == 1


@pytest.mark.parametrize(
    "text",
    ["<img src=x onerror=alert(1)>", "a\r\nevent=session-opened user=admin", "\u2028\x00\x1b[2J"],
)
def test_cve_2026_40212_what_a_guest_says_stays_one_field_of_one_line(text):
    line = event("session-opened", name=text, user="u")
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert line.startswith("event=session-opened name=")
    assert line.endswith(" user=u")


@pytest.mark.parametrize(
    "request_lines",
    [
        "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b",
        "GET /healthz HTTP/1.1\r\nHost: a, b\r\nhost: c",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2",
        "GET healthz HTTP/1.1\r\nHost: a",
        "GET  /healthz HTTP/1.1\r\nHost: a",
        "GET /health\tz HTTP/1.1\r\nHost: a",
        "GET /healthz HTTP/1.1\r\nHost : a",
        "GET /healthz HTTP/1.1\r\n Host: a",
    ],
)
def test_cve_2025_58068_what_is_not_plain_http_is_refused_and_nothing_follows_it(
    proxy, request_lines
):
    """The same whichever gunicorn from the floor on: the head is read by us."""
    smuggled = b"\r\n\r\nGET /static/console.css HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = proxy.exchange(request_lines.encode() + smuggled)
    assert answer.split(b" ", 2)[1] in (b"400", b"405", b"501"), answer[:80]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"text/css" not in answer


def test_manageiq_20584_the_last_record_is_read_to_its_end(proxy_factory, certificate, vsphere):
    """Bytes that TLS has decrypted are not seen by the system's wait for a socket: one record with
    more than the relay reads at once, then silence."""
    proxy = proxy_factory(
        *("--certfile", str(certificate / "cert.pem"), "--keyfile", str(certificate / "key.pem")),
        tls=True,
    )
    context = ssl.create_default_context(cafile=certificate / "cert.pem")
    with proxy.viewer(proxy.token(WEB_1), ssl_context=context) as viewer:
        text = "x" * 400 + "the end"
        keys = b"".join(
            b"\x82\x88\0\0\0\0" + struct.pack("!BBxxI", 4, down, ord(char))
            for char in text
            for down in (1, 0)
        )
        assert 8192 < len(keys) < 16384, "one record, two readings"
        viewer._socket.socket.sendall(keys)
        assert vsphere.screen("web-1", text="the end", timeout=20)


def test_cloudstack_14097_a_console_that_is_looked_at_is_in_use():
    """Whoever watches asks for pictures; whoever has gone does not."""
    session = Session(idle_timeout=10)
    for _ in range(10):
        session.host.send(b"a picture")
        session.browser.send(struct.pack("!BBHHHH", 3, 1, 0, 0, 640, 480))
        session.advance(8)
        assert not session.reasons
        assert session.browser.close is None
    session.advance(11)
    assert session.browser.close is not None
    assert session.browser.close[0] == 4408
