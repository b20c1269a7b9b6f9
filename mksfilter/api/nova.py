"""Inside nova-api: Nova's own console controller with our mks handler in it.

Versions, schemas, instance look-up, policy, states, faults and headers are Nova's own code, so
that they cannot drift from Nova's. What is ours is the place of the call to nova-compute: the URL
is minted here. This is the one module that imports Nova; ``docs/nova.md`` lists what it uses.

Compute API: https://docs.openstack.org/api-ref/compute/#server-consoles-servers-remote-consoles
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import webob.exc
from nova import conf as nova_conf
from nova import exception, policy, version
from nova.api import validation
from nova.api import wsgi as base_wsgi
from nova.api.openstack import ProjectMapper, common, wsgi
from nova.api.openstack.compute import remote_consoles
from nova.compute import api as compute
from nova.policies import remote_consoles as remote_consoles_policies

from mksfilter import config, policies
from mksfilter.exceptions import BackendError, ConfigurationError
from mksfilter.log import event
from mksfilter.request import ConsoleRequest

__all__ = ["KNOWN_RELEASES", "console_app", "load_settings", "vcenter_of"]

LOG = logging.getLogger(__name__)

KNOWN_RELEASES = (31, 32, 33, 34)

Application = Callable[..., Any]

FULL_CONSOLE = remote_consoles_policies.BASE_POLICY_NAME

# What comes before Nova's own microversion 2.6: a console asked for by an action.
_ACTION = {
    "type": "object",
    "properties": {
        "os-getMKSConsole": {
            "type": "object",
            "properties": {"type": {"type": "string", "enum": ["webmks"]}},
            "required": ["type"],
            "additionalProperties": False,
        }
    },
    "required": ["os-getMKSConsole"],
    "additionalProperties": False,
}

_CONSOLE = {
    "type": "object",
    "properties": {
        "protocol": {"type": "string", "enum": ["mks"]},
        "type": {"type": "string", "enum": ["webmks"]},
    },
    "required": ["protocol", "type"],
    "additionalProperties": False,
}

# Nova's create() without the checks of version and schema that its decorators add: for the
# two older forms of the request, which have a schema of their own and no microversion.
_create = inspect.unwrap(remote_consoles.RemoteConsolesController.create)

# The VMware driver names its node <cluster moid>.<vCenter about.instanceUuid>.
_VMWARE_NODE = re.compile(r"[^.]+\.([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})")


class ConsoleIssuer(Protocol):
    """What of :class:`mksfilter.issuer.Issuer` is used here."""

    def console_url(self, request: ConsoleRequest) -> str:
        """The URL of a console page, with a token for this instance and this caller."""


def load_settings(local_conf: Mapping[str, str] | None = None) -> config.FilterSettings:
    """The filter's settings from its paste section, then nova.conf's ``[mksfilter]``.

    :raises ConfigurationError: as :func:`mksfilter.config.filter_settings`.
    """
    conf = nova_conf.CONF
    config.register(conf)
    return config.filter_settings(
        conf, local_conf, fallback_base_url=conf.mks.mksproxy_base_url or ""
    )


def console_app(issuer: ConsoleIssuer, view_rule: str = policies.VIEW_CONSOLE) -> Application:
    """A WSGI application that answers console requests as Nova's API does.

    It expects an environ that has been through Nova's ``authtoken`` and ``keystonecontext``.

    :param view_rule: name of the policy rule for view-only consoles; registered with Nova's
        enforcer, default nobody, unless Nova or its policy file already has a rule of that name.
    :raises ConfigurationError: this Nova has no mks console to take the place of.
    """
    _say_if_unknown(version.version_string())
    _register(view_rule)
    resource = wsgi.Resource(_Controller(issuer, view_rule))
    mapper = ProjectMapper()
    for path, action in (
        ("/servers/{server_id}/remote-consoles", "create"),
        ("/servers/{server_id}/console", "create_console"),
        ("/servers/{id}/action", "action"),
    ):
        mapper.create_route(path, "POST", resource, action)
    router: Application = base_wsgi.Router(mapper)
    return router


def vcenter_of(node: str | None) -> str | None:
    """The UUID of the vCenter that *node* is in; None where it is not the VMware driver's name.

    >>> vcenter_of("domain-c26.9d51f082-58a4-4449-beed-6fd205a5726b")
    '9d51f082-58a4-4449-beed-6fd205a5726b'
    """
    match = _VMWARE_NODE.fullmatch(node or "")
    return match.group(1).lower() if match else None


class _ComputeAPI:
    """Stands for ``compute.API`` where ``get_mks_console`` would call nova-compute.

    Nova's own method runs on it, so that the states it refuses are Nova's own too.
    """

    def __init__(self, issuer: ConsoleIssuer) -> None:
        self._issuer = issuer
        self.compute_rpcapi = self

    def get_mks_console(self, context: Any, *, instance: Any, console_type: str) -> dict[str, str]:
        """What nova-compute would answer to the RPC of this name."""
        if console_type != "webmks":
            raise exception.ConsoleTypeInvalid(console_type=console_type)
        url = self._issuer.console_url(
            ConsoleRequest(
                instance_id=instance.uuid,
                project_id=instance.project_id or "",
                user_id=context.user_id or "",
                request_id=context.request_id or "",
                mode=getattr(context, "console_mode", "full"),
                vcenter=vcenter_of(instance.node),
            )
        )
        return {"access_url": url}


class _Controller(remote_consoles.RemoteConsolesController):
    """Nova's, with another function for ``mks``; vnc, spice and serial are as ever."""

    def __init__(self, issuer: ConsoleIssuer, view_rule: str) -> None:
        super().__init__()
        if "mks" not in self.handlers:
            raise ConfigurationError(
                f"nova {version.version_string()} has no mks console to take the place of; "
                f"take the filter out of its pipelines, or run a Nova that docs/nova.md names"
            )
        self._compute = _ComputeAPI(issuer)
        self._view_rule = view_rule
        self.handlers["mks"] = self._get_mks_console

    def _get_mks_console(self, context: Any, instance: Any, console_type: str) -> dict[str, str]:
        try:
            answer: dict[str, str] = compute.API.get_mks_console(
                self._compute, context, instance, console_type
            )
        except exception.InstanceInvalidState as exc:
            # Nova forgets this one for consoles other than VNC and answers 500.
            common.raise_http_conflict_for_instance_invalid_state(
                exc, "get_mks_console", instance.uuid
            )
            raise
        except BackendError as exc:
            # A ticket taken at issue: what Nova has a fault for is that fault, the rest is 500.
            LOG.warning(
                event("console-refused", instance=instance.uuid, reason=exc.reason, detail=exc)
            )
            if exc.status == 404:
                raise webob.exc.HTTPNotFound(explanation=exc.public) from exc
            if exc.status == 409:
                raise webob.exc.HTTPConflict(explanation=exc.public) from exc
            raise
        return answer

    def create(self, req: Any, server_id: str, body: Any) -> dict[str, Any]:
        """``POST /servers/{server_id}/remote-consoles``."""
        if not _asks_for_mks(body):
            console: dict[str, Any] = super().create(req=req, server_id=server_id, body=body)
            return console
        context = req.environ["nova.context"]
        req.environ["nova.context"] = _viewing(context, self._view_rule)
        try:
            console = super().create(req=req, server_id=server_id, body=body)
        finally:
            req.environ["nova.context"] = context
        return console

    @wsgi.expected_errors((400, 404, 409, 501))
    @validation.schema(_CONSOLE)
    def create_console(self, req: Any, server_id: str, body: Any) -> dict[str, Any]:
        """``POST /servers/{server_id}/console``."""
        console = self._console(req, server_id, body)
        return {"protocol": console["protocol"], "url": console["url"]}

    @wsgi.expected_errors((400, 404, 409, 501))
    @wsgi.action("os-getMKSConsole")
    @validation.schema(_ACTION)
    def get_mks_console(self, req: Any, id: str, body: Any) -> dict[str, Any]:
        """``POST /servers/{id}/action`` with ``os-getMKSConsole``."""
        console = self._console(req, id, {"protocol": "mks", **body["os-getMKSConsole"]})
        return {"console": {"type": console["type"], "url": console["url"]}}

    def _console(self, req: Any, server_id: str, wanted: dict[str, str]) -> dict[str, str]:
        context = req.environ["nova.context"]
        req.environ["nova.context"] = _viewing(context, self._view_rule)
        try:
            answer = _create(self, req, server_id, {"remote_console": wanted})
        finally:
            req.environ["nova.context"] = context
        console: dict[str, str] = answer["remote_console"]
        return console


def _asks_for_mks(body: Any) -> bool:
    console = body.get("remote_console") if isinstance(body, dict) else None
    return isinstance(console, dict) and console.get("protocol") == "mks"


def _viewing(context: Any, view_rule: str) -> Any:
    """A copy of *context* that may have a view-only console where it may not have a full one.

    The question is asked in the one place where Nova asks its own, so that a refused caller
    costs no second look-up and hears Nova's words.
    """
    viewer = copy.copy(context)

    def can(action: str, target: Any = None, fatal: bool = True) -> Any:
        try:
            return context.can(action, target, fatal)
        except exception.PolicyNotAuthorized:
            if action != FULL_CONSOLE or not context.can(view_rule, target, fatal=False):
                raise
            viewer.console_mode = "view"
            return True

    viewer.can = can
    return viewer


def _register(view_rule: str) -> None:
    # The factory runs once per pipeline; and an operator may name a rule that Nova has.
    policy.init()
    enforcer = policy._ENFORCER
    if view_rule not in enforcer.registered_rules:
        enforcer.register_default(policies.view_rule(view_rule))
        enforcer.load_rules(force_reload=True)


@functools.cache
def _say_if_unknown(release: str) -> None:
    """Once in a process: the factory runs once per pipeline."""
    major = release.partition(".")[0]
    if not major.isdigit() or int(major) not in KNOWN_RELEASES:
        LOG.warning(
            event(
                "nova-release-unknown",
                release=release,
                known=",".join(map(str, KNOWN_RELEASES)),
                remedy="mksfilter uses Nova's internals: run its integration tests against this "
                "release before you trust it with consoles",
            )
        )
