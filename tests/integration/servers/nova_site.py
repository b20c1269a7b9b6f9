"""Nova's own API as a site: the WSGI application that nova-api is."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.integration.nova import servers
from tests.integration.nova import stack as stacks

from .site import AUDIENCE, Site

__all__ = ["NovaSite"]

SECTION = """\
[filter:mksfilter]
use = egg:mksfilter#mksfilter
webmks_proxy_base_url = https://console.example.com/
"""

OPTIONS = """\
[mksfilter]
key_repository = {keys}
audience = {audience}
vsphere_hosts = *
"""


class NovaSite(Site):
    """The pipeline of *stack*'s Nova, with the filter in it."""

    instance = servers.ACTIVE

    def __init__(self, stack: stacks.Stack, environment: Path, user: str | None) -> None:
        super().__init__(stack.state, environment, user)
        self._stack = stack
        self.member, self.reader = stack.token("member"), stack.token("reader")

    def write_application(self) -> None:
        options = OPTIONS.format(keys=self.keys, audience=AUDIENCE)
        paste = stacks.with_filter(self._stack.stock_paste(), SECTION)
        directory = self._stack.nova_configuration(paste, "served", options)
        self.environ["OS_NOVA_CONFIG_DIR"] = str(directory)
        self.environ["PYTHONWARNINGS"] = "ignore"
        (self.directory / "application.py").write_text(
            "from nova.wsgi.osapi_compute import application\n"
        )

    def give_away(self) -> None:
        """Keystone stays ours, its keys too."""
        super().give_away()
        if self.user:
            for path in (
                self.directory / "fernet-keys",
                *(self.directory / "fernet-keys").iterdir(),
                *self.directory.glob("keystone*"),
            ):
                shutil.chown(path, "root", "root")
