"""Asks Nova at a reconnect whether the instance still is what it was when the session began.

``GET /servers/{id}`` (https://docs.openstack.org/api-ref/compute/#show-server-details), as the user
of ``[nova]``, who by default needs the role admin or reader of the system. Nova tells of the
instance, not of the session's user: a role that was taken away is not seen here.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mksfilter.exceptions import AccessWithdrawn, InstanceNotFound, TokenServiceUnavailable
from mksfilter.lru import LRUMap

if TYPE_CHECKING:
    from mksfilter.auth.nova_api import NovaAPI
    from mksfilter.auth.token import Claims

__all__ = ["REMEMBERED", "NovaInstances"]

#: Seconds for which an answer is good: a host that fails brings a machine's pages back together.
REMEMBERED: Final = 10.0
#: Instances whose answers are kept.
_SIZE: Final = 4096
#: With this one the answer has the states, and every supported Nova knows it.
_MICROVERSION: Final = "2.1"
_GOING: Final = ("deleting", "soft-deleting")
_GONE: Final = ("deleted", "soft-delete")


@dataclasses.dataclass(frozen=True)
class _Answer:
    """What Nova said of an instance.

    :ivar project: whose it is; empty: there is no such instance.
    """

    until: float
    project: str = ""
    state: str = ""
    task: str = ""


class NovaInstances:
    """Thread-safe as its *api* is; make it after forking.

    :param clock: monotonic seconds.
    """

    def __init__(self, api: NovaAPI, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._answers: LRUMap[str, _Answer] = LRUMap(_SIZE)

    def confirm(self, claims: Claims) -> None:
        """Let the session of *claims* go on.

        A token of Nova's own names no project: of its session only the instance is asked about.

        :raises InstanceNotFound: the instance is gone, or on its way.
        :raises AccessWithdrawn: it belongs to another project now.
        :raises TokenServiceUnavailable: Nova does not answer, or refuses us.
        """
        answer = self._answers.get(claims.iid)
        if answer is None or answer.until <= self._clock():
            answer = self._ask(claims.iid)
            self._answers.put(claims.iid, answer)
        if not answer.project:
            raise InstanceNotFound(f"nova has no instance {claims.iid} any more")
        if answer.state in _GONE or answer.task in _GOING:
            raise InstanceNotFound(
                f"instance {claims.iid} is being deleted, as nova has it "
                f"(vm_state {answer.state}, task_state {answer.task or 'none'})"
            )
        if claims.pid and answer.project != claims.pid:
            raise AccessWithdrawn(
                f"instance {claims.iid} is of project {answer.project} now; session "
                f"{claims.session_id} began in project {claims.pid}"
            )

    def _ask(self, instance: str) -> _Answer:
        subject = f"instance {instance}"
        until = self._clock() + REMEMBERED
        response = self._api.get(f"/servers/{instance}", subject, microversion=_MICROVERSION)
        if response.status_code == 404:
            return _Answer(until)
        if response.status_code in (401, 403):
            raise TokenServiceUnavailable(
                f"{subject}: nova refuses our user ({response.status_code}); it needs the policy "
                f"os_compute_api:servers:show for all projects, by default role admin"
            )
        if response.status_code != 200:
            raise TokenServiceUnavailable(f"{subject}: nova answers {response.status_code}")
        server = _server(response)
        if server is None or server.get("id") != instance:
            raise TokenServiceUnavailable(f"{subject}: the answer is not nova's; check [nova]")
        return _Answer(
            until,
            project=server["tenant_id"],
            state=str(server.get("OS-EXT-STS:vm_state") or ""),
            task=str(server.get("OS-EXT-STS:task_state") or ""),
        )


def _server(response: Any) -> dict[str, Any] | None:
    """None: nothing that names an instance with its project."""
    try:
        server = response.json()["server"]
        named = isinstance(server["tenant_id"], str) and server["tenant_id"]
    except (ValueError, KeyError, TypeError):
        return None
    return server if named else None
