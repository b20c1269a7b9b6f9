"""The order in which a request is judged, and who is told what."""

from __future__ import annotations

import json
import socket
import time

import pytest
from websockets.protocol import CLIENT, OPEN, Protocol

from mksfilter.auth.token import TokenCodec
from mksfilter.endpoint import Endpoint
from mksfilter.exceptions import (
    ConfigurationError,
    ConsoleError,
    DrainingError,
    EarlyData,
    InstanceLimitReached,
    InstancePoweredOff,
    KeyRepositoryError,
    KeysUnavailable,
    OriginDenied,
    RateLimitReached,
    ReplayCacheUnavailable,
    SessionEnded,
    SessionLimitReached,
    TokenError,
    TokenExpired,
    TokenMissing,
    TokenReplayed,
    UpgradeRequired,
    UpstreamLost,
)
from mksfilter.proxy.console.admission import Admission
from mksfilter.proxy.console.authorization import Authorization
from mksfilter.proxy.console.broker import Broker
from mksfilter.proxy.console.connector import Connector
from mksfilter.proxy.console.limits import AddressRate, SessionLimits
from mksfilter.proxy.console.origin import OriginPolicy, TrustedProxies
from mksfilter.proxy.console.sessions import SessionRegistry
from mksfilter.proxy.console.waiting import SHORTEST
from mksfilter.proxy.web.metrics import Metrics
from mksfilter.request import ConsoleRequest
from tests.auth.keyring import Keyring, key
from tests.support.clock import Clock
from tests.support.proofs import BrowserKey

INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


class Upgrade:
    """The worker's side of an upgrade request."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.early = b""
        self.headers: list[tuple[str, str]] | None = None
        self.frames = b""
        self.gone = False
        self.client = Connection()

    def early_data(self) -> bytes:
        return self.early

    def accept(self, headers):
        if self.gone:
            raise ConnectionResetError
        self._world._do("101")
        self.headers = headers
        return self.client

    def refuse(self, headers, frames: bytes) -> None:
        self.headers, self.frames = headers, frames

    def said(self) -> dict:
        protocol = Protocol(CLIENT, state=OPEN)
        protocol.receive_data(self.frames)
        return json.loads(protocol.events_received()[0].data)


class Connection:
    closed = False

    def close(self) -> None:
        self.closed = True


class Relay:
    bytes_in = bytes_out = 0

    def __init__(self, world: World, on_end) -> None:
        self._world, self._on_end = world, on_end

    def end(self, reason: SessionEnded) -> None:
        self._on_end(self, reason)

    def start(self) -> None:
        self._world._do("relay")

    def send_control(self, text: str) -> None:
        self._world._do("hello")


class Nova:
    """Nova, which knows no token."""

    asked = 0

    def verify(self, token: str):
        self.asked += 1
        raise TokenExpired(token)


class World:
    """A broker whose surroundings do what a test says, and remember in which order."""

    def __init__(self, **options) -> None:
        self.did: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.codec = TokenCodec(Keyring(key()), "tests")
        self.metrics = Metrics()
        self.limits = SessionLimits(options.pop("total", 1), options.pop("per_instance", 0))
        self.sessions = SessionRegistry(
            self.codec, self._relay, self.metrics, lifetime=options.pop("lifetime", 0)
        )
        self.upstream = Connection()
        proxies = TrustedProxies()
        self.broker = Broker(
            origins=OriginPolicy([], proxies),
            proxies=proxies,
            authorization=Authorization(self.codec, once_only=self, nova=options.pop("nova", None)),
            admission=Admission(
                AddressRate(options.pop("rate", 0.0), burst=1), self.limits, **options
            ),
            connector=Connector(self, lambda endpoint: self._do("dial", self.upstream)),
            sessions=self.sessions,
            metrics=self.metrics,
        )
        self.upgrade = Upgrade(self)
        self.used: set[str] = set()

    def claim(self, jti: str, exp: int) -> bool:
        self._do("once-only")
        self.used.add(jti)
        return True

    def claim_proof(self, jti: str, proof: str, exp: int) -> bool:
        return self.claim(f"{jti}.{proof}", exp)

    def give_back(self, jti: str) -> None:
        self.used.remove(jti)

    def endpoint(self, claims, *, takes=False) -> Endpoint:
        return self._do("ticket", Endpoint("websocket", "esxi-1", 443))

    def require_running(self, claims) -> None:
        if "power" in self.fails:
            raise self.fails["power"]

    def after_refusal(self, claims, refusal, *, takes=False) -> Endpoint:
        raise refusal

    def has_room(self) -> bool:
        """Whether a further session has a place."""
        try:
            self.limits.reserve("another", "").release()
        except SessionLimitReached:
            return False
        return True

    def _do(self, what: str, result=None):
        self.did.append(what)
        if what in self.fails:
            raise self.fails[what]
        return result

    def _relay(self, client, upstream, *, on_end, **options):
        if "relay made" in self.fails:
            self._do("relay made")
        self.relay = Relay(self, on_end)
        return self.relay

    def open(self, *subprotocols: str, token: str | None = None, **changes) -> None:
        if token is None:
            token = self.codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60).token
        fields = {
            "REQUEST_METHOD": "GET",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "192.0.2.1",
            "HTTP_HOST": "h",
            "HTTP_UPGRADE": "websocket",
            "HTTP_CONNECTION": "Upgrade",
            "HTTP_SEC_WEBSOCKET_VERSION": "13",
            "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
            "HTTP_SEC_WEBSOCKET_PROTOCOL": ", ".join(subprotocols) or "binary",
            "QUERY_STRING": f"token={token}",
            "mksfilter.connection": self.upgrade,
            **changes,
        }
        self.broker.open(fields)

    def refused(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value(
            "mksfilter_refusals_total", {"reason": reason}
        )


def test_a_page_hears_that_nobody_can_check_its_link_and_comes_back(monkeypatch):
    """Or it would take it for a bad link, and give up. Others get the plain status."""

    def unreadable(kid):
        raise KeyRepositoryError("key repository /keys: permission denied")

    world = World()
    token = world.codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60).token
    monkeypatch.setattr(world.codec._keys, "get", unreadable)
    world.open("mks.v1", token=token)
    assert world.upgrade.said()["reason"] == KeysUnavailable.reason
    assert KeysUnavailable.retry == "reopen"
    with pytest.raises(KeysUnavailable):
        world.open("binary", token=token)
    assert world.did == []
    assert world.has_room()


def test_everything_happens_in_its_order_and_101_comes_last():
    world = World()
    world.open("mks.v1")
    assert world.did == ["once-only", "ticket", "dial", "101", "hello", "relay"]
    assert ("Sec-WebSocket-Protocol", "mks.v1") in world.upgrade.headers
    assert len(world.sessions) == 1
    assert not world.has_room()
    world.relay.end(UpstreamLost(""))
    assert len(world.sessions) == 0
    assert world.has_room()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, UpgradeRequired),
        ({"HTTP_ORIGIN": "https://evil.example.net"}, OriginDenied),
        ({"token": ""}, TokenMissing),
    ],
)
def test_who_may_not_learns_nothing_and_costs_nothing(changes, error):
    world = World()
    with pytest.raises(error):
        world.open("mks.v1", **changes)
    assert world.did == []
    assert world.has_room()
    assert world.refused(error.reason) == 1


def test_a_foreign_origin_is_refused_before_its_token_is_looked_at():
    with pytest.raises(OriginDenied):
        World().open(HTTP_ORIGIN="https://evil.example.net", token="bad")


def test_a_token_that_was_used_before_looks_like_a_bad_one_to_our_page_too():
    world = World()
    world.fails["once-only"] = TokenReplayed("x")
    with pytest.raises(TokenReplayed):
        world.open("mks.v1")
    assert world.did == ["once-only"]


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("once-only", ReplayCacheUnavailable("memcached is down")),
        ("ticket", InstancePoweredOff("vm-1 is off")),
        ("dial", InstancePoweredOff("vm-1 is off")),
        ("ticket", ConfigurationError("no keys")),
        ("dial", RuntimeError("a bug")),
    ],
)
def test_a_failure_behind_a_good_token_is_told_to_our_page_and_a_status_to_others(what, error):
    world = World(total=2)
    world.fails[what] = error
    request = ConsoleRequest(INSTANCE, mode="full", request_id="req-1")
    issued = world.codec.issue(request, ttl=60)
    world.open("mks.v1", token=issued.token)
    expected = error if isinstance(error, ConsoleError) else ConsoleError()
    assert world.upgrade.said() == {
        "type": "end",
        "reason": expected.reason,
        "message": expected.public,
        "retry": expected.retry,
        **({"after": SHORTEST} if expected.retry == "wait" else {}),
        "session": issued.claims.session_id,
        "request": "req-1",
        "node": socket.gethostname(),
    }
    assert "101" not in world.did
    assert world.limits.use["max_sessions"][1] == (expected.retry == "wait")
    with pytest.raises(type(expected)):
        world.open("binary")


def test_a_page_waits_for_its_machine_with_one_place_and_a_token_of_its_own(caplog, clock):
    """Waiting costs vCenter nothing, uses up no token, and is told once."""
    caplog.set_level("INFO", logger="mksfilter")
    world = World(rate=1e-9, clock=clock)
    key = BrowserKey()
    off = world.fails["ticket"] = InstancePoweredOff("vm-1 is off")
    link = world.codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60).token
    world.open("mks.v1", f"mks.key.{key.public}", token=link)
    said = world.upgrade.said()
    assert (said["reason"], said["retry"], said["after"]) == ("powered-off", "wait", SHORTEST)
    assert len(world.used) == 1, "the link was exchanged, and opens nothing beside the page"
    assert not world.has_room(), "whoever waits counts"

    # From now on this node knows that it is off.
    world.fails["power"] = off
    origin = "http://h"
    claims = world.codec.verify(said["resume"], uses=("resume",))
    assert claims.exp - world.codec.now() > 8 * 3600 - 5

    def ask() -> None:
        proof = key.proof(origin=origin, jti=claims.jti, time=world.codec.now())
        world.open(
            "mks.v1",
            f"mks.token.{said['resume']}",
            f"mks.proof.{proof}",
            "mks.wait",
            HTTP_ORIGIN=origin,
            QUERY_STRING="",
        )

    world.did.clear()
    for _ in range(100):
        clock.now += SHORTEST
        ask()
        assert world.upgrade.said()["reason"] == "powered-off"
    assert world.did == [], "nobody was asked"
    assert world.used != {claims.jti}
    assert world.refused("powered-off") == 1
    assert caplog.text.count("console-refused") == 1
    assert not world.has_room()
    ask()
    assert world.upgrade.said()["reason"] == "rate-limit", "who asks too often is no page of ours"
    assert world.has_room()

    world.fails.clear()
    world.broker._admission._rate = AddressRate(0)
    ask()
    assert world.did == ["once-only", "ticket", "dial", "101", "hello", "relay"]
    assert len(world.sessions) == 1


def test_a_page_that_is_gone_while_it_waits_gives_its_place_back(clock):
    world = World(clock=clock)
    world.fails["ticket"] = InstancePoweredOff("vm-1 is off")
    world.open("mks.v1")
    assert not world.has_room()
    world.fails.clear()
    clock.now += 3 * SHORTEST
    world.open("mks.v1")
    assert len(world.sessions) == 1


def test_a_link_that_was_used_before_does_not_wait():
    world = World()
    world.fails["ticket"] = InstancePoweredOff("vm-1 is off")
    world.fails["once-only"] = TokenReplayed("x")
    with pytest.raises(TokenReplayed):
        world.open("mks.v1", f"mks.key.{BrowserKey().public}")
    assert world.has_room()


def test_limits_are_reached_before_vcenter_is_asked():
    world = World(total=2, per_instance=1)
    world.open()
    world.did.clear()
    with pytest.raises(InstanceLimitReached):
        world.open()
    assert world.did == []


def test_an_address_has_its_rate_and_beyond_it_nobody_is_asked():
    world = World(total=2, rate=0.01)
    world.open()
    world.did.clear()
    with pytest.raises(RateLimitReached):
        world.open()
    assert world.did == []


def test_bad_tokens_ask_nobody_and_use_up_no_ones_rate():
    """A neighbour behind the same address is still served."""
    world = World(rate=0.01)
    good = world.codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60).token
    for number in range(1000):
        with pytest.raises(TokenError):
            world.open(token=f"{good[:-8]}{number:08}")
    assert world.did == []
    world.open(token=good)


def test_novas_tokens_have_a_rate_before_nova_is_asked():
    nova = Nova()
    world = World(nova=nova, questions=AddressRate(0.01, burst=3))
    for number in range(10):
        with pytest.raises((TokenExpired, RateLimitReached)):
            world.open(token=f"0f8b4d9c-3c1e-4d0e-9a52-00000000000{number}")
    assert nova.asked == 3
    assert world.did == []
    world.open()


def test_a_console_whose_client_has_left_while_it_waited_uses_up_no_token():
    world = World()
    early = iter([b""])

    def gone() -> bytes:
        try:
            return next(early)
        except StopIteration:
            raise ConnectionResetError from None

    world.upgrade.early_data = gone
    world.open("mks.v1")
    assert world.did == []
    assert world.has_room()


def test_a_node_that_is_being_stopped_takes_nobody():
    world = World(draining=lambda: True)
    with pytest.raises(DrainingError):
        world.open()
    world.open("mks.v1")
    assert world.upgrade.said()["reason"] == "draining"
    assert world.did == []


def test_bytes_that_come_too_early_close_the_console_that_was_dialled_meanwhile():
    world = World()
    world.upgrade.early = b"x"
    with pytest.raises(EarlyData):
        world.open("mks.v1")
    assert world.did == []
    world = World()
    early = iter([b"", b"", b"x"])
    world.upgrade.early_data = lambda: next(early)
    with pytest.raises(EarlyData):
        world.open("mks.v1")
    assert world.upstream.closed
    assert world.has_room()


def test_a_client_that_has_left_meanwhile_leaves_no_console_open():
    world = World()
    world.upgrade.gone = True
    world.open("mks.v1")
    assert world.upstream.closed
    assert world.has_room()
    assert world.refused("client-gone") == 1


def test_the_proxys_lifetime_and_the_tokens_end_both_hold():
    world = World(lifetime=100)
    token = world.codec.issue(
        ConsoleRequest(INSTANCE, mode="full"), ttl=60, session_end=world.codec.now() + 3600
    ).token
    world.open("mks.v1", token=token)
    (session,) = world.sessions
    assert session.ends <= world.codec.now() + 100


def test_a_worker_that_cannot_hand_over_connections_says_which_one_can(caplog):
    caplog.set_level("INFO", logger="mksfilter")
    with pytest.raises(ConsoleError):
        World().open(**{"mksfilter.connection": None})
    assert "ConsoleWorker" in caplog.text


def test_a_session_whose_token_cannot_be_minted_is_refused_before_its_101(monkeypatch):
    world = World()

    def renew(claims, **_):
        raise TokenError("its end has come")

    monkeypatch.setattr(world.codec, "renew", renew)
    with pytest.raises(TokenError):
        world.open("mks.v1", f"mks.key.{BrowserKey().public}")
    assert "101" not in world.did
    assert world.upstream.closed
    assert len(world.sessions) == 0
    assert world.has_room()


@pytest.mark.parametrize("step", ["relay made", "hello", "relay"])
def test_what_fails_after_the_101_closes_both_ends_and_gives_the_place_back(step):
    """Fault injection: nobody can be told any more, and nothing may stay."""
    world = World()
    world.fails[step] = RuntimeError("injected")
    world.open("mks.v1")
    assert world.did[-1] == step
    assert world.upstream.closed
    assert world.upgrade.client.closed
    assert world.upgrade.frames == b"", "a second answer followed the 101"
    assert len(world.sessions) == 0
    assert world.has_room()
    assert world.refused("internal-error") == 1


@pytest.mark.parametrize("step", ["once-only", "ticket", "dial", "101"])
def test_what_fails_before_it_leaves_nothing_either(step):
    world = World()
    world.fails[step] = ConsoleError("injected")
    with pytest.raises(ConsoleError):
        world.open()
    assert world.upstream.closed == (step == "101")
    assert len(world.sessions) == 0
    assert world.has_room()
    assert not world.used


def test_a_token_at_the_end_of_its_session_opens_nothing():
    """600 tries left 40 consoles and 84 descriptors behind."""
    world = World()
    past = int(time.time()) - 5
    token = world.codec.issue(
        ConsoleRequest(INSTANCE, mode="full"), ttl=60, session_end=past + 65
    ).token
    world.codec._clock = lambda: time.time() + 65
    with pytest.raises(TokenError):
        world.open("mks.v1", token=token)
    assert world.did == []
