"""What time brings to live sessions: fresh resume tokens, notices, the drain."""

from __future__ import annotations

import dataclasses
import functools
import gc
import json
import math
import time
import weakref

import gevent
import pytest

from mksfilter.auth.proof import thumbprint
from mksfilter.auth.revocation import Revocation, RevocationList
from mksfilter.auth.token import TokenCodec, key_name
from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import (
    RelayFailed,
    ServerDraining,
    SessionEnded,
    SessionRevoked,
    TokenExpired,
    UpstreamLost,
)
from mksfilter.proxy.console import sessions
from mksfilter.proxy.console.handshake import Handshake
from mksfilter.proxy.console.limits import SessionLimits
from mksfilter.proxy.console.session import Session
from mksfilter.proxy.console.sessions import SessionRegistry
from mksfilter.proxy.relay.timers import TimerWheel
from mksfilter.request import ConsoleRequest
from tests.auth.keyring import Keyring, key
from tests.support.proofs import BrowserKey

KEY = BrowserKey()
KID = key().kid
INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"


class Relay:
    """Remembers what it is told."""

    def __init__(self, *, on_end, **options) -> None:
        self.options = options
        self._on_end = on_end
        self.started = False
        self.said: list[dict] = []
        self.closed: list[SessionEnded] = []
        self.bytes_in = 0
        self.bytes_out = 0

    def start(self) -> None:
        self.started = True

    def end(self, reason: SessionEnded) -> None:
        self._on_end(self, reason)

    def send_control(self, text: str) -> None:
        self.said.append(json.loads(text))

    def close(self, reason: SessionEnded) -> None:
        self.closed.append(reason)

    def heard(self, count: int) -> list[dict]:
        """The first *count* messages, as soon as they are there."""
        with gevent.Timeout(5):
            while len(self.said) < count:
                gevent.sleep(0.005)
        return self.said[:count]


class Connection:
    def close(self) -> None:
        pass


@pytest.fixture
def codec():
    return TokenCodec(Keyring(key()), "tests")


class Metrics:
    """Remembers what was counted."""

    def __init__(self) -> None:
        self.bytes: list[tuple[int, int]] = []
        self.sessions: list[str] = []

    def session_opened(self, mode: str) -> None:
        self.sessions.append(f"opened {mode}")

    def session_lost(self, reason: str) -> None:
        self.sessions.append(f"lost {reason}")

    def session_ended(self, reason: str) -> None:
        self.sessions.append(f"ended {reason}")

    def count_bytes(self, arrived: int, sent: int) -> None:
        self.bytes.append((arrived, sent))

    def took(self, step: str, seconds: float, vcenter: str = "") -> None:
        assert seconds >= 0
        self.sessions.append(f"{step} {vcenter}")


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def registry(codec, metrics):
    def make(client, upstream, **options):
        return Relay(**options)

    wheel = TimerWheel(gevent.get_hub().loop, resolution=0.01)
    return SessionRegistry(codec, make, metrics, wheel=wheel)


@pytest.fixture
def open_session_of(codec):
    def open_session(
        registry: SessionRegistry,
        *,
        control: bool = True,
        ends: int | None = None,
        page_key: bool = True,
    ) -> Session:
        request = ConsoleRequest(INSTANCE, user_id="u1", request_id="req-1", mode="full")
        issued = codec.issue(request, ttl=60)
        session = registry.prepare(
            dataclasses.replace(issued.claims, max=ends),
            SessionLimits(0).reserve(INSTANCE, "u1"),
            Endpoint("websocket", "esxi-1", 443, vcenter="vc1"),
            Handshake(
                "key",
                "mks.v1" if control else "binary",
                issued.token,
                page_key=KEY.public if page_key else "",
            ),
            address="192.0.2.1",
        )
        registry.start(session, client=Connection(), upstream=Connection())
        return session

    return open_session


@pytest.fixture
def open_session(registry, open_session_of):
    return functools.partial(open_session_of, registry)


def test_a_page_is_greeted_with_a_token_of_the_same_session(codec, open_session):
    session = open_session()
    (hello,) = session.relay.said
    claims = codec.verify(hello["resume"], uses=("resume",))
    assert (claims.iid, claims.uid, claims.rid) == (INSTANCE, "u1", "req-1")
    assert claims.jti != session.claims.jti


def test_a_page_without_a_key_gets_no_token_to_reconnect_with(open_session):
    """Without a secure context a browser has no WebCrypto: a bearer token would be all there is."""
    session = open_session(page_key=False)
    assert session.relay.said[0]["resume"] is None
    assert session.renew_at == math.inf


def test_its_token_is_bound_to_the_page_s_key(codec, open_session):
    (hello,) = open_session().relay.said
    assert codec.verify(hello["resume"], uses=("resume",)).cnf == thumbprint(KEY.public)


def test_a_page_learns_its_session_and_the_time(open_session):
    session = open_session()
    (hello,) = session.relay.said
    assert hello["session"] == session.id == session.claims.jti
    assert abs(hello["now"] - time.time()) < 5


class TestWhatIsWithdrawn:
    def enforce(self, registry, *entries, keys=(KID,), end_without_key=False):
        registry.enforce(
            RevocationList(entries), frozenset(keys), key().kid, end_without_key=end_without_key
        )

    def test_a_revoked_session_ends_and_the_others_do_not(self, registry, open_session):
        gone, kept = open_session(), open_session()
        self.enforce(registry, Revocation("session", gone.id, 0))
        assert isinstance(gone.relay.closed[0], SessionRevoked)
        assert not kept.relay.closed

    def test_a_session_of_a_vanished_key_gets_no_new_token(self, open_session, codec, monkeypatch):
        monkeypatch.setattr(sessions, "_RENEW_EVERY", 0.02)
        session = open_session()
        codec._keys = Keyring(key(2))
        with gevent.Timeout(5):
            while session.renew_at != math.inf:
                gevent.sleep(0.005)
        assert [message["type"] for message in session.relay.said] == ["hello"]
        assert not session.relay.closed

    def test_it_ends_where_that_is_asked_for(self, registry, open_session):
        session = open_session()
        self.enforce(registry, keys=("0" * 12,))
        assert not session.relay.closed
        self.enforce(registry, keys=("0" * 12,), end_without_key=True)
        assert isinstance(session.relay.closed[0], SessionRevoked)

    def test_keys_that_rotate_out_take_no_session_with_them(self, registry, open_session):
        session = open_session(control=False)
        new = "1" * 12
        nothing = RevocationList()
        registry.enforce(nothing, frozenset([key().kid, new]), new, end_without_key=True)
        registry.enforce(nothing, frozenset([new]), new, end_without_key=True)
        assert not session.relay.closed

    def test_pages_get_a_token_of_a_new_primary_key_at_once(self, registry, open_session, codec):
        """Two rotations within a minute would leave them with one of a key that is gone."""
        pages = [open_session() for _ in range(3)]
        codec._keys = Keyring(key(2), key())
        for _ in range(2):
            registry.enforce(
                RevocationList(),
                frozenset([key().kid, key(2).kid]),
                key(2).kid,
                end_without_key=True,
            )
        for page in pages:
            token = page.relay.heard(2)[1]["token"]
            assert key_name(token) == key(2).kid
        assert [len(page.relay.said) for page in pages] == [2, 2, 2]


def test_a_token_is_given_back_whose_browser_has_said_nothing(codec, metrics, open_session_of):
    """Nobody can tell whether it has its next token; who has spoken has it."""
    given_back: list[str] = []
    registry = SessionRegistry(
        codec,
        lambda _client, _upstream, **options: Relay(**options),
        metrics,
        give_back=lambda claims: given_back.append(claims.jti),
    )
    silent, speaking = open_session_of(registry), open_session_of(registry)
    speaking.relay.bytes_in = 12
    for session in (silent, speaking):
        session.relay.end(UpstreamLost("gone"))
    assert given_back == [silent.claims.jti]


def test_a_session_whose_end_has_come_is_not_prepared(registry, open_session):
    with pytest.raises(TokenExpired):
        open_session(ends=int(time.time()) - 1)
    assert len(registry) == 0


def test_its_token_is_renewed_well_before_it_expires(codec, open_session, monkeypatch):
    assert sessions._RENEW_EVERY * 2 <= sessions.RESUME_TTL
    monkeypatch.setattr(sessions, "_RENEW_EVERY", 0.02)
    _, first, second = open_session().relay.heard(3)
    assert first["type"] == second["type"] == "resume"
    assert first["token"] != second["token"]
    assert codec.verify(second["token"], uses=("resume",)).exp >= time.time() + 500


def test_a_session_with_an_end_is_told_of_it_and_its_tokens_end_with_it(codec, open_session):
    end = int(time.time()) + 30
    hello, notice = open_session(ends=end).relay.heard(2)
    assert hello["expires"] == end
    assert notice["notice"] == "lifetime"
    assert 28 <= notice["in"] <= 30
    assert codec.verify(hello["resume"], uses=("resume",)).max == end


def until_closed(session: Session) -> SessionEnded:
    with gevent.Timeout(5):
        while not session.relay.closed:
            gevent.sleep(0.005)
    return session.relay.closed[0]


def test_a_client_without_control_channel_is_told_nothing(registry, open_session):
    session = open_session(control=False, ends=int(time.time()) + 30)
    registry.drain(0.02, move_within=0.01)
    until_closed(session)
    assert session.relay.said == []


def test_a_drain_moves_pages_one_after_the_other_and_keeps_who_cannot_come_back(
    registry, open_session
):
    opened = [open_session() for _ in range(5)]
    kept = [open_session(control=False), open_session(page_key=False)]
    assert registry.kinds == (5, 2)
    started = time.monotonic()
    registry.drain(60, move_within=0.4)
    assert all(session.relay.said[-1]["notice"] == "draining" for session in opened)
    assert all(session.relay.said[-1]["in"] == 1 for session in opened)
    seen = []
    with gevent.Timeout(5):
        while len(seen) < 5:
            gevent.sleep(0.005)
            for session in opened:
                if session.relay.closed and session not in [known for known, _ in seen]:
                    seen.append((session, time.monotonic() - started))
    assert [session for session, _ in seen] == opened
    assert seen[0][1] >= 0.2
    assert len({round(at, 2) for _, at in seen}) >= 3
    assert isinstance(opened[0].relay.closed[0], ServerDraining)
    assert not any(session.relay.closed for session in kept)


def test_a_drain_without_an_end_gets_one_later_and_tells_nobody_twice(registry, open_session):
    page, kept = open_session(), open_session(control=False)
    registry.drain(None, move_within=30)
    assert not kept.relay.closed
    registry.drain(0.05, move_within=0.01)
    until_closed(kept)
    until_closed(page)
    assert [message.get("notice") for message in page.relay.said] == [None, "draining"]


def test_a_session_that_was_being_opened_when_the_drain_began_drains_too(registry, open_session):
    registry.drain(0.05, move_within=0.01)
    page, other = open_session(), open_session(control=False)
    assert isinstance(until_closed(page), ServerDraining)
    assert isinstance(until_closed(other), ServerDraining)


def test_closing_ends_them_all_now(registry, open_session):
    opened = [open_session() for _ in range(3)]
    registry.close()
    assert all(session.relay.closed for session in opened)


def test_an_end_is_logged_once_with_what_was_transferred(registry, open_session, metrics, caplog):
    caplog.set_level("INFO", logger="mksfilter")
    session = open_session()
    assert len(registry) == 1
    session.relay.bytes_in, session.relay.bytes_out = 10, 2000
    for _ in range(2):
        session.relay.end(UpstreamLost("the host\nwent away"))
    assert len(registry) == 0
    (line,) = [text for text in caplog.messages if "session-ended" in text]
    assert f"session={session.id} connection={session.connection_id}" in line
    assert f" jti={session.claims.jti} " in line
    assert " request=req-1 " in line
    assert r'reason=upstream-lost detail="the host\nwent away"' in line
    assert "bytes_in=10 bytes_out=2000" in line
    assert metrics.bytes == [(10, 2000)]
    assert metrics.sessions == ["opened full", "ended upstream-lost"]


def test_a_fault_of_the_relay_is_logged_with_the_session_that_it_ended(open_session, caplog):
    session = open_session()
    reason = RelayFailed("ZeroDivisionError in the relay")
    reason.__cause__ = ZeroDivisionError("a bug")
    session.relay.end(reason)
    (line,) = [text for text in caplog.messages if "relay-failed" in text]
    assert f"session={session.id} request=req-1" in line
    assert "ZeroDivisionError: a bug" in caplog.text


def test_bytes_are_counted_while_a_session_lives(open_session, metrics, monkeypatch):
    monkeypatch.setattr(sessions, "_COUNT_EVERY", 0.02)
    session = open_session()
    session.relay.bytes_out = 5
    with gevent.Timeout(5):
        while (0, 5) not in metrics.bytes:
            gevent.sleep(0.005)
    session.relay.bytes_out = 7
    session.relay.end(UpstreamLost(""))
    assert sum(sent for _, sent in metrics.bytes) == 7


def test_a_fault_in_one_session_is_not_the_others(open_session, monkeypatch):
    monkeypatch.setattr(sessions, "_RENEW_EVERY", 0.02)
    broken, good = open_session(), open_session()
    monkeypatch.setattr(broken.relay, "send_control", None)
    assert len(good.relay.heard(3)) == 3


def test_a_session_that_is_over_is_not_kept_until_its_end(registry, open_session):
    session = open_session(ends=int(time.time()) + 8 * 3600)
    forgotten = weakref.ref(session.relay)
    session.relay.end(UpstreamLost(""))
    assert not session.slot
    del session
    gc.collect()
    assert forgotten() is None


def test_a_drain_without_time_ends_them_at_once(registry, open_session):
    session = open_session()
    registry.drain(0, move_within=4)
    assert isinstance(session.relay.closed[0], ServerDraining)


def test_a_relay_is_made_for_its_session_and_started_after_the_greeting(codec, open_session):
    session = open_session(ends=int(time.time()) + 100)
    options = session.relay.options
    assert session.relay.started
    assert (options["view_only"], options["control"]) == (False, True)
    assert options["rfb_handshake"] == "auto"
    assert 98 <= options["lifetime"] <= 100
