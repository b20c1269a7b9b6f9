"""Which groups a console host is offered for the key exchange of TLS.

Where the operator names none, that may be fewer than OpenSSL has
(:func:`mksfilter.tls_groups.default_groups`). A host that agrees to none of them is offered
OpenSSL's own list, at once on a second connection and from then on on the first one. Groups that
the operator has named are all that a host is offered.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from mksfilter.endpoint import Endpoint
from mksfilter.log import event
from mksfilter.lru import LRUMap
from mksfilter.tls_groups import OPENSSL_LIST, default_groups

__all__ = ["Groups"]

LOG = logging.getLogger(__name__)

_REMEMBERED: Final = 4096


class Groups:
    """
    :param configured: the option ``tls_groups``.
    :param default: what is offered without it.
    :ivar configured: the groups that the operator insists on; empty: none.
    """

    def __init__(
        self, configured: Sequence[str] = (), *, default: Sequence[str] = default_groups()
    ) -> None:
        self.configured = () if tuple(configured) == OPENSSL_LIST else tuple(configured)
        self._default = () if configured else tuple(default)
        self._refusing: LRUMap[tuple[str, int], bool] = LRUMap(_REMEMBERED)

    def offered_to(self, endpoint: Endpoint) -> tuple[str, ...]:
        """The groups for a handshake with this host; empty: OpenSSL's own list."""
        if not self._default or self._refusing.get((endpoint.host, endpoint.port)):
            return self.configured
        return self._default

    def refused_by(self, endpoint: Endpoint) -> bool:
        """Note that this host agrees to none of them; whether it is to be offered more."""
        if self.configured:
            return False
        key = (endpoint.host, endpoint.port)
        if key not in self._refusing:
            LOG.info(event("tls-groups-refused", host=endpoint.address, offered=self._default))
        self._refusing.put(key, True)
        return True
