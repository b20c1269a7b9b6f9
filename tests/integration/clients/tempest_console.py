"""Run in Tempest's environment: look at a console link with Tempest's own code.

    python tempest_console.py LINK

Prints ``ok`` when the page, the upgrade and RFB's handshake are as Tempest's console tests want
them; otherwise its assertion is the error.
"""

from __future__ import annotations

import sys

from tempest.common import compute


class Console(compute.NoVNCValidateMixin):
    """The steps of ``tempest.api.compute.servers.test_novnc``, in their order."""

    def runTest(self) -> None:
        link = sys.argv[1]
        self.validate_novnc_html(link)
        self.websocket = compute.create_websocket(link)
        self.addCleanup(self.websocket.close)
        self.validate_websocket_upgrade()
        self.validate_rfb_negotiation()


Console().debug()
print("ok")
