"""A vCenter's SOAP service over HTTP: versions, sessions, counting, and how it misbehaves."""

from __future__ import annotations

import collections
import dataclasses
import logging
import re

import gevent
from gevent.event import Event

from mksfilter.log import event
from mksfilter.simulator.net.httpd import Request, Response
from mksfilter.simulator.vcenter import properties, soap
from mksfilter.simulator.vcenter.methods import Methods
from mksfilter.simulator.vcenter.sessions import Sessions
from mksfilter.simulator.vcenter.soap import Call, Fault, Value, version_tuple

__all__ = ["PROBE", "Counts", "VCenterService"]

LOG = logging.getLogger(__name__)
_XML = "text/xml; charset=utf-8"
_COOKIE = re.compile(r'vmware_soap_session="?([0-9a-zA-Z-]+)')


#: By which a proxy sees now and then whether a vCenter is there, beside its bounded calls.
PROBE = "RetrieveServiceContent"


@dataclasses.dataclass
class Counts:
    """What this vCenter was asked.

    :ivar calls: number of calls by method.
    :ivar in_flight: calls being answered now, but :data:`PROBE`; *max_in_flight* the most there
        ever were.
    """

    calls: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    in_flight: int = 0
    max_in_flight: int = 0
    connections: int = 0


class VCenterService:
    """One vCenter.

    :ivar released: set when connections and calls that were met with silence are to go on.
    """

    def __init__(self, sessions: Sessions, methods: Methods) -> None:
        self.vcenter = methods.vcenter
        self.sessions = sessions
        self.methods = methods
        self.counts = Counts()
        self.released = Event()

    def reset(self) -> None:
        self.sessions.clear()
        self.counts = Counts()

    def handle(self, request: Request) -> Response:
        """Answer one HTTP request."""
        if request.path == "/sdk/vimServiceVersions.xml":
            self._pause()
            return Response(200, properties.service_versions(self.vcenter), _XML)
        if request.path.rstrip("/") != "/sdk" or request.method != "POST":
            return Response(404)
        try:
            call = soap.parse(request.body, request.headers.get("soapaction", ""))
        except soap.Malformed as exc:
            fault = Fault("InvalidRequest", f"cannot read the request: {exc}")
            return Response(500, soap.fault_response(fault), _XML)
        counts = self.counts
        counts.calls[call.method] += 1
        if call.method == PROBE:
            return self._answer(call, request)
        counts.in_flight += 1
        counts.max_in_flight = max(counts.max_in_flight, counts.in_flight)
        try:
            return self._answer(call, request)
        finally:
            counts.in_flight -= 1

    def _pause(self) -> None:
        """Take as long as it is told to, on connections that are open already too."""
        if self.vcenter.state.silent:
            self.released.wait()
        if self.vcenter.state.delay:
            gevent.sleep(self.vcenter.state.delay)

    def _answer(self, call: Call, request: Request) -> Response:
        self._pause()
        headers: list[tuple[str, str]] = []
        try:
            body = soap.response(call.method, self._dispatch(call, request, headers))
        except Fault as fault:
            LOG.debug(
                event("fault", vcenter=self.vcenter.name, method=call.method, fault=fault.type)
            )
            return Response(500, soap.fault_response(fault), _XML)
        return Response(200, body, _XML, headers)

    def _dispatch(self, call: Call, request: Request, headers: list[tuple[str, str]]) -> Value:
        own_version = version_tuple(self.vcenter.state.api_version)
        if call.version > own_version:
            version = ".".join(map(str, call.version))
            raise Fault("InvalidRequest", f'Unsupported version URI "urn:vim25/{version}"')
        match = _COOKIE.search(request.headers.get("cookie", ""))
        session = self.sessions.of(match[1]) if match else None
        if call.method == "Login":
            session, cookie = self.sessions.login(
                call.text("userName") or "", call.text("password") or "", request.client, session
            )
            headers.append(
                ("Set-Cookie", f'vmware_soap_session="{cookie}"; Path=/; HttpOnly; Secure; ')
            )
            return session.as_data()
        method = self.methods.find(call)
        if session is not None:
            return method(call, session)
        open_method = self.methods.open_to_all(call)
        if open_method is None:
            raise Fault(
                "NotAuthenticated",
                "The session is not authenticated.",
                object=call.this,
                privilegeId="System.View",
            )
        return open_method(call, None)
