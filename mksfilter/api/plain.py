"""Consoles in a pipeline without Nova: a gateway, a Nova-compatible API, the demo.

The wrapped application's own ``GET /servers/{id}``, asked with the caller's headers, decides
whether the caller sees the instance; oslo.policy decides whether they may have its console.
Answers, and the order of checks, are Nova's: version, content type, JSON, project in the URL,
microversion, schema, instance, policy, state.

Compute API: https://docs.openstack.org/api-ref/compute/#server-consoles-servers-remote-consoles
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import webob

from mksfilter.api import bodies
from mksfilter.api.faults import DEFAULT, GENERIC, NOT_FOUND, Answer, Fault, Version
from mksfilter.api.policy import FULL_CONSOLE, ConsolePolicy
from mksfilter.exceptions import BackendError, MksFilterError
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
_API_VERSION = re.compile(r"/v\d+(?:\.\d+)?(?=/|\Z)")
_PROJECT = re.compile(r"[0-9a-f-]+")
# Protocols that are not ours to answer.
_FOREIGN = ("vnc", "spice", "serial", "rdp")
# compute.API.get_mks_console refuses these in Nova.
_REFUSED_TASKS = ("deleting", "migrating")


class _Request(NamedTuple):
    environ: Environ
    prefix: str
    server_id: str
    form: str
    version: Version
    headers_version: Version | None
    request_id: str


class _Refused(Exception):
    """The wrapped application's own answer, to be given back as it is."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class PlainConsoles:
    """A WSGI application for the requests that :func:`mksfilter.filter.is_console_request` picks.

    The caller's identity is what the headers say that keystone's middleware sets: nothing but an
    authenticating filter may stand in front of it.
    """

    def __init__(self, app: Application, issuer: Issuer, policy: ConsolePolicy) -> None:
        """:param app: gets what is not ours, and is asked about instances."""
        self._app = app
        self._issuer = issuer
        self._policy = policy

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer a console request, or let the wrapped application do it."""
        match = _PATH.fullmatch(environ.get("PATH_INFO", ""))
        body = bodies.read(environ, bodies.MAX_BODY, chunked=True) if match else None
        if match is None or _is_foreign(match["form"], body):
            return self._app(environ, start_response)
        project = _API_VERSION.sub("", match["prefix"], count=1).lstrip("/")
        own_project = environ.get("HTTP_X_PROJECT_ID") or ""
        if project not in ("", own_project) and not _PROJECT.fullmatch(project):
            return self._app(environ, start_response)  # no route there, in Nova either
        # A request id is set by oslo.middleware, which then puts it into the answer too.
        known_id = environ.get("openstack.request_id")
        request_id = known_id or f"req-{uuid.uuid4()}"
        answer = self._answer(environ, match, project, body, request_id)
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
        body: bytes | None,
        request_id: str,
    ) -> Answer:
        version: Version | None = None
        try:
            # Legacy v2 has no microversions: Nova has removed the headers by then.
            legacy = bool(environ.get("openstack.legacy_v2"))
            asked = DEFAULT if legacy else Version.asked_for(environ)
            version = None if legacy else asked
            document = bodies.parse(environ, body)
            self._check_project(environ, project)
            request = _Request(
                environ, match["prefix"], match["server"], match["form"], asked, version, request_id
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
            return fault.answer(version)
        except _Refused as refused:
            return refused.answer
        except BackendError as exc:
            LOG.warning(
                event(
                    "console-refused",
                    instance=match["server"],
                    request=request_id,
                    reason=exc.reason,
                    detail=exc,
                )
            )
            status = exc.status if exc.status in (404, 409) else 503
            return Fault(status, exc.public).answer(version)
        except MksFilterError as exc:
            LOG.error(event("console-failed", request=request_id, detail=exc))
            return Fault(500, GENERIC).answer(version)
        except Exception:
            # Whatever it is, the API's other requests must not suffer, nor its users read it.
            LOG.exception(event("unexpected-error", request=request_id))
            return Fault(500, GENERIC).answer(version)

    def _check_project(self, environ: Environ, project: str) -> None:
        own = environ.get("HTTP_X_PROJECT_ID") or ""
        if project and project != own:
            raise Fault(
                400,
                f"Malformed request URL: URL's project_id '{project}' doesn't match "
                f"Context's project_id '{own}'",
            )

    def _console(self, request: _Request, document: Any) -> Answer:
        if request.form == "remote-consoles":
            if request.version < (2, 6):
                raise Fault(404, NOT_FOUND)
            kind = bodies.check_remote_console(document, request.version)
        elif request.form == "console":
            kind = bodies.check_console(document)
        else:
            kind = bodies.check_action(document)
        server = self._server(request)
        instance_id = str(server["id"])
        project_id = str(
            server.get("tenant_id") or server.get("project_id") or _project_of(request)
        )
        mode = self._policy.console_mode(request.environ, project_id)
        if mode is None:
            raise Fault(403, f"Policy doesn't allow {FULL_CONSOLE} to be performed.")
        _check_state(server, instance_id)
        if kind != "webmks":
            raise Fault(400, f"Invalid console type {kind}")
        url = self._issuer.console_url(
            ConsoleRequest(
                instance_id=instance_id,
                project_id=project_id,
                user_id=request.environ.get("HTTP_X_USER_ID") or "",
                request_id=request.request_id,
                mode=mode,
            )
        )
        return Answer.of(_DOCUMENTS[request.form](url), request.headers_version)

    def _server(self, request: _Request) -> dict[str, Any]:
        answer = _ask(self._app, request)
        status = int(answer.status.split(" ", 1)[0])
        if status == 200:
            document = json.loads(answer.body)
            server: dict[str, Any] = document["server"]
            return server
        if status == 404:
            raise Fault(404, f"Instance {request.server_id} could not be found.")
        if status == 403:
            raise Fault(403, f"Policy doesn't allow {FULL_CONSOLE} to be performed.")
        if status < 400:
            raise RuntimeError(f"GET of the server was answered {answer.status}")
        raise _Refused(answer)


def _console_of(form: str) -> Callable[[str], dict[str, Any]]:
    return {
        "remote-consoles": lambda url: {
            "remote_console": {"protocol": "mks", "type": "webmks", "url": url}
        },
        "console": lambda url: {"protocol": "mks", "url": url},
        "action": lambda url: {"console": {"type": "webmks", "url": url}},
    }[form]


_DOCUMENTS = {form: _console_of(form) for form in ("remote-consoles", "console", "action")}


def _is_foreign(form: str, body: bytes | None) -> bool:
    """Whether *body* asks for a console that is not ours; anything broken is ours to refuse."""
    if body is None or form == "action":
        return False
    try:
        document = bodies.load(body)
    except ValueError:
        return False
    console = document
    if form == "remote-consoles":
        console = document.get("remote_console") if isinstance(document, dict) else None
    protocol = console.get("protocol") if isinstance(console, dict) else None
    return isinstance(protocol, str) and protocol in _FOREIGN


def _project_of(request: _Request) -> str:
    return request.environ.get("HTTP_X_PROJECT_ID") or ""


def _check_state(server: dict[str, Any], instance_id: str) -> None:
    # An API that does not show the host to everybody shows the hash of it, empty without one.
    host = server.get("OS-EXT-SRV-ATTR:host", server.get("hostId", "?"))
    if not host:
        raise Fault(409, f"Instance {instance_id} is not ready")
    task = server.get("OS-EXT-STS:task_state")
    if task in _REFUSED_TASKS:
        raise Fault(
            409,
            f"Cannot 'get_mks_console' instance {instance_id} while it is in task_state {task}",
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
