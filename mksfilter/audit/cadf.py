"""An audit event as CADF has it (DMTF DSP0262), as OpenStack's services send theirs. No I/O.

pycadf checks every field of it. The event itself, with all that CADF has no place for, is the
attachment ``mksfilter``.
"""

from __future__ import annotations

from typing import Any, Final

from pycadf import attachment, cadftaxonomy, event, host, reason, resource

from mksfilter.audit.events import AuditEvent, timestamp

__all__ = ["to_cadf"]

#: Action of ours -> of CADF's taxonomy, which may be continued after a slash.
_ACTIONS: Final = {
    "asked": "allow/console",
    "refused": "deny/console",
    "opened": "start/console",
    "resumed": "restore/console",
    "moved": "stop/console/moved",
    "ended": "stop/console",
    "dropped": "stop/console/dropped",
    "revoked": "revoke/console",
}
_ATTACHMENT: Final = "mksfilter/audit-event"
_UNKNOWN: Final = "unknown"


def to_cadf(item: AuditEvent) -> dict[str, Any]:
    """The payload of a notification."""
    made = event.Event(
        eventType="activity",
        id=item.id,
        eventTime=timestamp(item.time).replace("Z", "+0000"),
        action=_ACTIONS[item.action],
        outcome=(cadftaxonomy.OUTCOME_FAILURE if item.failed else cadftaxonomy.OUTCOME_SUCCESS),
        initiator=resource.Resource(
            id=item.user or _UNKNOWN,
            typeURI=cadftaxonomy.ACCOUNT_USER,
            name=item.by or item.user or _UNKNOWN,
            domain=item.project or None,
            host=host.Host(address=item.client) if item.client else None,
        ),
        target=resource.Resource(
            id=item.instance or _UNKNOWN, typeURI="compute/machine", name=item.vm or item.instance
        ),
        observer=resource.Resource(
            id=item.node, typeURI="service/compute", name=f"mksfilter-{item.service}"
        ),
        reason=(
            reason.Reason(reasonType="mksfilter", reasonCode=item.reason) if item.reason else None
        ),
        name=f"mksfilter.console.{item.action}",
    )
    made.add_attachment(
        attachment.Attachment(typeURI=_ATTACHMENT, content=item.to_mapping(), name="mksfilter")
    )
    payload: dict[str, Any] = made.as_dict()
    return payload
