"""The one policy rule of our own, in oslo.policy's form.

Whether a caller may have a console at all is Nova's rule ``os_compute_api:os-remote-consoles``.
This one is asked only about callers whom that one refuses. ``oslopolicy-sample-generator
--namespace mksfilter`` prints it.
"""

from __future__ import annotations

from oslo_policy import policy

__all__ = ["VIEW_CONSOLE", "list_rules", "view_rule"]

VIEW_CONSOLE = "mksfilter:view-console"
NOBODY = "!"


def view_rule(name: str = VIEW_CONSOLE) -> policy.DocumentedRuleDefault:
    """The rule under which a caller gets a console that shows and does not listen.

    :param name: what ``view_role_policy`` says.
    """
    return policy.DocumentedRuleDefault(
        name=name,
        check_str=NOBODY,
        description=(
            "Get a view-only WebMKS console of a server whose full console "
            "os_compute_api:os-remote-consoles refuses. The proxy drops what the browser types, "
            "points at or pastes."
        ),
        operations=[{"method": "POST", "path": "/servers/{server_id}/remote-consoles"}],
        scope_types=["project"],
    )


def list_rules() -> list[policy.DocumentedRuleDefault]:
    """For ``oslopolicy-sample-generator`` (entry point ``oslo.policy.policies``)."""
    return [view_rule()]
