"""Nova, asked at a reconnect, of a Keystone and a Nova that answer as told."""

from __future__ import annotations

import pytest

from mksfilter import config
from mksfilter.auth.nova_api import NovaAPI
from mksfilter.auth.nova_instances import REMEMBERED, NovaInstances
from mksfilter.auth.token import Claims
from mksfilter.exceptions import AccessWithdrawn, InstanceNotFound, TokenServiceUnavailable
from tests.support.clock import Clock
from tests.support.cloud import Cloud

INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"
OTHER = "5f1c7e20-0000-4000-8000-000000000002"


def shown(instance=INSTANCE, **more):
    return {
        "id": instance,
        "tenant_id": "p1",
        "status": "ACTIVE",
        "OS-EXT-STS:vm_state": "active",
        "OS-EXT-STS:task_state": None,
        **more,
    }


def session(instance=INSTANCE, project="p1"):
    return Claims(
        jti="A" * 22,
        aud="here",
        iid=instance,
        pid=project,
        iat=1,
        exp=2,
        use="resume",
        mode="full",
        cnf="B" * 43,
    )


@pytest.fixture
def cloud():
    with Cloud() as cloud:
        cloud.servers = {INSTANCE: shown()}
        yield cloud


@pytest.fixture
def clock():
    return Clock(1000.0)


@pytest.fixture
def instances(cloud, clock, tmp_path):
    path = tmp_path / "mksfilter.conf"
    path.write_text(cloud.configuration())
    settings = config.nova_settings(config.load([str(path)]))
    return NovaInstances(NovaAPI(settings), clock=clock)


def test_an_instance_that_is_still_there_may_go_on(cloud, instances):
    instances.confirm(session())

    assert cloud.asked == [(f"/v2.1/servers/{INSTANCE}", "compute 2.1")]


def test_an_instance_that_is_gone_ends_it(cloud, instances):
    cloud.servers = {}

    with pytest.raises(InstanceNotFound, match=f"no instance {INSTANCE}"):
        instances.confirm(session())


@pytest.mark.parametrize(
    "states",
    [
        {"OS-EXT-STS:task_state": "deleting"},
        {"OS-EXT-STS:task_state": "soft-deleting"},
        {"OS-EXT-STS:vm_state": "soft-delete"},
        {"OS-EXT-STS:vm_state": "deleted"},
    ],
)
def test_an_instance_that_is_being_deleted_ends_it(cloud, instances, states):
    cloud.servers = {INSTANCE: shown(**states)}

    with pytest.raises(InstanceNotFound, match="is being deleted"):
        instances.confirm(session())


@pytest.mark.parametrize(
    "states",
    [
        {"OS-EXT-STS:task_state": "migrating"},
        {"OS-EXT-STS:task_state": "rebooting"},
        {"OS-EXT-STS:vm_state": "error"},
        {"OS-EXT-STS:vm_state": None},
    ],
)
def test_in_any_other_state_vcenter_decides(cloud, instances, states):
    cloud.servers = {INSTANCE: shown(**states)}

    instances.confirm(session())


def test_an_instance_of_another_project_ends_it(cloud, instances):
    cloud.servers = {INSTANCE: shown(tenant_id="p2")}

    with pytest.raises(AccessWithdrawn, match=r"project p2 now.* project p1"):
        instances.confirm(session())


def test_a_session_without_a_project_is_asked_about_its_instance_alone(cloud, instances):
    """It began with a token of Nova's own."""
    instances.confirm(session(project=""))


@pytest.mark.parametrize(
    "answer",
    [
        {"tenant_id": ""},
        {"tenant_id": None},
        {"tenant_id": 7},
        {"id": OTHER},
    ],
)
def test_an_answer_that_names_nobodys_instance_lets_nobody_in(cloud, instances, answer):
    cloud.servers = {INSTANCE: shown(**answer)}

    for claims in (session(), session(project="")):
        with pytest.raises(TokenServiceUnavailable, match="not nova's"):
            instances.confirm(claims)


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "servers:show"), (403, "servers:show"), (500, "answers 500"), (503, "answers 503")],
)
def test_while_nova_cannot_tell_nobody_gets_in(cloud, instances, status, words):
    cloud.status = status

    with pytest.raises(TokenServiceUnavailable, match=words):
        instances.confirm(session())
    cloud.status = 200
    instances.confirm(session())


def test_a_cloud_that_is_down_lets_nobody_in(cloud, instances):
    cloud.shutdown()
    cloud.server_close()

    with pytest.raises(TokenServiceUnavailable, match="cannot be asked"):
        instances.confirm(session())


def test_an_answer_is_good_for_ten_seconds_and_for_each_project(cloud, instances, clock):
    for _ in range(100):
        instances.confirm(session())
    with pytest.raises(AccessWithdrawn):
        instances.confirm(session(project="p2"))
    assert len(cloud.asked) == 1
    cloud.servers = {}
    clock.now += REMEMBERED
    for _ in range(100):
        with pytest.raises(InstanceNotFound):
            instances.confirm(session())
    assert len(cloud.asked) == 2
