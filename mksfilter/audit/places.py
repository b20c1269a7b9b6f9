"""The trail that the options ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mksfilter import extras
from mksfilter.audit.file import FileSink
from mksfilter.audit.syslog import SyslogSink
from mksfilter.audit.trail import Sink, Trail

if TYPE_CHECKING:
    from mksfilter.config import AuditSettings

__all__ = ["make_trail"]


def make_trail(
    settings: AuditSettings,
    service: str,
    *,
    lost: Callable[[str, int], None] = lambda _sink, _count: None,
    blocking: Callable[[Callable[[], OSError | None]], OSError | None] = lambda call: call(),
) -> Trail:
    """One that records nothing where no place is named. Nothing is opened before the first event.

    :param lost: see :class:`Trail`.
    :param blocking: see :class:`FileSink`.
    :raises ConfigurationError: a library is missing, or the broker's URL cannot be one.
    """
    sinks: list[Sink] = []
    if settings.file:
        sinks.append(FileSink(settings.file, blocking=blocking))
    if settings.syslog:
        sinks.append(SyslogSink(settings.syslog))
    if settings.transport_url:
        with extras.needed("audit_transport_url"):
            from mksfilter.audit.messaging import MessagingSink

        sinks.append(MessagingSink(settings.conf, settings.transport_url, settings.topic))
    return Trail(
        service, sinks, fail_closed=settings.fail_closed, capacity=settings.queue, lost=lost
    )
