"""Drills on real proxies: a user who has left, a key that has leaked, a token that was stolen.

No node shares anything with another but the directory of keys, which is copied.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.cli import main
from mksfilter.exceptions import SessionRevoked
from mksfilter.request import ConsoleRequest
from mksfilter.simulator.client import DB_1, WEB_1
from tests.support.page_client import offers, open_page, told, until_closed
from tests.support.proofs import BrowserKey

USER = "user-who-leaves"


@pytest.fixture
def nodes(proxy_factory, tmp_path):
    """Two nodes, each with its own copy of the keys; ``copy()`` brings both up to date."""
    source = tmp_path / "source"
    KeyRepository(str(source)).setup()
    copies = [tmp_path / "copy-1", tmp_path / "copy-2"]
    for copy in copies:
        shutil.copytree(source, copy)
    started = [
        proxy_factory(
            key_repository=copy,
            session_lifetime=3600,
            end_sessions_of_removed_keys=True,
            replay_cache="local",
        )
        for copy in copies
    ]
    return Nodes(source, copies, started)


class Nodes:
    """A deployment of two."""

    def __init__(self, source: Path, copies, proxies) -> None:
        self.source = source
        self.copies = copies
        self.first, self.second = self.proxies = proxies

    def copy(self) -> None:
        """As ``rsync --delete`` does."""
        for copy in self.copies:
            wanted = {path.name: path for path in self.source.iterdir()}
            for path in copy.iterdir():
                if path.name not in wanted:
                    path.unlink()
            for name, path in wanted.items():
                shutil.copy2(path, copy / f".{name}")
                (copy / f".{name}").rename(copy / name)

    def token(self, instance=WEB_1, **facts):
        return self.first.token(instance, **facts)


def test_a_user_who_left_is_out_on_every_node(nodes):
    kept_token = nodes.token(DB_1, user_id="somebody-else")
    other = nodes.token(user_id=USER)
    with (
        open_page(nodes.first, nodes.token(user_id=USER)) as there,
        open_page(nodes.second, nodes.token(user_id=USER)) as elsewhere,
        open_page(nodes.second, kept_token) as kept,
    ):
        hello = told(there)
        assert told(kept)["type"] == "hello"
        assert main(["revoke", "--user", USER, "--key-repository", str(nodes.source)]) == 0
        nodes.copy()
        revoked = time.monotonic()
        for page in (there, elsewhere):
            said, code = until_closed(page)
            assert said[-1]["reason"] == "revoked"
            assert code == SessionRevoked.close_code
        assert time.monotonic() - revoked < 10
        kept.ping().wait(5)
    for node in nodes.proxies:
        assert node.upgrade(other).status == 403
        assert node.upgrade(subprotocols=offers(hello["resume"])).status == 403
        node.wait_for_log("reason=token-revoked")
        # Who comes back and is allowed again is not concerned.
        later = TokenCodec(KeyRepository(str(nodes.source)), "tests", clock=lambda: time.time() + 5)
        with open_page(
            node, later.issue(ConsoleRequest(WEB_1, user_id=USER, mode="full"), ttl=60).token
        ) as page:
            assert told(page)["type"] == "hello"


def test_one_session_ends_and_its_user_keeps_the_others(nodes):
    with (
        open_page(nodes.first, nodes.token(user_id=USER)) as gone,
        open_page(nodes.first, nodes.token(DB_1, user_id=USER)) as kept,
    ):
        session = told(gone)["session"]
        main(["revoke", "--session", session, "--key-repository", str(nodes.source)])
        nodes.copy()
        assert until_closed(gone)[0][-1]["reason"] == "revoked"
        assert told(kept)["type"] == "hello"
        kept.ping().wait(5)
    assert f"session={session}" in nodes.first.wait_for_log("event=session-ended")


def test_a_leaked_key_is_dead_at_once_and_so_is_what_it_opened(nodes, tmp_path):
    """The thief signs with a copy of the old keys, on a node that nobody else uses."""
    stolen = tmp_path / "stolen"
    shutil.copytree(nodes.source, stolen)
    forged = TokenCodec(KeyRepository(str(stolen)), "tests")
    forge = ConsoleRequest(WEB_1, user_id="thief", mode="full")
    thief = BrowserKey()
    with open_page(nodes.second, forged.issue(forge, ttl=600).token, key=thief) as page:
        resume = told(page)["resume"]
        shutil.rmtree(nodes.source)
        KeyRepository(str(nodes.source)).setup()
        nodes.copy()
        exchanged = time.monotonic()
        said, code = until_closed(page)
        assert (said[-1]["reason"], code) == ("revoked", SessionRevoked.close_code)
        assert [message["type"] for message in said] == ["end"], "no token of the new key"
        assert time.monotonic() - exchanged < 10
    for node in nodes.proxies:
        assert node.upgrade(forged.issue(forge, ttl=600).token).status == 403
        assert node.upgrade(subprotocols=offers(resume, thief)).status == 403


def test_a_rotation_ends_nothing(nodes):
    with open_page(nodes.first, nodes.token(user_id=USER)) as page:
        assert told(page)["type"] == "hello"
        for _ in range(3):
            main(["keys", "rotate", "--key-repository", str(nodes.source)])
            nodes.copy()
            primary = KeyRepository(str(nodes.source)).primary().kid
            nodes.first.wait_for_log(f"primary={primary}")
        with open_page(nodes.second, nodes.token()) as other:
            assert told(other)["type"] == "hello"
        page.ping().wait(5)


def test_a_stolen_resume_token_is_worth_nothing(nodes):
    """Neither while its owner is connected nor afterwards, not from another browser, not as a link,
    and not a second time for the owner where once-only is set."""
    with open_page(nodes.first, nodes.token()) as page:
        resume = told(page)["resume"]
        assert nodes.second.upgrade(subprotocols=offers(resume, BrowserKey())).status == 403
    assert nodes.second.upgrade(subprotocols=offers(resume, BrowserKey())).status == 403
    assert nodes.second.upgrade(subprotocols=["mks.v1", f"mks.token.{resume}"]).status == 403
    assert nodes.second.upgrade(resume).status == 403
    assert nodes.second.get(f"/?token={resume}").status == 403
    with open_page(nodes.second, resume) as page:
        assert told(page)["type"] == "hello"
    assert nodes.second.upgrade(subprotocols=offers(resume)).status == 403


def test_a_node_does_not_start_with_a_list_that_it_cannot_read(proxy_factory, tmp_path):
    """Whoever is on it would be let in."""
    keys = KeyRepository(str(tmp_path / "keys"))
    keys.setup()
    (Path(keys.path) / "revocations").write_text("nonsense")
    with pytest.raises(AssertionError, match=r"revocation list .*revocations: not of the form"):
        proxy_factory(key_repository=keys.path)
