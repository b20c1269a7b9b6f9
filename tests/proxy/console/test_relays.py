"""Relays have the settings of the proxy."""

from __future__ import annotations

import pytest

from mksfilter import config
from mksfilter.proxy.console import control_channel, relays
from mksfilter.proxy.console.relays import Relays


@pytest.fixture
def made(monkeypatch):
    """What the relays were made with."""
    made = []
    monkeypatch.setattr(relays, "Relay", lambda client, upstream, **how: made.append(how))
    return made


def settings(**options):
    return config.proxy_settings(config.load([]), {k: str(v) for k, v in options.items()})


class Client:
    """A transport that notes how its peer is watched."""

    def watch_peer(self, seconds, *, unread):
        self.watched = seconds, unread


def make(factory, client=None, **changes):
    kind = {"view_only": False, "control": True, "rfb_handshake": "auto", "lifetime": 60.0}
    kind["on_end"] = lambda relay, reason: None
    kind["on_first_byte"] = lambda: None
    factory(client or Client(), None, **{**kind, **changes})


def test_each_kind_of_session_has_its_options_and_the_proxys(made):
    factory = Relays(settings(idle_timeout=900, stall_timeout=7))
    make(factory)
    make(factory, view_only=True, control=False, rfb_handshake="missing", lifetime=None)
    full, view = (how["options"] for how in made)
    assert (full.view_only, view.view_only) == (False, True)
    assert (full.end_message, view.end_message) == (control_channel.end, None)
    assert (full.rfb_handshake, view.rfb_handshake) == ("auto", "missing")
    assert {full.idle_timeout, view.idle_timeout} == {900}
    assert {full.stall_timeout, view.stall_timeout} == {7}
    assert [how["lifetime"] for how in made] == [60.0, None]


def test_sessions_of_one_kind_share_their_options(made):
    factory = Relays(settings())
    make(factory)
    make(factory)
    assert made[0]["options"] is made[1]["options"]


def test_a_browser_that_vanished_is_noticed_no_sooner_than_a_slow_one(made):
    client = Client()
    make(Relays(settings(tcp_user_timeout=20, stall_timeout=70)), client)
    assert client.watched == (20, 70.0)
