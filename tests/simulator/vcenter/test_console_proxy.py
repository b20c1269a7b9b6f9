"""The console proxies that vCenter had up to 6.0."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from websockets.exceptions import InvalidStatus

from mksfilter.simulator.client import OFF_1, WEB_1
from tests.simulator.viewing import Viewer

OLD = "/console/authd"
WEB_CLIENT = "/vsphere-client/webconsole/authd"


@pytest.fixture
def old(vsphere, client):
    """A vCenter 5.5: makes URLs for its console proxies."""
    vsphere.set_vcenter(api_version="5.5")
    service = client.login(version="vim.version.version9")

    def url(port="wss", path=OLD, uuid=WEB_1, **changes):
        ready = vsphere.vcenter
        vm = vsphere.vm(uuid)
        query = {
            "vmId": vm["moid"],
            "vmName": vm["name"],
            "host": f"{ready['fqdn']}:443",
            "sessionTicket": service.content.sessionManager.AcquireCloneTicket(),
            "thumbprint": ready["digests"]["sha1"],
            **changes,
        }
        scheme = "ws" if port == "ws" else "wss"
        number = ready["console_ports"][port]
        return f"{scheme}://{ready['host']}:{number}{path}?{urlencode(query)}"

    return url


@pytest.mark.parametrize("port", ["ws", "wss"])
def test_display_stream_starts_at_server_init(old, client, port):
    console = client.dial(old(port))
    viewer = Viewer(lambda: console.recv(timeout=5), console.send)

    assert viewer.name == "web-1"


def test_web_client_form_needs_the_server_guid(old, client, vsphere):
    guid = vsphere.vcenter["instance_uuid"]
    console = client.dial(old("web_client", WEB_CLIENT, serverGuid=guid))
    assert Viewer(lambda: console.recv(timeout=5), console.send).name == "web-1"

    with pytest.raises(InvalidStatus, match="403"):
        client.dial(old("web_client", WEB_CLIENT, serverGuid="another"))


def test_clone_ticket_is_redeemed_once(old, client):
    url = old()
    client.dial(url)
    with pytest.raises(InvalidStatus, match="403"):
        client.dial(url)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"vmId": "vm-999"}, 404),
        ({"vmName": "another"}, 404),
        ({"thumbprint": "00:11"}, 403),
        ({"host": "elsewhere.example:443"}, 403),
        ({"sessionTicket": "cst-VCT-0000"}, 403),
        ({"path": "/elsewhere"}, 404),
        ({"uuid": OFF_1}, 409),
    ],
)
def test_anything_wrong_is_refused(old, client, change, status):
    with pytest.raises(InvalidStatus, match=str(status)):
        client.dial(old(**change))


def test_gone_since_6_5(old, client, vsphere):
    url = old()
    vsphere.set_vcenter(api_version="6.5")
    with pytest.raises(InvalidStatus, match="404"):
        client.dial(url)


def test_full_handshake_when_told_so(old, client, vsphere):
    vsphere.set_vcenter(handshake="full")
    assert client.dial(old()).recv(timeout=5) == b"RFB 003.008\n"
