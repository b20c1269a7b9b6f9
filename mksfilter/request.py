"""The console request: which instance's console is asked for, by whom, and how much of it."""

from __future__ import annotations

import dataclasses

__all__ = ["ConsoleRequest"]


@dataclasses.dataclass(frozen=True, slots=True)
class ConsoleRequest:
    """A request for a console that is already authorized.

    :param instance_id: Nova instance UUID, lower case with dashes.
    :param project_id: the instance's project, which is not always the caller's.
    :param user_id: the user who asks.
    :param request_id: id of the API request, for the audit trail.
    :param mode: ``full``, or ``view`` for a console without input. Whoever forgets to say which
        gives out no console.
    :param client: address of the caller of the API, for the audit trail.
    :param vcenter: name or instance UUID of the vCenter that has the instance; None: any.
    """

    instance_id: str
    project_id: str = ""
    user_id: str = ""
    request_id: str = ""
    mode: str = dataclasses.field(kw_only=True)
    vcenter: str | None = None
    client: str = ""
