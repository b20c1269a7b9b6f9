"""What a caller hears, and the log, when an authorized request gets no console."""

from __future__ import annotations

import logging

from mksfilter.exceptions import BackendError, MksFilterError
from mksfilter.log import event

__all__ = ["UNAVAILABLE", "refusal"]

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
