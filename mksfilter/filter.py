"""The Paste filter: picks the console requests out of an API's traffic.

``paste.filter_factory = mksfilter.filter:filter_factory``, after authentication and right before
the API. Inside nova-api Nova's own code answers them (:mod:`mksfilter.api.nova`), in any other
process :mod:`mksfilter.api.plain` does. Every other request passes through unread.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Collection, Iterable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from oslo_config import cfg

from mksfilter import config, extras, runtime_directory
from mksfilter.api import bodies
from mksfilter.audit.places import make_trail
from mksfilter.audit.trail import Trail
from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.exceptions import ConfigurationError, KeyRepositoryError
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
        make = _nova_consoles if _is_nova(api, app) else _plain_consoles
        consoles, settings = make(app, local_conf, config_file.split())
        return ConsoleFilter(app, consoles, also_answer=settings.also_answer)

    return factory


class ConsoleFilter:
    """WSGI middleware in front of an API."""

    def __init__(
        self, app: Application, consoles: Application, *, also_answer: Collection[str] = ()
    ) -> None:
        """
        :param consoles: is called for console requests, *app* for all others.
        :param also_answer: console types beside webmks; of them only ``novnc`` has an action.
        """
        self._app = app
        self._consoles = consoles
        self._actions = _actions(also_answer)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer, or pass on."""
        # These two tests are all that most requests of a busy API ever see of us.
        if (
            environ["REQUEST_METHOD"] == "POST"
            and environ["PATH_INFO"].endswith(_ENDINGS)
            and is_console_request(environ, self._actions)
        ):
            return self._consoles(environ, start_response)
        return self._app(environ, start_response)


def is_console_request(environ: Environ, actions: Collection[str] = (bodies.MKS_ACTION,)) -> bool:
    """Whether *environ* may ask for a console.

    Only the body of a small ``/action`` is looked at, and put back.

    :param actions: those that ask for one.
    """
    path = environ.get("PATH_INFO", "")
    if environ.get("REQUEST_METHOD") != "POST" or not _PATH.search(path):
        return False
    if not path.endswith("/action"):
        return True
    try:
        body = bodies.read(environ, MAX_PEEK)
        if not any(action.encode() in body for action in actions):
            return False
        document = bodies.load(body)
    except (bodies.BodyTooLong, bodies.LengthUnknown, ValueError):
        return False
    if not isinstance(document, dict) or not any(action in document for action in actions):
        return False
    if not environ.get("CONTENT_LENGTH"):
        bodies.settle(environ, body)
    return True


def _actions(also_answer: Collection[str]) -> tuple[str, ...]:
    vnc = (bodies.VNC_ACTION,) if "novnc" in also_answer else ()
    return (bodies.MKS_ACTION, *vnc)


def _is_nova(api: str, app: Application) -> bool:
    """Whether Nova's own code answers.

    What wraps Nova's application need not show it (keystonemiddleware's audit does not, and no
    closure does), so that the process is asked rather than *app*: where Nova's API is loaded,
    Nova's policy counts.
    """
    loaded = "nova.api.openstack" in sys.modules
    if api == "plain" and loaded:
        LOG.warning(
            event(
                "nova-not-used",
                detail="api = plain inside nova-api: Nova's policy.yaml does not count",
                remedy="api = auto",
            )
        )
    if api != "nova" and (api == "plain" or not loaded):
        return False
    if not type(app).__module__.startswith("nova."):
        LOG.warning(
            event(
                "filter-not-last",
                next=f"{type(app).__module__}.{type(app).__qualname__}",
                detail="console requests do not pass what stands between the filter and Nova",
                remedy="write mksfilter as the last word before osapi_compute_app_v21",
            )
        )
    return True


def _nova_consoles(
    _app: Application, local_conf: MutableMapping[str, str], _files: Sequence[str]
) -> tuple[Application, config.FilterSettings]:
    try:
        from mksfilter.api import nova
    except ImportError as exc:
        raise ConfigurationError(
            f"Nova's API cannot be used here ({exc}): install mksfilter where nova-api is, a "
            f"release that docs/nova.md names; without Nova write api = plain"
        ) from exc
    settings = nova.load_settings(local_conf)
    # Nova's configuration is oslo.config's own object.
    audit = make_trail(config.audit_settings(cfg.CONF, local_conf), "api")
    issuer = _issuer(settings, cfg.CONF, local_conf, audit, api="nova")
    return nova.console_app(issuer, settings), settings


def _plain_consoles(
    app: Application, local_conf: MutableMapping[str, str], files: Sequence[str]
) -> tuple[Application, config.FilterSettings]:
    from mksfilter.api.plain import PlainConsoles
    from mksfilter.api.policy import ConsolePolicy

    conf = config.load(files)
    settings = config.filter_settings(conf, local_conf)
    policy = ConsolePolicy(settings.policy_file, view_rule=settings.view_role_policy)
    audit = make_trail(config.audit_settings(conf, local_conf), "api")
    issuer = _issuer(settings, conf, local_conf, audit, api="plain")
    return PlainConsoles(app, issuer, policy, settings), settings


def _issuer(
    settings: config.FilterSettings,
    conf: Any,
    local_conf: MutableMapping[str, str],
    audit: Trail,
    *,
    api: str,
) -> Issuer:
    keys = KeyRepository(settings.key_repository)
    try:
        keys.load()
    except KeyRepositoryError as exc:
        if not settings.start_without_keys:
            raise
        LOG.error(
            event(
                "keys-unusable",
                detail=exc,
                remedy="console requests are answered 503 until then (start_without_keys)",
            )
        )
    codec = TokenCodec(keys, settings.audience, clock_skew=settings.clock_skew)
    consoles = None
    if settings.ticket_at == "issue":
        vcenters = config.vcenter_settings(conf, local_conf)
        if vcenters:
            consoles = _ConsolesAtFirstUse(
                vcenters,
                settings.allowed_networks,
                runtime_directory.find(settings.runtime_directory),
            )
    LOG.info(
        event(
            "filter-ready",
            api=api,
            audience=settings.audience,
            ticket_at=settings.ticket_at,
            token_ttl=settings.token_ttl,
        )
    )
    return Issuer(codec, settings, consoles=consoles, audit=audit)


def _leave(consoles: Consoles, pid: int) -> None:
    """Log out; a child of the process that has logged in does not."""
    if os.getpid() == pid:
        consoles.leave()


class _ConsolesAtFirstUse:
    """Made twice: to find what is wrong at the start, and for use after the server has forked."""

    def __init__(
        self,
        vcenters: Sequence[config.VCenterSettings],
        allowed_networks: Sequence[str],
        directory: str,
    ) -> None:
        self._vcenters = vcenters
        self._directory = directory
        self._allowed_networks = allowed_networks
        self._lock = threading.Lock()
        self._consoles: ConsoleSource | None = None
        self._make().close()

    def connect(
        self, instance_id: str, *, vcenter: str | None = None, user_id: str = ""
    ) -> SealableEndpoint:
        with self._lock:
            if self._consoles is None:
                made = self._consoles = self._make()
                # vCenter bounds the sessions of an account, and servers replace their workers.
                atexit.register(_leave, made, os.getpid())
        return self._consoles.connect(instance_id, vcenter=vcenter, user_id=user_id)

    def _make(self) -> Consoles:
        # pyVmomi comes with it: only where the filter takes tickets.
        with extras.needed("ticket_at = issue"):
            from mksfilter.backends.resolver import Consoles

        return Consoles(
            self._vcenters,
            allowed_networks=self._allowed_networks,
            runtime_directory=self._directory,
        )
