"""Every option, once.

Options live in group ``[mksfilter]``, and per vCenter in ``[vcenter.NAME]`` for each name in
``vcenters``. The same options may be written in the paste section, where they win. The rest of
the package never sees oslo.config: it takes the frozen settings made here.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from oslo_config import cfg, types

from mksfilter.exceptions import ConfigurationError

__all__ = [
    "FILTER_OPTS",
    "NOVA_OPTS",
    "PROXY_OPTS",
    "SHARED_OPTS",
    "VCENTER_OPTS",
    "FilterSettings",
    "NovaSettings",
    "ProxySettings",
    "VCenterSettings",
    "filter_settings",
    "list_opts",
    "load",
    "nova_settings",
    "proxy_settings",
    "vcenter_settings",
]

GROUP = "mksfilter"
NOVA_GROUP = "nova"

_Settings = TypeVar("_Settings", "FilterSettings", "ProxySettings")

SHARED_OPTS = [
    cfg.StrOpt(
        "key_repository",
        default="/etc/mksfilter/keys",
        help="Directory of the signing keys, made by 'mksfilter keys setup'. The filter and every "
        "proxy need the same keys. Mode 0700, its files 0600; anything more open is refused.",
    ),
    cfg.StrOpt(
        "audience",
        default="mksfilter",
        help="Name of this deployment. A token made for one audience is refused by another, so "
        "that two clouds that share a key by mistake do not share consoles.",
    ),
    cfg.IntOpt(
        "clock_skew",
        default=30,
        min=0,
        max=300,
        help="Seconds by which the clocks of the filter and of a proxy may differ, either way.",
    ),
    cfg.ListOpt(
        "vcenters",
        default=[],
        help="Names of the vCenters, each described in a group [vcenter.NAME].",
    ),
    cfg.StrOpt(
        "ticket_at",
        default="connect",
        choices=[
            ("connect", "the proxy takes the console ticket when the browser connects"),
            ("issue", "the filter takes it and seals it into the token, for proxies in a DMZ"),
        ],
        help="Who takes the console ticket from vCenter, and when.",
    ),
    cfg.ListOpt(
        "allowed_networks",
        default=[],
        help="Networks (CIDR) that console hosts may be in. Empty: any but link-local, loopback, "
        "multicast and metadata addresses. An address of those is allowed only when listed.",
    ),
]

FILTER_OPTS = [
    cfg.StrOpt(
        "webmks_proxy_base_url",
        default="",
        help="URL of the console page as browsers see it, for example "
        "https://console.example.com/. '?token=...' is appended. Empty: Nova's "
        "[mks] mksproxy_base_url.",
    ),
    cfg.IntOpt(
        "token_ttl",
        default=600,
        min=10,
        max=86400,
        help="Seconds for which a console URL can be opened.",
    ),
    cfg.IntOpt(
        "session_lifetime",
        default=0,
        min=0,
        help="Seconds after the request at which a session ends whatever happens; 0: never.",
    ),
    cfg.StrOpt(
        "view_role_policy",
        default="mksfilter:view-console",
        help="Name of the policy rule under which a caller who may not have a full console gets "
        "a view-only one. The rule's own default is nobody.",
    ),
    cfg.StrOpt(
        "policy_file",
        default="",
        help="Policy file (YAML) for pipelines without Nova. Inside nova-api Nova's own is used.",
    ),
]

PROXY_OPTS = [
    cfg.ListOpt(
        "allowed_origins",
        default=[],
        help="Origins (scheme://host[:port]) that may open consoles beside the proxy's own, for "
        "example the dashboard's where the page is not served by this proxy.",
    ),
    cfg.ListOpt(
        "frame_ancestors",
        default=[],
        help="Origins that may show the console page in a frame, for example Horizon's. "
        "'self' is written without quotes. Empty: none.",
    ),
    cfg.ListOpt(
        "trusted_proxies",
        default=[],
        help="Networks (CIDR) of load balancers whose X-Forwarded-For, X-Forwarded-Proto and "
        "X-Forwarded-Host are believed. Everyone else's are ignored.",
    ),
    cfg.BoolOpt(
        "proxy_protocol",
        default=False,
        help="Connections from trusted_proxies start with a PROXY protocol header (version 1 or "
        "2), as load balancers in TCP mode can send it. From anybody else it is refused.",
    ),
    cfg.StrOpt(
        "replay_cache",
        default="",
        help="Makes each token good for one connection: memcached://HOST:PORT[,HOST:PORT], "
        "redis://HOST:PORT/DB, or 'local' (once per worker process). Empty: a token may be used "
        "until it expires.",
    ),
    cfg.BoolOpt(
        "replay_cache_fail_open",
        default=False,
        help="Accept tokens while the replay cache is down. They may then be used twice.",
    ),
    cfg.IntOpt(
        "idle_timeout",
        default=0,
        min=0,
        help="Seconds without a byte from the browser after which a session ends; 0: never.",
    ),
    cfg.FloatOpt(
        "handshake_timeout",
        default=10.0,
        min=0.1,
        help="Seconds within which a client must have sent its whole request.",
    ),
    cfg.FloatOpt(
        "connect_timeout",
        default=10.0,
        min=0.1,
        help="Seconds for name look-up, TCP, TLS and the WebSocket handshake with a console host.",
    ),
    cfg.FloatOpt(
        "stall_timeout",
        default=60.0,
        min=1.0,
        help="Seconds for which a peer may refuse to read before its session ends.",
    ),
    cfg.IntOpt(
        "ping_interval",
        default=30,
        min=0,
        help="Seconds between WebSocket pings to the browser, which keep load balancers from "
        "closing idle consoles and find dead clients; 0: none.",
    ),
    cfg.IntOpt(
        "upstream_ping_interval",
        default=0,
        min=0,
        help="The same towards the console host. ESXi's answer to pings is not documented; off.",
    ),
    cfg.IntOpt(
        "max_sessions", default=5000, min=1, help="Sessions that one worker process carries."
    ),
    cfg.IntOpt(
        "max_sessions_per_instance",
        default=10,
        min=0,
        help="Sessions of one instance in one worker process; 0: no limit.",
    ),
    cfg.IntOpt(
        "max_sessions_per_user",
        default=0,
        min=0,
        help="Sessions of one user in one worker process; 0: no limit.",
    ),
    cfg.FloatOpt(
        "connection_rate",
        default=0.0,
        min=0.0,
        help="New sessions per second from one client address, averaged; bursts of ten times "
        "that pass. 0: no limit. Behind a load balancer set trusted_proxies too.",
    ),
    cfg.StrOpt(
        "take_over",
        default="refuse",
        choices=[
            ("refuse", "a machine at its console limit refuses the next one"),
            ("drop", "vCenter is asked to end the oldest console of that machine first"),
        ],
        help="What happens when a machine allows no further console (vSphere 7.0.1 and later). "
        "Only a new link takes over; a page that comes back by itself waits for a place.",
    ),
    cfg.ListOpt(
        "metrics_networks",
        default=["127.0.0.0/8", "::1/128"],
        help="Networks (CIDR) that may read /metrics. For everyone else there is no such page.",
    ),
    cfg.StrOpt(
        "healthz_disable_file",
        default="",
        help="While this file exists /healthz answers 503, so that load balancers send no new "
        "sessions here; those that are open stay.",
    ),
    cfg.StrOpt(
        "log_level",
        default="INFO",
        choices=["DEBUG", "INFO", "WARNING", "ERROR"],
        help="What the proxy logs.",
    ),
]

VCENTER_OPTS = [
    cfg.StrOpt("host", help="Host name or address of the vCenter (or of a single ESXi host)."),
    cfg.PortOpt("port", default=443, help="HTTPS port."),
    cfg.StrOpt(
        "username", help="User with System.View and VirtualMachine.Interact.ConsoleInteract."
    ),
    cfg.StrOpt("password", secret=True, help="Password. Better: password_file."),
    cfg.StrOpt("password_file", help="File that holds the password; its mode must be 0600."),
    cfg.StrOpt("ca_file", help="CA certificates (PEM) that vouch for the vCenter and its hosts."),
    cfg.StrOpt(
        "thumbprint",
        help="SHA-256 (or, for older ones, SHA-1) digest of the vCenter's certificate in hex. "
        "Takes the place of CA verification for the vCenter itself.",
    ),
    cfg.BoolOpt(
        "insecure",
        default=False,
        help="Do not verify certificates at all. Anybody on the way can then read the vCenter "
        "password and every console.",
    ),
    cfg.StrOpt(
        "backend",
        default="webmks",
        help="Kind of console: webmks (API 6.0 and later), vcenter (5.5 console proxy), mks "
        "(authd, port 902), auto (by the API version), or the name of an installed entry point "
        "of mksfilter.backends.",
    ),
    cfg.IntOpt(
        "pool_size", default=8, min=1, max=256, help="Calls in flight to this vCenter per process."
    ),
    cfg.FloatOpt("timeout", default=10.0, min=0.1, help="Seconds for one request to this vCenter."),
    cfg.StrOpt(
        "console_host",
        help="Name or address to use instead of the one a ticket names, where that cannot be "
        "reached from here. With {host} in it, short names are completed: "
        "{host}.esx.example.com. Empty: the ticket's, else the vCenter's.",
    ),
    cfg.PortOpt(
        "console_port",
        help="Port to use instead of the one a ticket names, or of the usual one of the vCenter's "
        "console proxy (5.5: 7343; 6.0: 9443). Empty: theirs.",
    ),
]

# Beside keystoneauth's own (auth_type, auth_url, username, ...), which other services' [nova] have.
NOVA_OPTS = [
    cfg.StrOpt(
        "ticket",
        default="own",
        choices=[
            ("own", "the proxy takes a ticket of its own by the instance's UUID"),
            ("issued", "it uses the authd ticket (ESXi port 902) that nova-compute was given"),
        ],
        help="Which console ticket a token of Nova's own [mks] consoles leads to.",
    ),
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """For ``oslo-config-generator`` (entry point ``oslo.config.opts``)."""
    return [
        (GROUP, [*SHARED_OPTS, *FILTER_OPTS, *PROXY_OPTS]),
        ("vcenter.NAME", list(VCENTER_OPTS)),
        (NOVA_GROUP, [*NOVA_OPTS, *_keystoneauth_opts()]),
    ]


@dataclasses.dataclass(frozen=True)
class VCenterSettings:
    """One ``[vcenter.NAME]`` group; ``password`` is already read from its file."""

    name: str
    host: str
    port: int = 443
    username: str = ""
    password: str = dataclasses.field(default="", repr=False)
    ca_file: str | None = None
    thumbprint: str | None = None
    insecure: bool = False
    backend: str = "webmks"
    pool_size: int = 8
    timeout: float = 10.0
    console_host: str | None = None
    console_port: int | None = None


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


@dataclasses.dataclass(frozen=True)
class ProxySettings:
    """What the proxy needs, vCenters aside."""

    key_repository: str
    audience: str
    clock_skew: int
    ticket_at: str
    allowed_networks: tuple[str, ...]
    session_lifetime: int
    allowed_origins: tuple[str, ...]
    frame_ancestors: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    proxy_protocol: bool
    replay_cache: str
    replay_cache_fail_open: bool
    idle_timeout: int
    handshake_timeout: float
    connect_timeout: float
    stall_timeout: float
    ping_interval: int
    upstream_ping_interval: int
    max_sessions: int
    max_sessions_per_instance: int
    max_sessions_per_user: int
    connection_rate: float
    take_over: str
    metrics_networks: tuple[str, ...]
    healthz_disable_file: str
    log_level: str
    webmks_proxy_base_url: str


@dataclasses.dataclass(frozen=True)
class NovaSettings:
    """``[nova]``: how to ask Nova about its own console tokens.

    :param adapter: a ``keystoneauth1.adapter.Adapter``; it connects at its first use.
    :param timeout: seconds within which an answer must be there, Keystone's included.
    """

    adapter: Any = dataclasses.field(repr=False)
    ticket: str = "own"
    timeout: float = 10.0


def load(config_files: Sequence[str] = ()) -> cfg.ConfigOpts:
    """Read configuration files into a fresh ``ConfigOpts`` with our options registered.

    :raises ConfigurationError: a file is missing, unreadable or not in INI form.
    """
    for path in config_files:
        if not os.access(path, os.R_OK):
            raise ConfigurationError(
                f"configuration file {path}: "
                f"{'not readable by this user' if os.path.exists(path) else 'no such file'}"
            )
    conf = cfg.ConfigOpts()
    register(conf)
    try:
        conf(
            args=[],
            project="mksfilter",
            default_config_files=list(config_files),
            default_config_dirs=[],
        )
    except (cfg.Error, OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(" ".join(str(exc).split())) from exc
    return conf


def register(conf: cfg.ConfigOpts) -> None:
    """Register group ``[mksfilter]`` on *conf*, ours or Nova's; harmless when repeated."""
    conf.register_opts([*SHARED_OPTS, *FILTER_OPTS, *PROXY_OPTS], group=GROUP)


def filter_settings(
    conf: cfg.ConfigOpts,
    local_conf: Mapping[str, str] | None = None,
    *,
    fallback_base_url: str = "",
) -> FilterSettings:
    """The filter's settings; *local_conf*, the paste section, wins over *conf*.

    :param fallback_base_url: taken when ``webmks_proxy_base_url`` is nowhere set.
    :raises ConfigurationError: an unknown option in the paste section, or a value of the wrong
        type, or no base URL at all.
    """
    values = _resolve(conf, [*SHARED_OPTS, *FILTER_OPTS], local_conf or {})
    values["webmks_proxy_base_url"] = values["webmks_proxy_base_url"] or fallback_base_url
    if not values["webmks_proxy_base_url"]:
        raise ConfigurationError(
            "webmks_proxy_base_url is not set: write the console page's URL into the filter's "
            "paste section or into [mksfilter] of the configuration file"
        )
    return _build(FilterSettings, values)


def proxy_settings(
    conf: cfg.ConfigOpts, local_conf: Mapping[str, str] | None = None
) -> ProxySettings:
    """The proxy's settings; *local_conf*, the paste section, wins over *conf*.

    :raises ConfigurationError: an unknown option in the paste section or a value of the wrong
        type.
    """
    shared = ("session_lifetime", "webmks_proxy_base_url")
    borrowed = [opt for opt in FILTER_OPTS if opt.dest in shared]
    values = _resolve(conf, [*SHARED_OPTS, *borrowed, *PROXY_OPTS], local_conf or {})
    return _build(ProxySettings, values)


def vcenter_settings(
    conf: cfg.ConfigOpts, local_conf: Mapping[str, str] | None = None
) -> tuple[VCenterSettings, ...]:
    """One entry per name in ``vcenters``, in that order.

    :raises ConfigurationError: a group or one of its required options is missing, its password
        file is unreadable or open to others, or two ways of verifying certificates are mixed.
    """
    names = _resolve(conf, SHARED_OPTS, local_conf or {}, strict=False)["vcenters"]
    return tuple(_vcenter(conf, name) for name in names)


def nova_settings(conf: cfg.ConfigOpts) -> NovaSettings | None:
    """The settings of group ``[nova]``; None when it names no way to log in.

    :raises ConfigurationError: incomplete credentials, or keystoneauth1 is not installed.
    """
    conf.register_opts(NOVA_OPTS, group=NOVA_GROUP)
    try:
        from keystoneauth1 import exceptions, loading
    except ImportError as exc:
        conf.register_opt(cfg.StrOpt("auth_type"), group=NOVA_GROUP)
        if not conf[NOVA_GROUP].auth_type:
            return None
        raise ConfigurationError(
            "[nova] needs keystoneauth1: pip install 'mksfilter[nova]'"
        ) from exc
    loading.register_auth_conf_options(conf, NOVA_GROUP)
    loading.register_session_conf_options(conf, NOVA_GROUP)
    loading.register_adapter_conf_options(conf, NOVA_GROUP)
    if not conf[NOVA_GROUP].auth_type:
        return None
    try:
        auth = loading.load_auth_from_conf_options(conf, NOVA_GROUP)
        timeout = float(conf[NOVA_GROUP].timeout or NovaSettings.timeout)
        adapter = loading.load_adapter_from_conf_options(
            conf,
            NOVA_GROUP,
            auth=auth,
            session=loading.load_session_from_conf_options(conf, NOVA_GROUP, timeout=timeout),
            service_type="compute",
        )
    except (cfg.Error, exceptions.ClientException, ValueError, TypeError) as exc:
        raise ConfigurationError(f"[nova]: {' '.join(str(exc).split())}") from exc
    if "password" in conf[NOVA_GROUP].auth_type:
        for needed in ("auth_url", "username", "password"):
            # keystoneauth itself would find out at the first console.
            if not conf[NOVA_GROUP][needed]:
                raise ConfigurationError(f"[nova] {needed} is not set")
    return NovaSettings(adapter, ticket=conf[NOVA_GROUP].ticket, timeout=timeout)


def _keystoneauth_opts() -> list[cfg.Opt]:
    try:
        from keystoneauth1 import loading
    except ImportError:
        return []
    return [
        *loading.get_auth_common_conf_options(),
        *loading.get_auth_plugin_conf_options("password"),
        *loading.get_session_conf_options(),
        *loading.get_adapter_conf_options(include_deprecated=False),
    ]


def _vcenter(conf: cfg.ConfigOpts, name: str) -> VCenterSettings:
    group = f"vcenter.{name}"
    conf.register_opts(VCENTER_OPTS, group=group)
    try:
        values = {opt.dest: conf[group][opt.dest] for opt in VCENTER_OPTS}
    except cfg.Error as exc:
        raise ConfigurationError(f"[{group}]: {' '.join(str(exc).split())}") from exc
    for required in ("host", "username"):
        if not values[required]:
            raise ConfigurationError(
                f"[{group}] {required} is not set, and vcenters names {name!r}"
            )
    password_file = values.pop("password_file")
    if password_file:
        values["password"] = _read_password(group, password_file)
    if not values["password"]:
        raise ConfigurationError(f"[{group}] password_file (or password) is not set")
    if values["insecure"] and (values["thumbprint"] or values["ca_file"]):
        raise ConfigurationError(
            f"[{group}] insecure = true contradicts thumbprint and ca_file; remove one"
        )
    return VCenterSettings(name=name, **values)


def _read_password(group: str, path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read()
    except OSError as exc:
        raise ConfigurationError(f"[{group}] password_file {path}: {exc.strerror}") from exc
    if mode & 0o077:
        raise ConfigurationError(
            f"[{group}] password_file {path} is open to others (mode {mode & 0o777:04o}); "
            f"chmod 0600 it"
        )
    return text.rstrip("\r\n")


def _resolve(
    conf: cfg.ConfigOpts,
    opts: Sequence[cfg.Opt],
    local_conf: Mapping[str, str],
    *,
    strict: bool = True,
) -> dict[str, Any]:
    known = {opt.dest: opt for opt in [*SHARED_OPTS, *FILTER_OPTS, *PROXY_OPTS]}
    if strict:
        for key in local_conf:
            if key not in known:
                raise ConfigurationError(f"paste section: unknown option {key!r}")
    values: dict[str, Any] = {}
    for opt in opts:
        try:
            if opt.dest in local_conf:
                values[opt.dest] = _parse(opt, local_conf[opt.dest])
            else:
                values[opt.dest] = conf[GROUP][opt.dest]
        except (cfg.Error, ValueError, TypeError) as exc:
            raise ConfigurationError(f"option {opt.dest}: {' '.join(str(exc).split())}") from exc
    return values


def _parse(opt: cfg.Opt, text: str) -> Any:
    kind: types.ConfigType = opt.type
    return kind(text)


def _build(cls: type[_Settings], values: dict[str, Any]) -> _Settings:
    fields = {field.name for field in dataclasses.fields(cls)}
    picked: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in values.items()
        if key in fields
    }
    return cls(**picked)
