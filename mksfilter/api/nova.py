"""Inside nova-api: Nova's own console controller with our mks handler in it.

Versions, schemas, instance look-up, policy, states, faults and headers are Nova's own code, so
that they cannot drift from Nova's. What is ours is the place of the call to nova-compute: the URL
is minted here, for instances on vSphere. This is the one module that imports Nova;
``docs/nova.md`` lists what it uses.

Compute API: https://docs.openstack.org/api-ref/compute/#server-consoles-servers-remote-consoles
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
from collections.abc import Callable, Collection, Mapping
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
from mksfilter.api import bodies
from mksfilter.api.nodes import VSphereNodes, vcenter_of
from mksfilter.api.refusal import record_refusal, refusal
from mksfilter.audit.trail import Trail
from mksfilter.exceptions import ConfigurationError, MksFilterError
from mksfilter.log import event
from mksfilter.request import ConsoleRequest

__all__ = ["KNOWN_RELEASES", "console_app", "load_settings"]

LOG = logging.getLogger(__name__)

KNOWN_RELEASES = (28, 29, 30, 31, 32, 33, 34)

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


class ConsoleIssuer(Protocol):
    """What of :class:`mksfilter.issuer.Issuer` is used here."""

    audit: Trail

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


def console_app(issuer: ConsoleIssuer, settings: config.FilterSettings) -> Application:
    """A WSGI application that answers console requests as Nova's API does.

    It expects an environ that has been through Nova's ``authtoken`` and ``keystonecontext``.

    :param settings: of them ``view_role_policy`` (the rule is registered with Nova's enforcer,
        default nobody, unless Nova or its policy file already has one of that name),
        ``vsphere_hosts`` and ``also_answer``.
    :raises ConfigurationError: this Nova has no mks console to take the place of.
    """
    _say_if_unknown(version.version_string())
    _register(settings.view_role_policy)
    protocols = ("mks", "vnc") if "novnc" in settings.also_answer else ("mks",)
    consoles = _Consoles(issuer, VSphereNodes(settings.vsphere_hosts))
    resource = _Resource(
        _Controller(consoles, protocols), settings.view_role_policy, protocols, issuer.audit
    )
    mapper = ProjectMapper()
    for path, action in (
        ("/servers/{server_id}/remote-consoles", "create"),
        ("/servers/{server_id}/console", "create_console"),
        ("/servers/{id}/action", "action"),
    ):
        mapper.create_route(path, "POST", resource, action)
    return _guarded(base_wsgi.Router(mapper), protocols)


def _guarded(router: Application, protocols: Collection[str]) -> Application:
    """*router*, for requests of a known caller, with a length for chunked bodies of ours."""

    def app(environ: Any, start_response: Any) -> Any:
        if "nova.context" not in environ:
            LOG.error(
                event(
                    "identity-missing",
                    detail="the request has no nova.context: keystonecontext has not seen it",
                    remedy="write mksfilter after keystonecontext in api-paste.ini",
                )
            )
            return wsgi.Fault(webob.exc.HTTPUnauthorized())(environ, start_response)
        # Nova takes a body without a length for an empty one.
        if not environ.get("CONTENT_LENGTH"):
            try:
                body = bodies.read(environ, bodies.MAX_BODY)
                document = bodies.load(body)
            except bodies.LengthUnknown:
                fault = wsgi.Fault(webob.exc.HTTPLengthRequired())
                return fault(environ, start_response)
            except (bodies.BodyTooLong, ValueError):
                return router(environ, start_response)
            if _protocol(document) in protocols:
                bodies.settle(environ, body)
        return router(environ, start_response)

    return app


def _protocol(document: Any) -> str:
    """Of the console that *document* asks for, in any form; "" when that cannot be told."""
    for form in ("remote-consoles", "console", "action"):
        wanted = bodies.wanted(form, document)
        if wanted is not None:
            return wanted.protocol
    return ""


class _Minting:
    """Stands for ``compute.API`` where its methods would call nova-compute.

    Nova's own methods run on it, so that the states they refuse are Nova's own too.
    """

    def __init__(self, issuer: ConsoleIssuer) -> None:
        self._issuer = issuer
        self.compute_rpcapi = self

    def get_mks_console(self, context: Any, *, instance: Any, console_type: str) -> dict[str, str]:
        """What nova-compute would answer to the RPC of this name."""
        if console_type != "webmks":
            raise exception.ConsoleTypeInvalid(console_type=console_type)
        return self._mint(context, instance)

    def get_vnc_console(self, context: Any, *, instance: Any, console_type: str) -> dict[str, str]:
        """What nova-compute would answer to the RPC of this name."""
        del console_type  # the one that _Consoles lets through
        return self._mint(context, instance)

    def _mint(self, context: Any, instance: Any) -> dict[str, str]:
        request = ConsoleRequest(
            instance_id=instance.uuid,
            project_id=instance.project_id or "",
            user_id=context.user_id or "",
            request_id=context.request_id or "",
            mode=context.console_mode,
            vcenter=vcenter_of(instance.node),
            client=context.remote_address or "",
        )
        return {"access_url": self._issuer.console_url(request)}


class _Consoles(compute.API):
    """Nova's, with a URL of ours for the consoles of instances on vSphere."""

    def __init__(self, issuer: ConsoleIssuer, nodes: VSphereNodes) -> None:
        super().__init__()
        self._minting = _Minting(issuer)
        self._nodes = nodes

    def get_mks_console(self, context: Any, instance: Any, console_type: str) -> dict[str, str]:
        """Nova's method of this name."""
        return self._console("get_mks_console", context, instance, console_type)

    def get_vnc_console(self, context: Any, instance: Any, console_type: str) -> dict[str, str]:
        """Nova's method of this name."""
        return self._console("get_vnc_console", context, instance, console_type)

    def _console(
        self, method: str, context: Any, instance: Any, console_type: str
    ) -> dict[str, str]:
        native = getattr(compute.API, method)
        mode = getattr(context, "console_mode", None)
        if mode is None:
            # A Nova that asks its policy in another way: refused, rather than guessed.
            LOG.error(event("policy-not-asked", instance=instance.uuid, policy=FULL_CONSOLE))
            raise exception.PolicyNotAuthorized(action=FULL_CONSOLE)
        # xvpvnc is nobody's any more, and Nova's to refuse.
        is_ours = console_type == "novnc" or method == "get_mks_console"
        if not is_ours or not self._nodes.has(instance.node, instance.host):
            if mode != "full":
                raise exception.PolicyNotAuthorized(action=FULL_CONSOLE)
            answer: dict[str, str] = native(self, context, instance, console_type)
            return answer
        context.is_ours = True
        try:
            answer = native(self._minting, context, instance, console_type)
        except exception.InstanceInvalidState as exc:
            # Nova forgets this one in remote-consoles and answers 500.
            common.raise_http_conflict_for_instance_invalid_state(exc, method, instance.uuid)
            raise
        except MksFilterError as exc:
            status, words = refusal(exc, instance=instance.uuid, request=context.request_id or "")
            faults = {404: webob.exc.HTTPNotFound, 409: webob.exc.HTTPConflict}
            context.refused_by = exc
            raise faults.get(status, _Unavailable)(explanation=words) from None
        return answer


class _Unavailable(webob.exc.HTTPConflict):
    """A 503 on its way through Nova's ``expected_errors``, which would make it a 500."""


class _Controller(remote_consoles.RemoteConsolesController):
    """Nova's, with our answers for *protocols*; those of others are as ever."""

    def __init__(self, consoles: _Consoles, protocols: Collection[str]) -> None:
        super().__init__()
        if "mks" not in self.handlers:
            raise ConfigurationError(
                f"nova {version.version_string()} has no mks console to take the place of; "
                f"take the filter out of its pipelines, or run a Nova that docs/nova.md names"
            )
        # Nova's own get_vnc_console, the action of old clients, calls this one. Actions get here
        # only where they ask for one of *protocols*.
        self.compute_api = consoles
        for protocol in protocols:
            self.handlers[protocol] = getattr(consoles, f"get_{protocol}_console")

    @wsgi.expected_errors((400, 404, 409, 501))
    @validation.schema(_CONSOLE)
    def create_console(self, req: Any, server_id: str, body: Any) -> dict[str, Any]:
        """``POST /servers/{server_id}/console``."""
        console = self._console(req, server_id, body)
        return {"protocol": console["protocol"], "url": console["url"]}

    @wsgi.expected_errors((400, 404, 409, 501))
    @wsgi.action(bodies.MKS_ACTION)
    @validation.schema(_ACTION)
    def get_mks_console(self, req: Any, id: str, body: Any) -> dict[str, Any]:
        """``POST /servers/{id}/action`` with ``os-getMKSConsole``."""
        console = self._console(req, id, {"protocol": "mks", **body[bodies.MKS_ACTION]})
        return {"console": {"type": console["type"], "url": console["url"]}}

    def _console(self, req: Any, server_id: str, wanted: dict[str, str]) -> dict[str, str]:
        answer = _create(self, req, server_id, {"remote_console": wanted})
        console: dict[str, str] = answer["remote_console"]
        return console


class _Resource(wsgi.Resource):
    """Nova's, whose controller asks our policy rule too where a console of ours is wanted."""

    def __init__(
        self,
        controller: _Controller,
        view_rule: str,
        protocols: Collection[str],
        audit: Trail,
    ) -> None:
        super().__init__(controller)
        self._audit = audit
        self._view_rule = view_rule
        self._protocols = protocols

    def dispatch(self, method: Any, request: Any, action_args: Any) -> Any:
        """Call *method* of the controller."""
        if _protocol(action_args.get("body")) not in self._protocols:
            return super().dispatch(method, request, action_args)
        context = request.environ["nova.context"]
        viewer = request.environ["nova.context"] = _viewing(context, self._view_rule)
        try:
            return super().dispatch(method, request, action_args)
        except _Unavailable as exc:
            self._record(viewer, action_args, 503)
            raise webob.exc.HTTPServiceUnavailable(explanation=exc.explanation) from None
        except Exception as exc:
            self._record(viewer, action_args, _status_of(exc))
            raise
        finally:
            request.environ["nova.context"] = context

    def _record(self, viewer: Any, action_args: Any, status: int) -> None:
        """Tell the audit trail of a refusal.

        Of a request for another console than mks only where its instance is known to be ours.
        """
        if viewer.is_ours or _protocol(action_args.get("body")) == "mks":
            record_refusal(
                self._audit,
                status,
                viewer.refused_by,
                user=viewer.user_id or "",
                project=viewer.project_id or "",
                instance=str(action_args.get("server_id") or action_args.get("id") or ""),
                client=viewer.remote_address or "",
                request=viewer.request_id or "",
            )


def _status_of(exc: Exception) -> int:
    """What Nova answers when a controller raises *exc*."""
    if isinstance(exc, wsgi.Fault):
        exc = exc.wrapped_exc
    for name in ("status_int", "code"):
        status = getattr(exc, name, None)
        if isinstance(status, int) and 400 <= status < 600:
            return status
    return 500


def _viewing(context: Any, view_rule: str) -> Any:
    """A copy of *context* that may have a view-only console where it may not have a full one.

    The question is asked in the one place where Nova asks its own, so that a refused caller
    costs no second look-up and hears Nova's words. Until it is asked, ``console_mode`` is None.
    """
    viewer = copy.copy(context)
    viewer.console_mode = None
    viewer.is_ours = False
    viewer.refused_by = None

    def can(action: str, target: Any = None, fatal: bool = True) -> Any:
        try:
            allowed = context.can(action, target, fatal)
        except exception.PolicyNotAuthorized:
            if action != FULL_CONSOLE or not context.can(view_rule, target, fatal=False):
                raise
            viewer.console_mode = "view"
            return True
        if action == FULL_CONSOLE and allowed:
            viewer.console_mode = "full"
        return allowed

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
