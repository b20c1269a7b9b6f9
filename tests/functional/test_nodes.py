"""Two proxy nodes that share a key and nothing else: live consoles are vCenter's knowledge."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.simulator.client import DB_1, WEB_1
from tests.support.page_client import open_page, told, until_closed
from tests.support.proxy import start_proxy


@pytest.fixture(scope="module")
def _nodes(_vsphere_process, tmp_path_factory):
    keys = tmp_path_factory.mktemp("shared") / "keys"
    KeyRepository(str(keys)).setup()
    vcenters = [_vsphere_process.vcenter_settings()]
    options = {"key_repository": keys, "take_over": "drop"}
    with start_proxy(vcenters, **options) as first, start_proxy(vcenters, **options) as second:
        yield first, second


@pytest.fixture
def nodes(vsphere, _nodes):
    """Two nodes with ``take_over = drop``; ``vsphere`` is as new."""
    return _nodes


def sessions(node, *arguments):
    """``mksfilter sessions ...`` with a node's configuration."""
    command = [sys.executable, "-m", "mksfilter", "sessions", *arguments]
    command += ["--config-file", str(node.directory / "mksfilter.conf")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def see(viewer):
    assert viewer.framebuffer().getextrema() != ((0, 0), (0, 0), (0, 0))


class TestSessions:
    def test_of_all_nodes_are_listed_and_dropped_from_any(self, nodes, vsphere):
        first, second = nodes
        with (
            open_page(first, first.token(WEB_1)) as page,
            second.viewer(second.token(WEB_1)),
            first.viewer(first.token(DB_1)) as another,
        ):
            assert told(page)["type"] == "hello"
            vsphere.connections("web-1", count=2)
            for node in (first, second):
                listed = json.loads(sessions(node, "list", "--instance", WEB_1, "--json"))
                assert listed["sessions"] == vsphere.connections("web-1")
                assert len(listed["sessions"]) == 2
            oldest, newest = vsphere.connections("web-1")
            dropped = sessions(
                second, "drop", "--instance", WEB_1, "--label", oldest["label"], "--may-return"
            )
            assert dropped == "1 console ended\n"
            said, code = until_closed(page)
            assert [message["reason"] for message in said] == ["upstream-lost"]
            assert code == 1011
            assert vsphere.connections("web-1") == [newest]
            assert sessions(first, "drop", "--instance", WEB_1) == "1 console ended\n"
            assert vsphere.connections("web-1") == []
            see(another)


@pytest.mark.parametrize("limit_at", ["ticket", "socket"])
class TestTakeOver:
    """``RemoteDisplay.maxConnections`` is used up, and somebody asks for one more console.

    Of a machine of its own: web-1's consoles were dropped for good above, and with them every token
    of that second.
    """

    @pytest.fixture(autouse=True)
    def _limit(self, vsphere, limit_at):
        vsphere.set_vm("db-1", max_connections=2, limit_at=limit_at)

    def test_ends_the_oldest_console_wherever_it_is(self, nodes, vsphere):
        first, second = nodes
        with (
            open_page(first, first.token(DB_1)) as page,
            second.viewer(second.token(DB_1)) as kept,
        ):
            assert told(page)["type"] == "hello"
            newest = vsphere.connections("db-1", count=2)[1]
            with second.viewer(second.token(DB_1)) as taken:
                see(taken)
                assert until_closed(page)[1] == 1011
                assert newest in vsphere.connections("db-1", count=2)
                see(kept)

    def test_is_not_for_a_page_that_comes_back_by_itself(self, nodes, vsphere):
        """Or two of them would take it from each other for ever."""
        first, second = nodes
        with open_page(first, first.token(DB_1)) as page:
            resume = told(page)["resume"]
            with second.viewer(second.token(DB_1)), second.viewer(second.token(DB_1)):
                assert until_closed(page)[1] == 1011
                with open_page(first, resume) as again:
                    said, code = until_closed(again)
                assert [message["reason"] for message in said] == ["connection-limit"]
                assert code == 4429
                assert len(vsphere.connections("db-1")) == 2
        vsphere.connections("db-1", count=0)
        with open_page(first, resume) as again:
            assert told(again)["type"] == "hello"

    def test_is_for_who_asked_for_it(self, proxy, vsphere):
        with proxy.viewer(proxy.token(DB_1)), proxy.viewer(proxy.token(DB_1)):
            vsphere.connections("db-1", count=2)
            with open_page(proxy, proxy.token(DB_1)) as page:
                said, code = until_closed(page)
            assert [message["reason"] for message in said] == ["connection-limit"]
            assert code == 4429
            assert len(vsphere.connections("db-1")) == 2


def test_a_ticket_that_is_refused_for_another_reason_ends_nobodys_console(nodes, vsphere):
    node, _ = nodes
    with node.viewer(node.token(DB_1)):
        vsphere.connections("db-1", count=1)
        vsphere.set_host(vsphere.host_of("db-1")["name"], refuse_tickets=True)
        with open_page(node, node.token(DB_1)) as page:
            said, _code = until_closed(page)
        assert [message["reason"] for message in said] == ["ticket-refused"]
        assert len(vsphere.connections("db-1")) == 1
