"""One vCenter: log-in, expiry, certificates, deadlines. Against the simulator, over TLS."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mksfilter.backends.resolver import Consoles
from mksfilter.config import VCenterSettings
from mksfilter.exceptions import (
    CertificateMismatch,
    VCenterLoginRefused,
    VCenterUnreachable,
)
from mksfilter.simulator.client import DB_1, OTHER_1, WEB_1, SimulatedVSphere
from tests.support.certificates import SelfSigned
from tests.support.tls_servers import dripping_tls, listening, silent

MakeConsoles = Callable[..., Consoles]


def settings_for(
    port: int, certificate: SelfSigned | None = None, *, timeout: float = 0.5
) -> VCenterSettings:
    return VCenterSettings(
        "dc1",
        "127.0.0.1",
        port,
        "nova",
        "s3cret",
        ca_file=str(certificate.pem) if certificate else None,
        timeout=timeout,
    )


class TestLogin:
    def test_happens_when_the_first_console_is_asked_for(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(vsphere.vcenter_settings())
        assert vsphere.calls()["connections"] == 0
        consoles.connect(WEB_1)
        assert vsphere.calls()["calls"]["Login"] == 1

    def test_is_shared(self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles) -> None:
        consoles = consoles_of(vsphere.vcenter_settings())
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(consoles.connect, [WEB_1, DB_1, OTHER_1] * 8))
        calls = vsphere.calls()
        assert (calls["calls"]["Login"], calls["sessions"]) == (1, 1)

    def test_is_ended_on_close(self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles) -> None:
        consoles = consoles_of(vsphere.vcenter_settings())
        consoles.connect(WEB_1)
        consoles.close()
        assert vsphere.calls()["sessions"] == 0

    def test_with_a_wrong_password_names_user_and_remedy(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(vsphere.vcenter_settings(password="wr0ng"))
        with pytest.raises(
            VCenterLoginRefused, match=r"vcenter vc1: login refused for user .*password_file"
        ) as refusal:
            consoles.connect(WEB_1)
        assert "wr0ng" not in str(refusal.value)
        assert vsphere.calls()["calls"].get("FindByUuid", 0) == 0

    def test_that_was_refused_is_not_tried_until_the_account_is_locked(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(vsphere.vcenter_settings(password="wr0ng"))
        for _ in range(10):
            with pytest.raises(VCenterLoginRefused):
                consoles.connect(WEB_1)
        assert vsphere.calls()["calls"]["Login"] == 1
        with pytest.raises(VCenterLoginRefused, match=r"not tried again for 1\d\d s"):
            consoles.connect(WEB_1)
        (state,) = consoles.state()
        assert state.state == "login-refused"
        assert 100 < state.retry_in <= 120

    def test_is_tried_again_later(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        offset = 0.0
        consoles = consoles_of(vsphere.vcenter_settings(), clock=lambda: offset)
        vsphere.set_vcenter(refuse_logins=True)
        with pytest.raises(VCenterLoginRefused):
            consoles.connect(WEB_1)
        vsphere.set_vcenter(refuse_logins=False)
        offset += 121
        assert consoles.connect(WEB_1)


class TestExpiry:
    def test_is_not_noticed_by_the_user(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(vsphere.vcenter_settings())
        consoles.connect(WEB_1)
        vsphere.expire_sessions()
        assert consoles.connect(WEB_1)
        assert vsphere.calls()["calls"]["Login"] == 2

    def test_leads_to_one_login_for_many(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        """Ten at once on one stub: one success and nine InvalidLogin, were it not single-flight."""
        consoles = consoles_of(vsphere.vcenter_settings(pool_size=16))
        consoles.connect(WEB_1)
        vsphere.expire_sessions()
        vsphere.set_vcenter(delay=0.05)
        with ThreadPoolExecutor(16) as threads:
            endpoints = list(threads.map(consoles.connect, [WEB_1, DB_1, OTHER_1, WEB_1] * 4))
        assert len({endpoint.resource for endpoint in endpoints}) == 16
        assert vsphere.calls()["calls"]["Login"] == 2

    def test_makes_a_remembered_vm_be_verified(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        """A moid is good within one session: vCenter may have been restored from a backup."""
        consoles = consoles_of(vsphere.vcenter_settings())
        consoles.connect(WEB_1)
        before = vsphere.calls()["calls"]
        vsphere.expire_sessions()
        consoles.connect(WEB_1)
        after = vsphere.calls()["calls"]
        assert after["RetrieveProperties"] == before["RetrieveProperties"] + 1


class TestCertificate:
    def test_pin_takes_the_place_of_a_ca(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        pinned = vsphere.vcenter_settings(ca_file=None, thumbprint=vsphere.vcenter["thumbprint"])
        assert consoles_of(pinned).connect(WEB_1)

    def test_wrong_pin_fails_each_time_and_no_password_is_sent(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        """pyvmomi's second attempt with a wrong thumbprint succeeds."""
        consoles = consoles_of(vsphere.vcenter_settings(thumbprint="00" * 32, ca_file=None))
        for _attempt in range(3):
            with pytest.raises(CertificateMismatch, match="vcenter vc1"):
                consoles.connect(WEB_1)
        assert vsphere.calls()["total"] == 0

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_of_a_local_host_is_verified_too(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles, host: str
    ) -> None:
        """pyvmomi verifies neither localhost nor 127.0.0.1 by itself."""
        consoles = consoles_of(vsphere.vcenter_settings(ca_file=None, host=host))
        with pytest.raises(CertificateMismatch, match="set ca_file or thumbprint"):
            consoles.connect(WEB_1)
        assert vsphere.calls()["total"] == 0

    def test_is_not_verified_when_the_operator_says_so(
        self,
        vsphere: SimulatedVSphere,
        consoles_of: MakeConsoles,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        assert consoles_of(vsphere.vcenter_settings(ca_file=None, insecure=True)).connect(WEB_1)
        assert "event=certificate-not-verified vcenter=vc1" in caplog.text

    def test_of_another_ca_is_trusted_when_the_file_names_that_one(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles, tmp_path: Path
    ) -> None:
        ca_file = tmp_path / "ca.pem"
        ca_file.write_text(Path(vsphere.vcenter["ca_file"]).read_text())
        consoles = consoles_of(vsphere.vcenter_settings(ca_file=str(ca_file)))
        consoles.connect(WEB_1)
        vsphere.set_vcenter(certificate="foreign")
        for _ in range(2):
            with pytest.raises(CertificateMismatch, match="ca_file"):
                consoles.connect(WEB_1)
        ca_file.write_text("half of it")
        with pytest.raises(CertificateMismatch):
            consoles.connect(WEB_1)
        ca_file.write_text(Path(vsphere.vcenter["other_ca_file"]).read_text())
        assert consoles.connect(WEB_1)

    def test_that_is_renewed_by_the_same_ca_is_not_noticed(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(vsphere.vcenter_settings())
        consoles.connect(WEB_1)
        vsphere.set_vcenter(certificate="renewed")
        assert consoles.connect(WEB_1)
        assert vsphere.calls()["calls"]["Login"] == 2


class TestDeadline:
    def test_of_a_server_that_never_says_a_word(self, consoles_of: MakeConsoles) -> None:
        with listening(silent) as server:
            consoles = consoles_of(settings_for(server.port))
            with pytest.raises(VCenterUnreachable, match="vcenter dc1"):
                consoles.connect(WEB_1)

    def test_of_a_server_that_drips(
        self, consoles_of: MakeConsoles, certificate: SelfSigned
    ) -> None:
        with listening(dripping_tls(certificate)) as server:
            consoles = consoles_of(settings_for(server.port, certificate))
            with pytest.raises(VCenterUnreachable, match=r"no answer within 0\.5 s"):
                consoles.connect(WEB_1)
            assert server.closed.acquire(timeout=5), "its worker has let go of the connection"

    def test_of_a_vcenter_that_hangs_later(
        self, vsphere: SimulatedVSphere, consoles_of: MakeConsoles
    ) -> None:
        consoles = consoles_of(vsphere.vcenter_settings(timeout=2.0))
        consoles.connect(WEB_1)
        vsphere.set_vcenter(silent=True)
        with pytest.raises(VCenterUnreachable, match="vcenter vc1"):
            consoles.connect(WEB_1)
        vsphere.set_vcenter(silent=False)
        assert consoles.connect(WEB_1)

    def test_of_a_name_that_does_not_resolve(self, consoles_of: MakeConsoles) -> None:
        nowhere = dataclasses.replace(settings_for(443), host="vc1.invalid")
        with pytest.raises(VCenterUnreachable, match=r"vc1\.invalid.*does not resolve"):
            consoles_of(nowhere).connect(WEB_1)

    def test_of_a_port_where_nobody_listens(self, consoles_of: MakeConsoles) -> None:
        with listening(silent) as server:
            pass
        with pytest.raises(VCenterUnreachable, match=r"refused.*check host, port"):
            consoles_of(settings_for(server.port)).connect(WEB_1)


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "503"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "not XML"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<a/>", "not understood"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "vSphere API"),
            (b"", "vSphere API"),
        ],
    )
    def test_of_something_else_than_a_vcenter_are_told_as_such(
        self, consoles_of: MakeConsoles, certificate: SelfSigned, answer: bytes, words: str
    ) -> None:
        with (
            listening(answering(certificate, answer)) as server,
            pytest.raises(VCenterUnreachable, match=f"vcenter dc1 .*{words}"),
        ):
            consoles_of(settings_for(server.port, certificate, timeout=30)).connect(WEB_1)


def answering(certificate: SelfSigned, answer: bytes) -> Callable[..., None]:
    context = certificate.context()

    def serve(_server: object, connection: object) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:  # type: ignore[arg-type]
            while tls.recv(65536):
                tls.sendall(answer)
                if not answer.startswith(b"HTTP"):
                    return

    return serve


def test_a_restarted_vcenter_is_not_noticed_by_the_user(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles
) -> None:
    """Kept connections are dead after a restart; the first request on each is repeated."""
    consoles = consoles_of(vsphere.vcenter_settings())
    consoles.connect(WEB_1)
    session = consoles._sites["vc1"].session
    for connection, _ in session._client._adapter.pool:
        connection.abort()
    vsphere.expire_sessions()
    assert consoles.connect(WEB_1)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("5.5", (5, 5)), ("6.0", (6, 0)), ("6.7", (6, 7)), ("7.0.3", (7, 0, 3)), ("8.0.2", (8, 0, 2))],
)
def test_speaks_the_version_that_both_sides_know(
    vsphere: SimulatedVSphere,
    consoles_of: MakeConsoles,
    offered: str,
    chosen: tuple[int, ...],
) -> None:
    vsphere.set_vcenter(api_version=offered)
    consoles = consoles_of(vsphere.vcenter_settings(backend="mks"))
    assert consoles.connect(WEB_1)
    assert consoles._sites["vc1"].session.about.api_version[: len(chosen)] == chosen


def test_a_server_without_a_list_of_versions_is_believed_its_release(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mksfilter.backends.vsphere.versions.published", lambda _document: [])
    vsphere.set_vcenter(api_version="7.0.3.1")
    endpoint = consoles_of(vsphere.vcenter_settings()).connect(WEB_1)
    assert {digest.algorithm for digest in endpoint.digests} == {"sha1", "sha256"}


def test_many_are_served_within_the_bound(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles
) -> None:
    consoles = consoles_of(vsphere.vcenter_settings(pool_size=3))
    together = threading.Barrier(24)

    def open_one(number: int) -> str:
        together.wait(10)
        return consoles.connect([WEB_1, DB_1, OTHER_1][number % 3], user_id=str(number)).resource

    vsphere.set_vcenter(delay=0.01)
    with ThreadPoolExecutor(24) as threads:
        assert len(set(threads.map(open_one, range(24)))) == 24
    assert vsphere.calls()["max_in_flight"] == 3


def test_neither_password_nor_ticket_is_logged(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles, caplog: pytest.LogCaptureFixture
) -> None:
    """CVE-2015-9543 (OSSA-2020-001)"""
    caplog.set_level("DEBUG")
    consoles = consoles_of(vsphere.vcenter_settings())
    endpoint = consoles.connect(WEB_1)
    vsphere.expire_sessions()
    consoles.connect(WEB_1)
    with pytest.raises(VCenterLoginRefused) as refusal:
        consoles_of(vsphere.vcenter_settings(password="wr0ng-s3cret")).connect(WEB_1)
    told = f"{caplog.text} {refusal.value} {endpoint!r} {consoles.state()}"
    assert "event=vcenter-login vcenter=vc1" in told
    for secret in (endpoint.resource.rpartition("/")[2], vsphere.vcenter["password"], "wr0ng"):
        assert secret not in told


def test_a_vcenter_that_came_back_as_another_version_is_spoken_to_in_that(
    vsphere: SimulatedVSphere, consoles_of: MakeConsoles
) -> None:
    vsphere.set_vcenter(api_version="8.0.3.0")
    consoles = consoles_of(vsphere.vcenter_settings())
    consoles.connect(WEB_1)
    vsphere.set_vcenter(api_version="7.0")
    vsphere.expire_sessions()
    assert consoles.connect(WEB_1)
    assert consoles.state()[0].api_version == "7.0.0.0"
