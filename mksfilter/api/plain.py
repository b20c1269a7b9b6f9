"""Consoles in a pipeline without Nova: a gateway, a Nova-compatible API, the demo.

The wrapped application's own ``GET /servers/{id}``, asked with the caller's headers, decides
whether the caller sees the instance; oslo.policy decides whether they may have its console.
Answers, and the order of checks, are Nova's: identity, version, content type, JSON, project in
the URL, microversion, schema, instance, policy, state.

Compute API: https://docs.openstack.org/api-ref/compute/#server-consoles-servers-remote-consoles
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import webob

from mksfilter.api import bodies
from mksfilter.api.faults import DEFAULT, GENERIC, NOT_FOUND, Answer, Fault, Version
from mksfilter.api.nodes import VSphereNodes, vcenter_of
from mksfilter.api.policy import FULL_CONSOLE, ConsolePolicy
from mksfilter.api.refusal import record_refusal, refusal
from mksfilter.config import FilterSettings
from mksfilter.exceptions import MksFilterError
from mksfilter.issuer import Issuer
from mksfilter.log import event
from mksfilter.request import ConsoleRequest

__all__ = ["PlainConsoles"]

LOG = logging.getLogger(__name__)

Application = Callable[..., Iterable[bytes]]
Environ = dict[str, Any]

_PATH = re.compile(
    r"(?P<prefix>.*)/servers/(?P<server>[^/]+)/(?P<form>remote-consoles|console|action)"
)
_AFTER_VERSION = re.compile(r".*/v\d+(?:\.\d+)?(?:/(?P<project>[^/]+))?")
_VERSION_AT_END = re.compile(r".*/v\d+(?:\.\d+)?")
_PROJECT = re.compile(r"[0-9a-f-]+")
# Protocols that are not ours to answer, but for novnc where also_answer says so.
_FOREIGN = ("vnc", "spice", "serial", "rdp")
_NOVNC = bodies.Wanted("vnc", "novnc")
# compute.API.get_mks_console refuses these in Nova.
_REFUSED_TASKS = ("deleting", "migrating")
# keystonemiddleware's auth_token sets it where it has confirmed a token. A client's header cannot:
# those become HTTP_*.
_TOKEN_INFO = "keystone.token_info"  # noqa: S105


@dataclasses.dataclass(frozen=True)
class _Request:
    environ: Environ
    prefix: str
    server_id: str
    form: str
    version: Version
    headers_version: Version | None
    request_id: str
    wants_novnc: bool


class _Refused(Exception):
    """The wrapped application's own answer, to be given back as it is."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class _NotOurs(Exception):
    """The wrapped application has to answer: the instance is not on vSphere."""


class PlainConsoles:
    """A WSGI application for the requests that :func:`mksfilter.filter.is_console_request` picks.

    By default it believes only what keystonemiddleware's auth_token has confirmed.
    """

    def __init__(
        self, app: Application, issuer: Issuer, policy: ConsolePolicy, settings: FilterSettings
    ) -> None:
        """
        :param app: gets what is not ours, and is asked about instances.
        :param settings: of them ``identity``, ``vsphere_hosts`` and ``also_answer``.
        """
        self._app = app
        self._issuer = issuer
        self._policy = policy
        self._nodes = VSphereNodes(settings.vsphere_hosts)
        self._novnc = "novnc" in settings.also_answer
        self._trusts_headers = settings.identity == "trusted-headers"
        if self._trusts_headers:
            LOG.warning(
                event(
                    "identity-trusted",
                    option="identity = trusted-headers",
                    detail="whoever can send X-Roles to this API chooses their own role",
                )
            )

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer a console request, or let the wrapped application do it."""
        match = _PATH.fullmatch(environ.get("PATH_INFO", ""))
        if match is None:
            return self._app(environ, start_response)
        try:
            body: bytes | Fault = bodies.read(environ, bodies.MAX_BODY)
        except bodies.BodyTooLong:
            body = Fault(413, "Request is too large.")
        except bodies.LengthUnknown:
            body = Fault(411, "A request for a console needs a Content-Length.")
        wanted = _wanted(match["form"], body)
        wants_novnc = self._novnc and wanted == _NOVNC
        if wanted is not None and wanted.protocol in _FOREIGN and not wants_novnc:
            return self._app(environ, start_response)
        project = _project_in(environ, match["prefix"])
        own_project = environ.get("HTTP_X_PROJECT_ID") or ""
        if project not in ("", own_project) and not _PROJECT.fullmatch(project):
            return self._app(environ, start_response)  # no route there, in Nova either
        # A request id is set by oslo.middleware, which then puts it into the answer too.
        known_id = environ.get("openstack.request_id")
        request_id = known_id or f"req-{uuid.uuid4()}"
        try:
            answer = self._answer(environ, match, project, body, request_id, wants_novnc)
        except _NotOurs:
            return self._app(environ, start_response)
        headers = answer.headers
        if not known_id:
            headers = [
                *headers,
                ("x-openstack-request-id", request_id),
                ("x-compute-request-id", request_id),
            ]
        start_response(answer.status, headers)
        return [answer.body]

    def _answer(
        self,
        environ: Environ,
        match: re.Match[str],
        project: str,
        body: bytes | Fault,
        request_id: str,
        wants_novnc: bool,
    ) -> Answer:
        version: Version | None = None
        try:
            self._check_identity(environ)
            # Legacy v2 has no microversions: Nova has removed the headers by then.
            legacy = bool(environ.get("openstack.legacy_v2"))
            asked = DEFAULT if legacy else Version.asked_for(environ)
            version = None if legacy else asked
            if isinstance(body, Fault):
                raise body
            document = bodies.parse(environ, body)
            self._check_project(environ, project)
            request = _Request(
                environ,
                match["prefix"],
                match["server"],
                match["form"],
                asked,
                version,
                request_id,
                wants_novnc,
            )
            return self._console(request, document)
        except Fault as fault:
            LOG.info(
                event(
                    "console-refused",
                    instance=match["server"],
                    user=environ.get("HTTP_X_USER_ID"),
                    request=request_id,
                    status=fault.status,
                    detail=fault.message,
                )
            )
            self._record(environ, match["server"], request_id, fault.status, fault)
            return fault.answer(version)
        except _Refused as refused:
            status = int(refused.answer.status.split(" ", 1)[0])
            self._record(environ, match["server"], request_id, status)
            return refused.answer
        except _NotOurs:
            raise
        except MksFilterError as exc:
            status, words = refusal(exc, instance=match["server"], request=request_id)
            self._record(environ, match["server"], request_id, status, exc)
            return Fault(status, words).answer(version)
        except Exception:
            # Whatever it is, the API's other requests must not suffer, nor its users read it.
            LOG.exception(event("unexpected-error", request=request_id))
            self._record(environ, match["server"], request_id, 500)
            return Fault(500, GENERIC).answer(version)

    def _record(
        self,
        environ: Environ,
        server: str,
        request_id: str,
        status: int,
        cause: Exception | None = None,
    ) -> None:
        known = self._is_confirmed(environ)
        record_refusal(
            self._issuer.audit,
            status,
            cause,
            user=environ.get("HTTP_X_USER_ID", "") if known else "",
            project=environ.get("HTTP_X_PROJECT_ID", "") if known else "",
            instance=server,
            client=environ.get("REMOTE_ADDR", ""),
            request=request_id,
        )

    def _is_confirmed(self, environ: Environ) -> bool:
        return self._trusts_headers or isinstance(environ.get(_TOKEN_INFO), dict)

    def _check_identity(self, environ: Environ) -> None:
        if self._is_confirmed(environ):
            return
        LOG.error(
            event(
                "identity-missing",
                detail=f"the request has no {_TOKEN_INFO}: keystonemiddleware's auth_token has "
                f"not confirmed it",
                remedy="put the filter after authtoken, or see option identity",
            )
        )
        raise Fault(401, "The request you have made requires authentication.")

    def _check_project(self, environ: Environ, project: str) -> None:
        own = environ.get("HTTP_X_PROJECT_ID") or ""
        if project and project != own:
            raise Fault(
                400,
                f"Malformed request URL: URL's project_id '{project}' doesn't match "
                f"Context's project_id '{own}'",
            )

    def _console(self, request: _Request, document: Any) -> Answer:
        wanted = _check_form(request, document)
        server = self._server(request)
        node = server.get("OS-EXT-SRV-ATTR:hypervisor_hostname")
        host = server.get("OS-EXT-SRV-ATTR:host")
        # A caller who is not told the node has asked for mks by name, or may mean another console.
        known = self._nodes.has if request.wants_novnc else self._nodes.may_have
        if not known(node, host):
            raise _NotOurs
        instance_id = str(server["id"])
        project_id = server.get("tenant_id") or server.get("project_id")
        if not project_id:
            LOG.warning(
                event(
                    "project-unknown",
                    instance=instance_id,
                    detail="the API's answer names no tenant_id, so that policy cannot be asked",
                )
            )
            raise Fault(403, _NOT_ALLOWED)
        mode = self._policy.console_mode(request.environ, str(project_id))
        if mode is None:
            raise Fault(403, _NOT_ALLOWED)
        _check_state(server, instance_id, wanted.protocol)
        if not request.wants_novnc and wanted.kind != "webmks":
            raise Fault(400, f"Invalid console type {wanted.kind}")
        url = self._issuer.console_url(
            ConsoleRequest(
                instance_id=instance_id,
                project_id=str(project_id),
                user_id=request.environ.get("HTTP_X_USER_ID") or "",
                request_id=request.request_id,
                mode=mode,
                vcenter=vcenter_of(node),
                client=request.environ.get("REMOTE_ADDR") or "",
            )
        )
        return Answer.of(_document(request.form, wanted, url), request.headers_version)

    def _server(self, request: _Request) -> dict[str, Any]:
        answer = _ask(self._app, request)
        status = int(answer.status.split(" ", 1)[0])
        if status == 200:
            document = json.loads(answer.body)
            server: dict[str, Any] = document["server"]
            return server
        if request.wants_novnc:
            raise _NotOurs
        if status == 404:
            raise Fault(404, f"Instance {request.server_id} could not be found.")
        if status == 403:
            raise Fault(403, _NOT_ALLOWED)
        if status < 400:
            raise RuntimeError(f"GET of the server was answered {answer.status}")
        raise _Refused(answer)


_NOT_ALLOWED = f"Policy doesn't allow {FULL_CONSOLE} to be performed."


def _wanted(form: str, body: bytes | Fault) -> bodies.Wanted | None:
    """What *body* asks for; None: it is broken, which is ours to refuse."""
    if isinstance(body, Fault):
        return None
    try:
        return bodies.wanted(form, bodies.load(body))
    except ValueError:
        return None


def _project_in(environ: Environ, prefix: str) -> str:
    """The project that the URL names, "" without one.

    The server may have split the version, or the prefix that the API is mounted at, off the path
    (``SCRIPT_NAME``), or neither.
    """
    after_version = _AFTER_VERSION.fullmatch(prefix)
    if after_version is not None:
        return after_version["project"] or ""
    last = prefix.rpartition("/")[2]
    if _VERSION_AT_END.fullmatch(environ.get("SCRIPT_NAME", "")):
        return prefix.lstrip("/")
    known = last == environ.get("HTTP_X_PROJECT_ID") or _PROJECT.fullmatch(last)
    return last if known else ""


def _check_form(request: _Request, document: Any) -> bodies.Wanted:
    """:raises Fault: 404 for a microversion without that request, 400 for its body."""
    if request.wants_novnc:
        _check_novnc(request, document)
        return _NOVNC
    if request.form == "remote-consoles":
        if request.version < (2, 6):
            raise Fault(404, NOT_FOUND)
        return bodies.Wanted("mks", bodies.check_remote_console(document, request.version))
    if request.form == "console":
        return bodies.Wanted("mks", bodies.check_console(document))
    return bodies.Wanted("mks", bodies.check_action(document))


def _check_novnc(request: _Request, document: Any) -> None:
    """:raises _NotOurs: not what Nova would answer with a console, so the API refuses it itself."""
    if request.form == "remote-consoles":
        whole = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
        known = request.version >= (2, 6)
    else:
        whole = {bodies.VNC_ACTION: {"type": "novnc"}}
        known = request.form == "action" and request.version < (2, 6)
    if not known or document != whole:
        raise _NotOurs


def _document(form: str, wanted: bodies.Wanted, url: str) -> dict[str, Any]:
    if form == "remote-consoles":
        console = {"protocol": wanted.protocol, "type": wanted.kind, "url": url}
        return {"remote_console": console}
    if form == "console":
        return {"protocol": wanted.protocol, "url": url}
    return {"console": {"type": wanted.kind, "url": url}}


def _check_state(server: dict[str, Any], instance_id: str, protocol: str) -> None:
    # An API that does not show the host to everybody shows the hash of it, empty without one.
    host = server.get("OS-EXT-SRV-ATTR:host", server.get("hostId", "?"))
    if not host:
        raise Fault(409, f"Instance {instance_id} is not ready")
    task = server.get("OS-EXT-STS:task_state")
    if task in _REFUSED_TASKS:
        raise Fault(
            409,
            f"Cannot 'get_{protocol}_console' instance {instance_id} while it is in "
            f"task_state {task}",
        )


def _ask(app: Application, request: _Request) -> Answer:
    """``GET`` of the server, with the caller's own identity."""
    question = webob.Request(dict(request.environ)).copy_get()
    for name in list(question.environ):
        # What earlier filters have parsed is about another request; an answer 304 has no body.
        if name.startswith(("webob.", "wsgiorg.", "HTTP_IF_", "HTTP_CONTENT_")) or name in (
            "HTTP_TRANSFER_ENCODING",
            "HTTP_RANGE",
        ):
            del question.environ[name]
    question.path_info = f"{request.prefix}/servers/{request.server_id}"
    question.query_string = ""
    question.headers["Accept"] = "application/json"
    # A compressing filter behind this one would answer what cannot be read here.
    question.headers["Accept-Encoding"] = "identity"
    answer = question.get_response(app)
    return Answer(answer.status, answer.headerlist, answer.body)
