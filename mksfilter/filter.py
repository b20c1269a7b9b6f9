"""The Paste filter: picks the console requests out of an API's traffic.

``paste.filter_factory = mksfilter.filter:filter_factory``, after authentication and right before
the API. Inside nova-api Nova's own code answers them (:mod:`mksfilter.api.nova`), in any other
pipeline :mod:`mksfilter.api.plain` does. Every other request passes through unread.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from oslo_config import cfg

from mksfilter import config
from mksfilter.api import bodies
from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.exceptions import ConfigurationError
from mksfilter.issuer import ConsoleSource, Issuer, SealableEndpoint
from mksfilter.log import event

if TYPE_CHECKING:
    from mksfilter.backends.resolver import Consoles

__all__ = ["ConsoleFilter", "filter_factory", "is_console_request"]

LOG = logging.getLogger(__name__)

Application = Callable[..., Iterable[bytes]]
Environ = MutableMapping[str, Any]

#: Bytes of a ``/servers/{id}/action`` that are looked at. Ours have 45.
MAX_PEEK = 1024

_ENDINGS = ("/remote-consoles", "/console", "/action")
_PATH = re.compile(r"/servers/[^/]+/(?:remote-consoles|console|action)\Z")
_APIS = ("auto", "nova", "plain")


def filter_factory(
    global_conf: MutableMapping[str, str], **local_conf: str
) -> Callable[[Application], Application]:
    """Paste's filter factory.

    :param local_conf: any option of the filter; ``api`` (``auto``, ``nova``, ``plain``);
        ``config_file`` with the files to read in a pipeline without Nova, which *global_conf* may
        name too.
    """
    api = local_conf.pop("api", "auto")
    config_file = local_conf.pop("config_file", None) or global_conf.get("config_file", "")

    def factory(app: Application) -> Application:
        """:raises ConfigurationError: what is configured cannot work."""
        config.refuse_unknown(local_conf, config.FILTER, paste_file=global_conf.get("__file__", ""))
        if api not in _APIS:
            raise ConfigurationError(f"paste section: api = {api!r} is none of {', '.join(_APIS)}")
        in_nova = api == "nova" or (api == "auto" and _comes_from_nova(app))
        make = _nova_consoles if in_nova else _plain_consoles
        return ConsoleFilter(app, make(app, local_conf, config_file.split()))

    return factory


class ConsoleFilter:
    """WSGI middleware in front of an API."""

    def __init__(self, app: Application, consoles: Application) -> None:
        """:param consoles: is called for console requests, *app* for all others."""
        self._app = app
        self._consoles = consoles

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer, or pass on."""
        # These two tests are all that most requests of a busy API ever see of us.
        if (
            environ["REQUEST_METHOD"] == "POST"
            and environ["PATH_INFO"].endswith(_ENDINGS)
            and is_console_request(environ)
        ):
            return self._consoles(environ, start_response)
        return self._app(environ, start_response)


def is_console_request(environ: Environ) -> bool:
    """Whether *environ* may ask for a console.

    Only the body of a small ``/action`` is looked at, and put back.
    """
    path = environ.get("PATH_INFO", "")
    if environ.get("REQUEST_METHOD") != "POST" or not _PATH.search(path):
        return False
    if not path.endswith("/action"):
        return True
    body = bodies.read(environ, MAX_PEEK)
    if not body or bodies.ACTION.encode() not in body:
        return False
    try:
        document = bodies.load(body)
    except ValueError:
        return False
    return isinstance(document, dict) and bodies.ACTION in document


def _comes_from_nova(app: Any) -> bool:
    """Whether *app*, or what further filters wrap, is Nova's API."""
    for _ in range(20):
        if app is None:
            return False
        if (getattr(app, "__module__", None) or "").startswith("nova."):
            return True
        app = getattr(app, "application", None) or getattr(app, "app", None)
    return False


def _nova_consoles(
    _app: Application, local_conf: MutableMapping[str, str], _files: Sequence[str]
) -> Application:
    try:
        from mksfilter.api import nova
    except ImportError as exc:
        raise ConfigurationError(
            f"api = nova, and Nova cannot be imported here ({exc}); install mksfilter where "
            f"nova-api is, or write api = plain"
        ) from exc
    settings = nova.load_settings(local_conf)
    # Nova's configuration is oslo.config's own object.
    return nova.console_app(_issuer(settings, cfg.CONF, local_conf), settings.view_role_policy)


def _plain_consoles(
    app: Application, local_conf: MutableMapping[str, str], files: Sequence[str]
) -> Application:
    from mksfilter.api.plain import PlainConsoles
    from mksfilter.api.policy import ConsolePolicy

    conf = config.load(files)
    settings = config.filter_settings(conf, local_conf)
    policy = ConsolePolicy(settings.policy_file, view_rule=settings.view_role_policy)
    return PlainConsoles(app, _issuer(settings, conf, local_conf), policy)


def _issuer(
    settings: config.FilterSettings, conf: Any, local_conf: MutableMapping[str, str]
) -> Issuer:
    keys = KeyRepository(settings.key_repository)
    keys.load()
    codec = TokenCodec(keys, settings.audience, clock_skew=settings.clock_skew)
    consoles = None
    if settings.ticket_at == "issue":
        vcenters = config.vcenter_settings(conf, local_conf)
        if vcenters:
            consoles = _ConsolesAtFirstUse(vcenters, settings.allowed_networks)
    LOG.info(
        event(
            "filter-ready",
            audience=settings.audience,
            ticket_at=settings.ticket_at,
            token_ttl=settings.token_ttl,
        )
    )
    return Issuer(codec, settings, consoles=consoles)


class _ConsolesAtFirstUse:
    """Made twice: to find what is wrong at the start, and for use after the server has forked."""

    def __init__(
        self, vcenters: Sequence[config.VCenterSettings], allowed_networks: Sequence[str]
    ) -> None:
        self._vcenters = vcenters
        self._allowed_networks = allowed_networks
        self._lock = threading.Lock()
        self._consoles: ConsoleSource | None = None
        self._make().close()

    def connect(
        self, instance_id: str, *, vcenter: str | None = None, user_id: str = ""
    ) -> SealableEndpoint:
        with self._lock:
            if self._consoles is None:
                self._consoles = self._make()
        return self._consoles.connect(instance_id, vcenter=vcenter, user_id=user_id)

    def _make(self) -> Consoles:
        # pyVmomi comes with it: only where the filter takes tickets.
        from mksfilter.backends.resolver import Consoles

        return Consoles(self._vcenters, allowed_networks=self._allowed_networks)
