"""What the rest of the package takes instead of oslo.config: frozen settings, one class a user."""

from __future__ import annotations

import dataclasses
import urllib.parse
from typing import Any

__all__ = [
    "VCENTER_PLACE",
    "AuditSettings",
    "FilterSettings",
    "NovaSettings",
    "ProxyRoute",
    "ProxySettings",
    "VCenterSettings",
    "with_vcenter",
]

#: In a base URL: the vCenter that has the instance.
VCENTER_PLACE = "{vcenter}"


@dataclasses.dataclass(frozen=True)
class VCenterSettings:
    """One ``[vcenter.NAME]`` group.

    :param password: as it was at the start, read from *password_file* where there is one; see
        :func:`mksfilter.config.current_password`.
    """

    name: str
    host: str
    port: int = 443
    username: str = ""
    password: str = dataclasses.field(default="", repr=False)
    password_file: str | None = None
    lockout_window: int = 180
    ca_file: str | None = None
    thumbprint: str | None = None
    insecure: bool = False
    backend: str = "webmks"
    pool_size: int = 8
    timeout: float = 10.0
    console_host: str | None = None
    console_port: int | None = None
    instance_uuid: str | None = None
    webmks_proxy_base_url: str | None = None


@dataclasses.dataclass(frozen=True)
class ProxyRoute:
    """Where browsers find the consoles of one vCenter; of ``[vcenter.NAME]`` what the filter reads.

    :param instance_uuid: the vCenter's, lower case; empty: not told.
    :param base_url: empty: the common one.
    """

    name: str
    instance_uuid: str = ""
    base_url: str = ""

    def url(self, common: str) -> str:
        """This vCenter's own base URL, or *common* with its name in it."""
        return self.base_url or with_vcenter(common, self.name)


def with_vcenter(base_url: str, vcenter: str) -> str:
    """*base_url* with *vcenter* in the place of ``{vcenter}``."""
    return base_url.replace(VCENTER_PLACE, urllib.parse.quote(vcenter, safe=""))


@dataclasses.dataclass(frozen=True)
class FilterSettings:
    """What the filter needs to mint tokens."""

    key_repository: str
    audience: str
    clock_skew: int
    ticket_at: str
    webmks_proxy_base_url: str
    token_ttl: int
    session_lifetime: int
    view_role_policy: str
    policy_file: str
    allowed_networks: tuple[str, ...]
    runtime_directory: str
    vsphere_hosts: tuple[str, ...]
    also_answer: tuple[str, ...]
    identity: str
    ticket_timeout: float
    tickets_at_once: int
    start_without_keys: bool
    routes: tuple[ProxyRoute, ...]


@dataclasses.dataclass(frozen=True)
class ProxySettings:
    """What the proxy needs, vCenters aside."""

    key_repository: str
    audience: str
    clock_skew: int
    ticket_at: str
    allowed_networks: tuple[str, ...]
    runtime_directory: str
    session_lifetime: int
    end_sessions_of_removed_keys: bool
    resume_asks_nova: bool
    allowed_origins: tuple[str, ...]
    frame_ancestors: tuple[str, ...]
    console_client: str
    wmks_dir: str
    hsts_max_age: int
    trusted_proxies: tuple[str, ...]
    proxy_protocol: bool
    replay_cache: str
    replay_cache_fail_open: bool
    idle_timeout: int
    handshake_timeout: float
    connect_timeout: float
    stall_timeout: float
    tcp_user_timeout: int
    tls_groups: tuple[str, ...]
    ping_interval: int
    upstream_ping_interval: int
    max_sessions: int
    max_sessions_per_instance: int
    max_sessions_per_user: int
    max_openings_per_user: int
    max_openings_per_address: int
    connection_rate: float
    take_over: str
    management_bind: str
    metrics_networks: tuple[str, ...]
    healthz_disable_file: str
    drain_time: float
    log_level: str
    log_format: str
    webmks_proxy_base_url: str


@dataclasses.dataclass(frozen=True)
class AuditSettings:
    """Where audit events go.

    :param conf: where oslo.messaging reads its own options from; for the broker alone.
    """

    file: str = ""
    syslog: str = ""
    transport_url: str = dataclasses.field(default="", repr=False)
    topic: str = "notifications"
    fail_closed: bool = False
    queue: int = 10_000
    conf: Any = dataclasses.field(default=None, repr=False, compare=False)


@dataclasses.dataclass(frozen=True)
class NovaSettings:
    """``[nova]``: how to ask Nova about its own console tokens.

    :param adapter: a ``keystoneauth1.adapter.Adapter``; it connects at its first use.
    :param timeout: seconds within which an answer must be there, Keystone's included.
    :param console_ca_file: vouches for the hosts of issued webmks tickets; None: the system's CAs.
    :param console_insecure: those hosts' certificates are not verified.
    """

    adapter: Any = dataclasses.field(repr=False)
    ticket: str = "own"
    timeout: float = 10.0
    console_ca_file: str | None = None
    console_insecure: bool = False
