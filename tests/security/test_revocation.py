"""Drills on real proxies: a user who has left, a key that has leaked, a token that was stolen.

No node shares anything with another but the directory of keys, which is copied.
"""

from __future__ import annotations

import contextlib
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
    """Three nodes, each with its own copy of the keys; ``copy()`` brings all up to date."""
    source = tmp_path / "source"
    KeyRepository(str(source)).setup()
    copies = [tmp_path / f"copy-{number}" for number in (1, 2, 3)]
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
    """A deployment of three."""

    def __init__(self, source: Path, copies, proxies) -> None:
        self.source = source
        self.copies = copies
        self.proxies = proxies
        self.first, self.second, _ = proxies

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


def told_everywhere(pages, since: float, what: str) -> None:
    """Each page is told that it is revoked; prints after how many seconds."""
    seconds = []
    for page in pages:
        said, code = until_closed(page)
        seconds.append(time.monotonic() - since)
        assert [message["type"] for message in said] == ["end"], "and no new token"
        assert (said[-1]["reason"], code) == ("revoked", SessionRevoked.close_code)
    print(f"drill: {what}: sessions ended after {', '.join(f'{each:.1f}' for each in seconds)} s")


def refused_everywhere(nodes: Nodes, mint, since: float, what: str) -> None:
    """Each node comes to refuse tokens as *mint* makes them; prints after how many seconds."""
    seconds = []
    for node in nodes.proxies:
        while node.upgrade(mint()).status != 403:
            assert time.monotonic() - since < 10
        seconds.append(time.monotonic() - since)
    print(f"drill: {what}: tokens refused after {', '.join(f'{each:.1f}' for each in seconds)} s")


def test_a_user_who_left_is_out_on_every_node(nodes):
    kept_token = nodes.token(DB_1, user_id="somebody-else")
    with contextlib.ExitStack() as stack:
        pages = [
            stack.enter_context(open_page(node, nodes.token(user_id=USER)))
            for node in nodes.proxies
        ]
        resumes = [told(page)["resume"] for page in pages]
        kept = stack.enter_context(open_page(nodes.second, kept_token))
        assert told(kept)["type"] == "hello"
        others = [nodes.token(user_id=USER) for _ in nodes.proxies]
        assert main(["revoke", "--user", USER, "--key-repository", str(nodes.source)]) == 0
        nodes.copy()
        revoked = time.monotonic()
        told_everywhere(pages, revoked, "a user who left")
        assert time.monotonic() - revoked < 10
        refused_everywhere(nodes, others.pop, revoked, "a user who left")
        kept.ping().wait(5)
    for node, resume in zip(nodes.proxies, resumes, strict=True):
        assert node.upgrade(subprotocols=offers(resume)).status == 403
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
    """The thief signs with a copy of the old keys, on nodes that nobody else uses."""
    stolen = tmp_path / "stolen"
    shutil.copytree(nodes.source, stolen)
    forged = TokenCodec(KeyRepository(str(stolen)), "tests")
    forge = ConsoleRequest(WEB_1, user_id="thief", mode="full")
    thief = BrowserKey()

    def mint() -> str:
        return forged.issue(forge, ttl=600).token

    with contextlib.ExitStack() as stack:
        pages = [stack.enter_context(open_page(node, mint(), key=thief)) for node in nodes.proxies]
        resumes = [told(page)["resume"] for page in pages]
        shutil.rmtree(nodes.source)
        KeyRepository(str(nodes.source)).setup()
        nodes.copy()
        exchanged = time.monotonic()
        told_everywhere(pages, exchanged, "a leaked key")
        assert time.monotonic() - exchanged < 10
        refused_everywhere(nodes, mint, exchanged, "a leaked key")
    for node, resume in zip(nodes.proxies, resumes, strict=True):
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
