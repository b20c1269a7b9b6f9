"""``resume_asks_nova`` in front of a real Nova; and a Nova whose policy was not asked."""

from __future__ import annotations

import json
import subprocess

import pytest

from mksfilter import config
from mksfilter.auth.nova_api import NovaAPI
from mksfilter.auth.nova_instances import NovaInstances
from mksfilter.auth.token import Claims
from mksfilter.exceptions import AccessWithdrawn, InstanceNotFound, TokenServiceUnavailable

from . import servers
from .stack import CREDENTIALS, ROOT


@pytest.fixture
def instances(stack, nova_api, tmp_path):
    """As a user asks who has the role admin, or another one."""

    def ask(user="nova"):
        credentials = CREDENTIALS.format(keystone=stack.keystone_url)
        if user != "nova":
            credentials = credentials.replace("= nova", f"= {user}").replace("service", "demo")
            credentials = credentials.replace("nova-pw", f"{user}-pw")
        path = tmp_path / "nova.conf"
        path.write_text(f"[nova]\n{credentials}\nvalid_interfaces = public\ntimeout = 30\n")
        return NovaInstances(NovaAPI(config.nova_settings(config.load([str(path)]))))

    return ask


def session(instance, project):
    return Claims(
        jti="A" * 22,
        aud="integration",
        iid=instance,
        pid=project,
        iat=1,
        exp=2,
        use="resume",
        mode="full",
        cnf="B" * 43,
    )


def test_a_session_of_an_instance_that_is_still_there_goes_on(instances, stack):
    asked = instances()
    for instance in (servers.ACTIVE, servers.STOPPED, servers.MIGRATING, servers.SHELVED):
        asked.confirm(session(instance, stack.projects["demo"]))


def test_an_instance_of_another_project_is_told(instances, stack):
    asked = instances()
    asked.confirm(session(servers.OF_OTHER, stack.projects["other"]))
    with pytest.raises(AccessWithdrawn):
        asked.confirm(session(servers.OF_OTHER, stack.projects["demo"]))


@pytest.mark.parametrize("instance", [servers.NONEXISTENT, servers.DELETING, servers.SOFT_DELETED])
def test_an_instance_that_is_gone_or_going_is_told(instances, stack, instance):
    with pytest.raises(InstanceNotFound):
        instances().confirm(session(instance, stack.projects["demo"]))


def test_a_user_who_sees_one_project_only_takes_others_for_gone(instances, stack):
    """Nova hides them: give [nova] a user that may see all."""
    with pytest.raises(InstanceNotFound):
        instances("member").confirm(session(servers.OF_OTHER, stack.projects["other"]))


def test_a_password_that_is_wrong_lets_nobody_in(instances, stack, tmp_path):
    asked = instances()
    path = tmp_path / "nova.conf"
    path.write_text(path.read_text().replace("nova-pw", "wrong"))
    asked = NovaInstances(NovaAPI(config.nova_settings(config.load([str(path)]))))
    with pytest.raises(TokenServiceUnavailable, match="check its password"):
        asked.confirm(session(servers.ACTIVE, stack.projects["demo"]))


UNASKED = """
import json
from types import SimpleNamespace
from nova import exception
from mksfilter.api import nova as ours
from mksfilter.api.nodes import VSphereNodes

minted, refused = [], []
issuer = SimpleNamespace(console_url=minted.append)
instance = SimpleNamespace(uuid="u", node="c.v", host="h", project_id="p")
for context in (SimpleNamespace(), SimpleNamespace(console_mode=None)):
    for method, kind in (("get_mks_console", "webmks"), ("get_vnc_console", "novnc")):
        consoles = object.__new__(ours._Consoles)
        consoles._minting = ours._Minting(issuer)
        consoles._nodes = VSphereNodes(("*",))
        try:
            getattr(consoles, method)(context, instance, kind)
        except exception.PolicyNotAuthorized:
            refused.append(method)
print(json.dumps([minted, refused]))
"""


def test_a_nova_that_asks_its_policy_in_another_way_gives_nobody_a_console(environment):
    """Our own ``can()`` has to have been called: what was not asked is not allowed."""
    done = subprocess.run(
        [environment.python, "-c", UNASKED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    minted, refused = json.loads(done.stdout.splitlines()[-1])
    assert minted == []
    assert refused == ["get_mks_console", "get_vnc_console"] * 2
