"""Questions to Nova's API with the credentials of ``[nova]``, in bounded time and number."""

from __future__ import annotations

import dataclasses
from typing import Any

from mksfilter.bounded import BoundedCalls, DeadlinePassed, NoPlace
from mksfilter.config import NovaSettings
from mksfilter.exceptions import TokenServiceUnavailable

__all__ = ["MAX_IN_FLIGHT", "NovaAPI"]

#: Questions to Nova at one time in one process, of each user of this class.
MAX_IN_FLIGHT = 16


class NovaAPI:
    """Thread-safe; make it after forking. It connects at the first question."""

    def __init__(self, settings: NovaSettings) -> None:
        self._adapter = settings.adapter
        self._timeout = settings.timeout
        self._calls = BoundedCalls("nova-api", limit=MAX_IN_FLIGHT, timeout=settings.timeout)

    @property
    def verifies_certificates(self) -> bool:
        """Whether the connections to Keystone and Nova are safe from interception."""
        return getattr(getattr(self._adapter, "session", None), "verify", True) is not False

    def get(self, path: str, subject: str, *, microversion: str, wait: bool = True) -> Any:
        """Nova's answer to ``GET path``, whatever its status.

        :param subject: what the question is about, the first words of an error.
        :param wait: for a place among the questions that are unanswered, until the deadline.
        :returns: a ``requests.Response``.
        :raises TokenServiceUnavailable: it names who has not answered in time, or refuses us.
        """
        auth_url = getattr(getattr(self._adapter, "auth", None), "auth_url", None)
        asking = _Asking(f"keystone at {auth_url}" if auth_url else "keystone")
        try:
            return self._calls.run(
                lambda: self._ask(path, subject, microversion, asking), wait=wait
            )
        except NoPlace:
            raise TokenServiceUnavailable(
                f"{subject}: {MAX_IN_FLIGHT} questions to keystone and nova are unanswered already"
            ) from None
        except DeadlinePassed:
            raise TokenServiceUnavailable(
                f"{subject}: no answer from {asking.service} within {self._timeout:g} s"
            ) from None

    def _ask(self, path: str, subject: str, microversion: str, asking: _Asking) -> Any:
        from keystoneauth1 import exceptions

        try:
            # By itself keystoneauth would do all three in one call, and nobody could tell which of
            # the services it was that did not answer.
            self._adapter.get_token()
            endpoint = self._adapter.get_endpoint()
            asking.service = f"nova at {endpoint}"
            return self._adapter.get(path, microversion=microversion, raise_exc=False, log=False)
        # Their words may hold the URL, and with it a token: neither they nor the traceback
        # may get any further.
        except exceptions.Unauthorized:
            raise TokenServiceUnavailable(
                f"{subject}: {asking.service} refuses the user of [nova]; check its password"
            ) from None
        except exceptions.CatalogException:
            raise TokenServiceUnavailable(
                f"{subject}: keystone's catalogue has no compute endpoint for [nova]; check "
                f"region_name and valid_interfaces"
            ) from None
        except exceptions.ClientException as exc:
            raise TokenServiceUnavailable(
                f"{subject}: {asking.service} cannot be asked ({type(exc).__name__})"
            ) from None
        except Exception as exc:
            raise TokenServiceUnavailable(
                f"{subject}: asking {asking.service} failed ({type(exc).__name__})"
            ) from None


@dataclasses.dataclass
class _Asking:
    """The service that is being asked, by its endpoint."""

    service: str
