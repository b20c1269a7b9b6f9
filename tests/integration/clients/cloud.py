"""A whole cloud for clients: Keystone, Nova with the filter in its pipeline, and the proxy."""

from __future__ import annotations

from pathlib import Path

import requests

from mksfilter.simulator.viewer import Viewer
from tests.integration.nova import servers
from tests.integration.nova.stack import Service, Stack, with_filter
from tests.support.proxy import RunningProxy

__all__ = ["Cloud"]

SECTION = """\
[filter:mksfilter]
use = egg:mksfilter#mksfilter
webmks_proxy_base_url = {base_url}
"""

OPTIONS = """\
[mksfilter]
key_repository = {keys}
audience = clients
also_answer = {also_answer}
"""


class Cloud:
    """One nova-api that answers novnc too, which the catalogue names.

    :ivar api: that nova-api.
    :ivar vm: UUID of a server on a vSphere node.
    """

    vm = servers.WEB

    def __init__(self, stack: Stack, keys: Path, proxy: RunningProxy) -> None:
        self.stack = stack
        self.proxy = proxy
        paste = with_filter(stack.stock_paste(), SECTION.format(base_url=proxy.base_url))
        self.api: Service = stack.nova_api(
            paste, options=OPTIONS.format(keys=keys, also_answer="novnc")
        )

    def is_console(self, url: str) -> bool:
        """Whether the link's page is ours, and its WebSocket shows the server's screen."""
        assert url.startswith(self.proxy.base_url), "the link leads elsewhere"
        page = requests.get(url, timeout=30)
        assert page.status_code == 200
        assert "noVNC" in page.text
        with Viewer.open_page(url) as viewer:
            assert viewer.name == "web-1"
            colours = viewer.framebuffer().getcolors(1 << 24)
        return colours is not None and len(colours) > 1
