"""Answers in Nova's form: microversion headers, JSON bodies, JSON faults.

Compute API: https://docs.openstack.org/api-guide/compute/faults.html and
https://docs.openstack.org/api-guide/compute/microversions.html
"""

from __future__ import annotations

import dataclasses
import http
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from mksfilter.exceptions import MksFilterError

__all__ = ["DEFAULT", "GENERIC", "MAXIMUM", "NOT_FOUND", "Answer", "Fault", "Version"]

# Where Nova's words differ from Python's for the same status.
_REASONS = {413: "Request Entity Too Large"}
_KEYS = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}
#: What Nova says when it has nothing to explain.
GENERIC = "The server has either erred or is incapable of performing the requested operation."
NOT_FOUND = "The resource could not be found."

_NUMBER = re.compile(r"([1-9]\d*)\.([1-9]\d*|0)")


class Version(NamedTuple):
    """A compute API microversion."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @classmethod
    def asked_for(cls, environ: Mapping[str, Any]) -> Version:
        """What the request's headers ask for, as microversion-parse and Nova read them.

        ``OpenStack-API-Version: compute X`` goes before ``X-OpenStack-Nova-API-Version: X``.

        :raises Fault: 400 for something that is no version, 406 for one that does not exist.
        """
        text = (
            _service_version(environ.get("HTTP_OPENSTACK_API_VERSION") or "")
            or (environ.get("HTTP_X_OPENSTACK_NOVA_API_VERSION") or "").split(",")[-1].strip()
        )
        if not text:
            return DEFAULT
        if text == "latest":
            return MAXIMUM
        match = _NUMBER.fullmatch(text)
        if match is None:
            raise Fault(
                400,
                f"API Version String {text} is of invalid format. "
                f"Must be of format MajorNum.MinorNum.",
            )
        version = cls(int(match[1]), int(match[2]))
        if not DEFAULT <= version <= MAXIMUM:
            raise Fault(
                406,
                f"Version {version} is not supported by the API. "
                f"Minimum is {DEFAULT} and maximum is {MAXIMUM}.",
                version,
            )
        return version

    def headers(self) -> list[tuple[str, str]]:
        """What every answer of that microversion carries."""
        return [
            ("OpenStack-API-Version", f"compute {self}"),
            ("X-OpenStack-Nova-API-Version", str(self)),
            ("Vary", "OpenStack-API-Version"),
            ("Vary", "X-OpenStack-Nova-API-Version"),
        ]


#: Without a header.
DEFAULT = Version(2, 1)
#: Nova 34's, whose answers these are.
MAXIMUM = Version(2, 104)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What goes back: a status line, headers in Nova's order, a body."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes

    @classmethod
    def of(cls, document: Mapping[str, Any], version: Version | None) -> Answer:
        """A 200 with *document*; without *version* (legacy v2) it has no version headers."""
        body = json.dumps(document).encode()
        return cls(
            "200 OK",
            [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                *(version.headers() if version else ()),
            ],
            body,
        )


class Fault(MksFilterError):
    """A request that is answered with an error.

    :param version: sets the version headers; None: the request has no version (yet).
    """

    def __init__(self, status: int, message: str, version: Version | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.version = version

    def answer(self, version: Version | None = None) -> Answer:
        """As Nova answers it."""
        version = self.version or version
        fault = {"code": self.status, "message": self.message}
        body = json.dumps({_KEYS.get(self.status, "computeFault"): fault}).encode()
        reason = _REASONS.get(self.status) or http.HTTPStatus(self.status).phrase
        return Answer(
            f"{self.status} {reason}",
            [
                *(version.headers() if version else ()),
                # RFC 9110, 15.5.2.
                *([("WWW-Authenticate", "Keystone")] if self.status == 401 else ()),
                ("Content-Type", "application/json; charset=UTF-8"),
                ("Content-Length", str(len(body))),
            ],
            body,
        )


def _service_version(header: str) -> str:
    """The version for ``compute`` in ``OpenStack-API-Version: compute 2.8, identity 3.0``."""
    found = ""
    for part in header.split(","):
        service, _, version = part.strip().partition(" ")
        if service.lower() == "compute" and version.strip():
            found = version.strip()
    return found
