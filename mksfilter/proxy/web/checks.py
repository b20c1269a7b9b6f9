"""What a node must have to take sessions; each check says what is missing, or nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mksfilter.exceptions import KeyRepositoryError

if TYPE_CHECKING:
    from mksfilter.auth.keys import KeyRepository
    from mksfilter.backends.resolver import VCenterState

__all__ = ["keys_readable", "vcenter_reachable"]


def keys_readable(keys: KeyRepository) -> str:
    """Why no token can be verified."""
    try:
        keys.look()
    except KeyRepositoryError as exc:
        return str(exc)
    return ""


def vcenter_reachable(vcenters: Iterable[VCenterState]) -> str:
    """Why no vCenter can be asked, by its last call or by the probe in the background; a proxy that
    asks none needs none."""
    states = list(vcenters)
    if not states or any(one.healthy for one in states):
        return ""
    return "; ".join(one.last_error or f"vcenter {one.name}: {one.state}" for one in states)
