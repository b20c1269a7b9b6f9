"""Several vCenters behind one proxy: one that hangs, and machines that are not where they were."""

from __future__ import annotations

import time

import pytest

from tests.support.page_client import open_page, told, until_closed, view_page
from tests.support.proxy import start_proxy

PAUSE = 3.0
"""Seconds after which the first vCenter's silence is a failure."""


class TestSilence:
    @pytest.fixture
    def vsphere(self, vsphere_factory):
        return vsphere_factory("--vcenters", "3", "--vms", "9")

    @pytest.fixture
    def proxy(self, vsphere):
        vcenters = [
            vsphere.vcenter_settings(0, timeout=PAUSE),
            vsphere.vcenter_settings(1),
            vsphere.vcenter_settings(2),
        ]
        with start_proxy(vcenters) as running:
            yield running

    @staticmethod
    def machine(vsphere, vcenter):
        """The UUID of a running machine there."""
        return next(
            vm["uuid"] for vm in vsphere.vms if vm["vcenter"] == vcenter and vm["power"] == "on"
        )

    def test_of_one_vcenter_delays_nobody_elses_console_and_is_visible(self, vsphere, proxy):
        vsphere.set_vcenter(0, silent=True)
        for number, name in enumerate(("vc2", "vc3", "vc2"), 1):
            with proxy.viewer(proxy.token(self.machine(vsphere, name))) as viewer:
                viewer.framebuffer()
            if number == 1:
                # It was asked too, and its answer is still awaited.
                calls = proxy.metric("mksfilter_vcenter_calls", vcenter="vc1", state="in-flight")
                assert calls == 1
        token = proxy.token(self.machine(vsphere, "vc1"))
        for _ in range(2):
            # Who asks for what only it can have is told when its time is up, and not what is wrong.
            assert proxy.upgrade(token).status == 504
        proxy.wait_for_metric("mksfilter_vcenter_up", 0, vcenter="vc1")
        assert proxy.metric("mksfilter_vcenter_up", vcenter="vc2") == 1
        assert proxy.metric("mksfilter_vcenter_up", vcenter="vc3") == 1
        assert "vcenter=vc1" in proxy.wait_for_log("event=vcenter-left-alone")
        started = time.monotonic()
        with open_page(proxy, token) as page:
            said, code = until_closed(page)
        assert time.monotonic() - started < PAUSE, "it is not waited for any more"
        assert [message["reason"] for message in said] == ["vcenter-unreachable"]
        assert code == 1014
        # Nor asked; the probe in the background is no call of a user.
        proxy.wait_for_metric("mksfilter_vcenter_calls", 0, vcenter="vc1", state="in-flight")
        with proxy.viewer(proxy.token(self.machine(vsphere, "vc3"))) as viewer:
            viewer.framebuffer()


class TestMemory:
    """What was remembered of a machine is wrong: healed once, and nobody notices."""

    def test_a_machine_that_was_registered_anew_is_found_again(self, deployment):
        machine = deployment.machine("webmks")
        with deployment.proxy.viewer(deployment.token("webmks")) as viewer:
            assert viewer.name == machine
        vcenter = deployment.vsphere.vm(machine)["vcenter"]
        before = deployment.vsphere.calls(vcenter)["calls"].get("FindByUuid", 0)
        deployment.vsphere.reregister(machine)
        with deployment.proxy.viewer(deployment.token("webmks")) as viewer:
            assert viewer.name == machine
        assert deployment.vsphere.calls(vcenter)["calls"]["FindByUuid"] == before + 1

    def test_a_machine_that_moved_to_another_vcenter_is_found_there(self, deployment):
        machine = deployment.machine("webmks")
        elsewhere = "auto-8.0"
        with open_page(deployment.proxy, deployment.token("webmks")) as page:
            resume = told(page)["resume"]
            assert "vcenter=webmks" in deployment.proxy.wait_for_log(
                f"instance={deployment.vsphere.vm(machine)['uuid']}"
            )
            deployment.vsphere.move(machine, list(deployment.settings).index(elsewhere))
            until_closed(page)
        # The token's hint, and what is remembered, both say where it was.
        with view_page(deployment.proxy, resume) as viewer:
            assert viewer.name == machine
        host = deployment.vsphere.host_of(machine)
        assert host["vcenter"] == deployment.vsphere.vm(deployment.machine(elsewhere))["vcenter"]
        assert deployment.console_of(resume) == f"{host['address']}:{host['port']}"
        jti = deployment.proxy.codec.verify(resume, uses=("resume",)).jti
        assert f"vcenter={elsewhere}" in deployment.proxy.wait_for_log(f"jti={jti} use=")
