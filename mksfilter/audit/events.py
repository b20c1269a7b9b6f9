"""An audit event, as a value and as a line of JSON. No I/O.

A console's life: ``asked`` (nova-api gave a link out), then ``opened``, and for each return of its
page ``resumed``. Every ``opened`` and ``resumed`` is followed by one of ``moved`` (the connection
ended for a reason with which its page comes back by itself, elsewhere), ``revoked`` (the revocation
list came to name it) and ``ended``, with the same ``connection``. ``refused`` stands alone, at
the API or at the proxy. ``dropped`` is vCenter being asked to end consoles, by an operator or by
``take_over``; an operator's ``revoked`` has no connection.

``docs/audit-event.schema.json`` is the same as a JSON Schema. No token and no ticket is in an
event: every text goes through the log's mask as well.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping
from typing import Any, Final

from mksfilter import log

__all__ = ["ACTIONS", "SERVICES", "VERSION", "AuditEvent", "from_mapping", "timestamp"]

VERSION: Final = 1
ACTIONS: Final = (
    "asked",
    "refused",
    "opened",
    "resumed",
    "moved",
    "ended",
    "dropped",
    "revoked",
)
SERVICES: Final = ("api", "proxy", "command")

# What a request may bring is bounded before it is written: a line is far below 4096 bytes, so
# that lines of several processes in one file never mix.
_LONGEST: Final = 255


@dataclasses.dataclass(frozen=True)
class AuditEvent:
    """One event. What is not known, or does not apply, is empty and is not written.

    :param action: one of :data:`ACTIONS`.
    :param service: who saw it, one of :data:`SERVICES`.
    :param node: the machine's name.
    :param id: names this event, wherever it is written to.
    :param time: seconds since the epoch.
    :param user: Nova's id of the user who asked.
    :param project: of the instance; of a request that was refused before that was known, the
        caller's.
    :param instance: Nova's UUID.
    :param vm: the VM's managed object id in its vCenter.
    :param vcenter: the name of its ``[vcenter.NAME]`` group.
    :param host: ``host:port`` of the console.
    :param client: address of the browser, or of the caller of the API.
    :param request: id of the API request, which is one console's through all of its life.
    :param session: id of the session: the ``jti`` of its first token.
    :param jti: of the token that was used.
    :param connection: id of one opening of the session.
    :param mode: ``full`` or ``view``.
    :param began: when the connection began, seconds since the epoch.
    :param seconds: for which it lasted.
    :param bytes_in: from the browser.
    :param bytes_out: from the host.
    :param reason: a slug as in the log and the metrics (docs/errors.md); at the API, that of the
        HTTP status.
    :param status: the HTTP status of a refusal.
    :param detail: one line for people.
    :param by: the operator's account, of what a command did.
    :param suppressed: further refusals without a good token that were not written, since there
        were too many at once.
    """

    action: str
    service: str
    node: str
    id: str
    time: float
    user: str = ""
    project: str = ""
    instance: str = ""
    vm: str = ""
    vcenter: str = ""
    host: str = ""
    client: str = ""
    request: str = ""
    session: str = ""
    jti: str = ""
    connection: str = ""
    mode: str = ""
    began: float | None = None
    seconds: float | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    reason: str = ""
    status: int | None = None
    detail: str = ""
    by: str = ""
    suppressed: int = 0

    def __post_init__(self) -> None:
        if self.action not in ACTIONS or self.service not in SERVICES:
            raise ValueError(f"no audit event is {self.service}'s {self.action!r}")

    @property
    def failed(self) -> bool:
        """It is about a console that did not come about."""
        return self.action == "refused"

    def to_mapping(self) -> dict[str, Any]:
        """What is written, in the order in which people read it."""
        mapping: dict[str, Any] = {
            "version": VERSION,
            "time": timestamp(self.time),
            "action": self.action,
            "outcome": "failure" if self.failed else "success",
        }
        for name in _FIELDS:
            value = getattr(self, name)
            if name == "began":
                value = value and timestamp(value)
            elif isinstance(value, str):
                value = _clean(value)
            elif name == "seconds" and value is not None:
                value = round(value, 3)
            if value not in ("", None) and (name != "suppressed" or value):
                mapping[name] = value
        return mapping

    def to_line(self) -> str:
        """One line of JSON in ASCII, without its line break."""
        return json.dumps(self.to_mapping(), separators=(",", ":"))


_FIELDS: Final = tuple(
    field.name for field in dataclasses.fields(AuditEvent) if field.name not in ("action", "time")
)
_TIMES: Final = ("time", "began")


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with microseconds, which sorts as text."""
    moment = datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_mapping(mapping: Mapping[str, Any]) -> AuditEvent:
    """The inverse of :meth:`AuditEvent.to_mapping`; what a newer release added is passed over.

    :raises ValueError: not an event, or of another version than :data:`VERSION`.
    """
    if mapping.get("version") != VERSION:
        raise ValueError("not an audit event of this version")
    try:
        values = {name: mapping[name] for name in _FIELDS if name in mapping}
        values["action"] = mapping["action"]
        for name in _TIMES:
            if name in mapping:
                values[name] = _seconds(mapping[name])
        for name, value in values.items():
            wanted: tuple[type, ...] = (int, float) if name in _NUMBERS else (str,)
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise TypeError(name)
        return AuditEvent(**values)
    except (KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise ValueError(f"not an audit event: {exc}") from None


_NUMBERS: Final = frozenset(
    {"time", "began", "seconds", "bytes_in", "bytes_out", "status", "suppressed"}
)


def _seconds(text: str) -> float:
    seconds = datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    timestamp(seconds)  # at the ends of the calendar there are times that cannot be written in UTC
    return seconds


def _clean(text: str) -> str:
    clean = log.scrub(text)
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"
