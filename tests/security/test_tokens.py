"""Tokens from the outside: everything that is not good enough looks the same."""

from __future__ import annotations

import string
import time

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import Key, TokenCodec
from mksfilter.request import ConsoleRequest
from mksfilter.simulator.client import WEB_1
from tests.support.page_client import offers, open_page, told
from tests.support.proofs import BrowserKey
from tests.support.proxy import start_proxy


class Foreign:
    """A key source that the proxy has never seen."""

    def primary(self) -> Key:
        return Key(bytes(range(32)))


def bad_tokens(proxy) -> dict[str, str]:
    good = proxy.token(WEB_1)
    head, _, mac = good.rpartition(".")
    alphabet = string.ascii_letters + string.digits + "-_"
    last = alphabet[alphabet.index(mac[-1]) ^ 1] if mac[-1] in alphabet else "A"
    long_ago = TokenCodec(
        KeyRepository(str(proxy.directory / "keys")), "tests", clock=lambda: time.time() - 3600
    )
    ahead = TokenCodec(
        KeyRepository(str(proxy.directory / "keys")), "tests", clock=lambda: time.time() + 3600
    )
    other = TokenCodec(KeyRepository(str(proxy.directory / "keys")), "another-cloud")
    return {
        "missing": "",
        "malformed": "mks1.x",
        "truncated": good[:-5],
        "last character": f"{head}.{mac[:-1]}{last}",
        "padding": good + "=",
        "white space": good + "%20",
        "other case": good.upper(),
        "other version": "mks2" + good[4:],
        "other key": TokenCodec(Foreign(), "tests")
        .issue(ConsoleRequest(WEB_1, mode="full"), ttl=60)
        .token,
        "expired": long_ago.issue(ConsoleRequest(WEB_1, mode="full"), ttl=60).token,
        "not yet valid": ahead.issue(ConsoleRequest(WEB_1, mode="full"), ttl=60).token,
        "other audience": other.issue(ConsoleRequest(WEB_1, mode="full"), ttl=60).token,
        "none algorithm": f"{head}.",
        "too long": good + "A" * 4096,
    }


def test_the_outside_hears_one_thing_and_vcenter_nothing(proxy, vsphere):
    answers = {}
    for name, token in bad_tokens(proxy).items():
        answer = proxy.upgrade(token)
        answers[name] = (answer.status, answer.body, sorted(set(answer.headers) - {"date"}))
    assert len(set(map(str, answers.values()))) == 1, answers
    assert answers["missing"][0] == 403
    assert vsphere.calls()["total"] == 0


def test_so_does_the_page(proxy):
    bodies = {proxy.get(f"/?token={token}").body for token in bad_tokens(proxy).values() if token}
    assert len(bodies) == 1


def test_the_log_has_the_typed_reason(proxy):
    for name, token in bad_tokens(proxy).items():
        proxy.upgrade(token)
        if name == "expired":
            proxy.wait_for_log("reason=token-expired")
        if name == "other audience":
            proxy.wait_for_log("reason=token-audience-mismatch")
    for token in bad_tokens(proxy).values():
        if len(token) > 20:
            assert token not in proxy.log()


def test_a_resume_token_opens_a_session_and_keeps_its_end(proxy):
    end = int(time.time()) + 100
    with open_page(proxy, proxy.token(WEB_1, session_end=end)) as client:
        resume = told(client)["resume"]
    claims = proxy.codec.verify(resume, uses=("resume",))
    assert (claims.iid, claims.max) == (WEB_1, end)
    with open_page(proxy, resume) as client:
        assert told(client)["expires"] == end


def test_the_proxys_own_session_lifetime_cannot_be_outlived_by_reconnecting(proxy_factory):
    proxy = proxy_factory(session_lifetime=100)
    with open_page(proxy, proxy.token(WEB_1)) as client:
        hello = told(client)
    assert 90 <= hello["expires"] - time.time() <= 101
    with open_page(proxy, hello["resume"]) as client:
        assert told(client)["expires"] == hello["expires"]


def test_a_view_token_cannot_be_resumed_as_a_full_one(proxy):
    with open_page(proxy, proxy.token(WEB_1, mode="view")) as client:
        hello = told(client)
    assert hello["mode"] == "view"
    with open_page(proxy, hello["resume"]) as client:
        assert told(client)["mode"] == "view"


def test_a_view_session_types_nothing(proxy, vsphere):
    with proxy.viewer(proxy.token(WEB_1, mode="view")) as viewer:
        viewer.type("rm -rf\n")
        viewer.framebuffer()
    assert not any("rm -rf" in line for line in vsphere.screen("web-1"))


class TestOnceOnly:
    def test_local_is_once_per_process(self, proxy_factory):
        proxy = proxy_factory(replay_cache="local")
        token = proxy.token(WEB_1)
        with proxy.viewer(token):
            answer = proxy.upgrade(token)
            assert (answer.status, answer.body) == (403, b"")
        proxy.wait_for_log("event=session-ended")
        assert proxy.upgrade(token).status == 403
        proxy.wait_for_log("reason=token-replayed")

    def test_it_is_not_used_where_the_connection_broke_before_the_next_token(self, proxy_factory):
        """A page that comes back has no other; whoever has said something has heard the next."""
        proxy = proxy_factory(replay_cache="local")
        token, key = proxy.token(WEB_1), BrowserKey()
        for times in (1, 2):
            assert proxy.upgrade(subprotocols=offers(token, key)).status == 101
            proxy.wait_for_metric("mksfilter_sessions_ended_total", times, reason="client-lost")
        with open_page(proxy, token, key=key) as page:
            resume = told(page)["resume"]
            page.ping().wait(5)
        assert proxy.upgrade(subprotocols=offers(token, key)).status == 403
        assert proxy.upgrade(subprotocols=offers(resume, key)).status == 101

    def test_a_resume_token_whose_answer_is_lost_is_good_for_its_page_and_for_nobody_who_saw_it(
        self, proxy_factory
    ):
        """The old connection may hang for as long as nobody notices that it is dead."""
        proxy = proxy_factory(replay_cache="local")
        key = BrowserKey()
        with open_page(proxy, proxy.token(WEB_1), key=key) as page:
            resume = told(page)["resume"]
            page.ping().wait(5)
        seen = offers(resume, key)
        with proxy.connect() as lost:
            lost.sendall(proxy.handshake(subprotocols=seen))
            proxy.wait_for_log("use=resume")
            assert proxy.upgrade(subprotocols=seen).status == 403
            assert proxy.upgrade(subprotocols=offers(resume, BrowserKey())).status == 403
            with open_page(proxy, resume, key=key) as page:
                after = told(page)["resume"]
                page.ping().wait(5)
                # Its page has heard the next token: now it is used up, by whatever proof.
                assert proxy.upgrade(subprotocols=offers(resume, key)).status == 403
            with open_page(proxy, after, key=key) as page:
                assert told(page)["type"] == "hello"

    def test_a_shared_cache_that_is_down_refuses_with_the_reason(self, proxy_factory):
        proxy = proxy_factory(replay_cache="memcached://127.0.0.1:1")
        assert proxy.upgrade(proxy.token(WEB_1)).status == 503
        proxy.wait_for_log("reason=replay-cache-unavailable")

    def test_unless_the_operator_prefers_consoles_to_once_only(self, proxy_factory):
        proxy = proxy_factory(replay_cache="memcached://127.0.0.1:1", replay_cache_fail_open="true")
        assert proxy.upgrade(proxy.token(WEB_1)).status == 101


class TestRotation:
    def test_nodes_that_learn_of_a_key_at_different_times_refuse_no_token(self, tmp_path, vsphere):
        """Three nodes, the issuer among them: staged everywhere, then primary one by one."""
        import shutil

        origin = KeyRepository(str(tmp_path / "issuer"))
        origin.setup()
        nodes = [tmp_path / f"node{number}" for number in range(2)]

        def copy(node) -> None:
            shutil.rmtree(node, ignore_errors=True)
            shutil.copytree(tmp_path / "issuer", node)

        for node in nodes:
            copy(node)
        settings = vsphere.vcenter_settings()
        refused = asked = 0
        with (
            start_proxy([settings], key_repository=nodes[0]) as first,
            start_proxy([settings], key_repository=nodes[1]) as second,
        ):
            issuer = TokenCodec(KeyRepository(str(tmp_path / "issuer")), "tests")

            def try_everywhere(token: str) -> None:
                nonlocal refused, asked
                for proxy in (first, second):
                    asked += 1
                    refused += proxy.upgrade(token).status != 101

            for _ in range(2):
                old = issuer.issue(ConsoleRequest(WEB_1, mode="full"), ttl=60).token
                try_everywhere(old)
                KeyRepository(str(tmp_path / "issuer")).rotate()
                issuer = TokenCodec(KeyRepository(str(tmp_path / "issuer")), "tests")
                new = issuer.issue(ConsoleRequest(WEB_1, mode="full"), ttl=60).token
                try_everywhere(new)  # signed with a key that was staged on every node
                copy(nodes[0])
                try_everywhere(old)
                try_everywhere(new)
                copy(nodes[1])
                try_everywhere(old)
                try_everywhere(new)
        assert (refused, asked) == (0, 24)
