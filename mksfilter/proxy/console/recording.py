"""What the audit trail is told of a session."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mksfilter.exceptions import ConsoleError, SessionRevoked

if TYPE_CHECKING:
    from mksfilter.audit.trail import Trail
    from mksfilter.auth.token import Claims
    from mksfilter.proxy.console.session import Session

__all__ = ["claim_facts", "record_end", "record_lost", "record_opening", "session_facts"]


def claim_facts(claims: Claims) -> dict[str, str]:
    """Who, and which console."""
    return {
        "user": claims.uid,
        "project": claims.pid,
        "instance": claims.iid,
        "request": claims.rid,
        "session": claims.session_id,
        "jti": claims.jti,
        "mode": claims.mode,
    }


def record_opening(audit: Trail, session: Session) -> None:
    """Tell that *session* begins, or goes on.

    :raises AuditUnavailable: ``audit_fail_closed``, and it cannot be recorded.
    """
    if not audit:
        return
    resumed = session.claims.use == "resume"
    audit.confirm("resumed" if resumed else "opened", **session_facts(session))


def record_end(audit: Trail, session: Session, reason: ConsoleError) -> None:
    """Tell that the connection of *session* is over.

    It has ``moved`` where its page comes back by itself, which it can by a resume token alone.
    """
    if not audit:
        return
    seconds = time.monotonic() - session.started
    if isinstance(reason, SessionRevoked):
        action = "revoked"
    elif reason.retry == "automatic" and session.cnf:
        action = "moved"
    else:
        action = "ended"
    relay = getattr(session, "relay", None)  # there is none before the client's 101
    audit.record(
        action,
        began=time.time() - seconds,
        seconds=seconds,
        bytes_in=0 if relay is None else relay.bytes_in,
        bytes_out=0 if relay is None else relay.bytes_out,
        reason=reason.reason,
        detail=" ".join(str(reason).split()),
        **session_facts(session),
    )


def record_lost(audit: Trail, facts: Mapping[str, Any], reason: ConsoleError) -> None:
    """Tell that a session has ended of which only the ledger is left.

    :param facts: those of :func:`session_facts`, ``since`` and ``returns`` beside them. How many
        bytes went is not known.
    """
    known = dict(facts)
    began = known.pop("since", None)
    audit.record(
        "moved" if known.pop("returns", False) else "ended",
        began=began,
        seconds=None if began is None else max(0.0, time.time() - began),
        reason=reason.reason,
        detail=" ".join(str(reason).split()),
        **known,
    )


def session_facts(session: Session) -> dict[str, Any]:
    """All that is told of a session, whatever becomes of it."""
    return {
        **claim_facts(session.claims),
        "vm": session.vm,
        "vcenter": session.vcenter,
        "host": session.host,
        "client": session.client,
        "connection": session.connection_id,
    }
