"""What a caller hears, and the log, when an authorized request gets no console."""

from __future__ import annotations

import http
import logging

from mksfilter.audit.trail import Trail
from mksfilter.exceptions import BackendError, ConsoleError, MksFilterError
from mksfilter.log import event

__all__ = ["UNAVAILABLE", "record_refusal", "refusal"]

LOG = logging.getLogger(__name__)

UNAVAILABLE = "The console service is not available at the moment. Try again later."


def refusal(exc: MksFilterError, *, instance: str, request: str) -> tuple[int, str]:
    """The status and the words for *exc*, which is logged.

    404 and 409 are about the instance. Everything else is ours to repair, and the API with its
    other requests is well: 503.
    """
    if isinstance(exc, BackendError):
        LOG.warning(
            event(
                "console-refused",
                instance=instance,
                request=request,
                reason=exc.reason,
                detail=exc,
            )
        )
        return (exc.status if exc.status in (404, 409) else 503), exc.public
    LOG.error(event("console-failed", instance=instance, request=request, detail=exc))
    return 503, UNAVAILABLE


def record_refusal(
    audit: Trail,
    status: int,
    cause: Exception | None = None,
    *,
    user: str,
    **fields: str,
) -> None:
    """Tell *audit* that a caller was refused a console.

    :param status: what the caller is answered.
    :param cause: an error of ours is told by its own reason, any other by the status's name.
    :param user: empty: nobody has confirmed who asks.
    :param fields: of :class:`mksfilter.audit.events.AuditEvent`.
    """
    if isinstance(cause, ConsoleError):
        reason = cause.reason
    else:
        reason = http.HTTPStatus(status).phrase.lower().replace(" ", "-")
    detail = " ".join(str(cause).split()) if isinstance(cause, MksFilterError) else ""
    record = audit.record if user else audit.record_stranger
    record("refused", status=status, reason=reason, detail=detail, user=user, **fields)
