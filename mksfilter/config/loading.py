"""From files, directories and paste sections to settings."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import logging
import math
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from oslo_config import cfg, types

from mksfilter import extras
from mksfilter.config.files import ConfigurationFiles, expand, files_of
from mksfilter.config.options import (
    AUDIT_OPTS,
    FILTER_OPTS,
    GROUP,
    NOVA_GROUP,
    NOVA_OPTS,
    PROXY_OPTS,
    SHARED_OPTS,
    VCENTER_OPTS,
)
from mksfilter.config.settings import (
    VCENTER_PLACE,
    AuditSettings,
    FilterSettings,
    NovaSettings,
    ProxyRoute,
    ProxySettings,
    VCenterSettings,
)
from mksfilter.config.unknown import (
    FILTER,
    PROXY,
    Role,
    unknown_in_environment,
    unknown_in_files,
    unknown_in_nova,
    unknown_in_section,
    unused_groups,
)
from mksfilter.exceptions import ConfigurationError
from mksfilter.log import event
from mksfilter.private_files import file_fault, place_of
from mksfilter.tcp import unbracketed

__all__ = [
    "Refused",
    "audit_settings",
    "current_password",
    "filter_settings",
    "load",
    "nova_settings",
    "proxy_routes",
    "proxy_settings",
    "refuse_unknown",
    "register",
    "repeated",
    "vcenter_faults",
    "vcenter_settings",
]

#: Of a password. None of it can stand in vCenter's XML, or was typed on purpose.
_NO_PASSWORD = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ufeff]")
_REQUIRED = ("host", "username", "password")

LOG = logging.getLogger(__name__)

_Settings = TypeVar("_Settings", FilterSettings, ProxySettings)


class Refused(Protocol):
    """Hears of a value that is refused."""

    def __call__(self, option: str, words: str, *, in_section: bool) -> None:
        """:param in_section: it stands in the paste section, not in a configuration file."""


def load(config_files: Sequence[str] = ()) -> cfg.ConfigOpts:
    """Read configuration files into a fresh ``ConfigOpts`` with our options registered.

    :param config_files: files, later ones winning; a directory stands for its ``*.conf``, sorted.
    :raises ConfigurationError: a file is missing, unreadable or not in INI form.
    """
    files = expand(config_files)
    conf = cfg.ConfigOpts()
    register(conf)
    try:
        conf(
            args=[],
            project="mksfilter",
            default_config_files=files,
            default_config_dirs=[],
        )
    except (cfg.Error, OSError, UnicodeDecodeError) as exc:
        if isinstance(exc, UnicodeDecodeError):
            ConfigurationFiles(files)  # says which of them it is
        raise ConfigurationError(" ".join(str(exc).split())) from exc
    return conf


def register(conf: cfg.ConfigOpts) -> None:
    """Register group ``[mksfilter]`` on *conf*, ours or Nova's; harmless when repeated."""
    conf.register_opts([*SHARED_OPTS, *AUDIT_OPTS, *FILTER_OPTS, *PROXY_OPTS], group=GROUP)


def refuse_unknown(
    local_conf: Mapping[str, str],
    role: Role,
    *,
    conf: cfg.ConfigOpts | None = None,
    paste_file: str = "",
) -> None:
    """Refuse what nobody would read: in a paste section, and in our groups of *conf*'s files.

    The filter and the proxy call it at their start. A ``[vcenter.NAME]`` that ``vcenters`` does
    not name is logged.

    :param local_conf: the paste section's options, without those that its factory took out.
    :param paste_file: where it stands, as far as that is known.
    :raises ConfigurationError: all of them, in one line.
    """
    where = f"{paste_file}: paste section" if paste_file else "paste section"
    found = list(unknown_in_section(where, local_conf, role))
    if conf is not None:
        # Nova has read them already; what it could not read it has said.
        with contextlib.suppress(ConfigurationError):
            files = ConfigurationFiles(files_of(conf))
            found += [*unknown_in_files(files), *unknown_in_environment()]
            names = _resolve(conf, SHARED_OPTS, local_conf, _Refused())["vcenters"]
            for unused in unused_groups(files, names):
                LOG.warning(event("vcenter-unused", detail=unused))
    if found:
        raise ConfigurationError("; ".join(map(str, found)))


def filter_settings(
    conf: cfg.ConfigOpts,
    local_conf: Mapping[str, str] | None = None,
    *,
    fallback_base_url: str = "",
    paste_file: str = "",
    refused: Refused | None = None,
) -> FilterSettings:
    """The filter's settings; *local_conf*, the paste section, wins over *conf*.

    :param fallback_base_url: taken when ``webmks_proxy_base_url`` is nowhere set.
    :param paste_file: for the words of an error.
    :param refused: is called for each value that is refused, in place of an error; its default is
        then used, and unknown options are passed over.
    :raises ConfigurationError: an unknown option, a value of the wrong type, or no base URL.
    """
    section = local_conf or {}
    if refused is None:
        refuse_unknown(section, FILTER, conf=conf, paste_file=paste_file)
    values = _resolve(conf, [*SHARED_OPTS, *FILTER_OPTS], section, refused or _raise(conf))
    values["webmks_proxy_base_url"] = values["webmks_proxy_base_url"] or fallback_base_url
    if not values["webmks_proxy_base_url"]:
        raise ConfigurationError(
            "webmks_proxy_base_url is not set: write the console page's URL into the filter's "
            "paste section or into [mksfilter] of the configuration file"
        )
    values["routes"] = () if refused else proxy_routes(conf, section)
    return _build(FilterSettings, values)


def proxy_settings(
    conf: cfg.ConfigOpts,
    local_conf: Mapping[str, str] | None = None,
    *,
    paste_file: str = "",
    refused: Refused | None = None,
) -> ProxySettings:
    """The proxy's settings; *local_conf*, the paste section, wins over *conf*.

    :param paste_file: for the words of an error.
    :param refused: as for :func:`filter_settings`.
    :raises ConfigurationError: an unknown option or a value of the wrong type.
    """
    section = local_conf or {}
    if refused is None:
        refuse_unknown(section, PROXY, conf=conf, paste_file=paste_file)
    # The filter's are read too: a file for both sides is right on both, or on neither.
    values = _resolve(
        conf, [*SHARED_OPTS, *FILTER_OPTS, *PROXY_OPTS], section, refused or _raise(conf)
    )
    url = values["webmks_proxy_base_url"]
    routes = () if refused else proxy_routes(conf, section)
    if len(routes) == 1:
        url = values["webmks_proxy_base_url"] = routes[0].url(url)
    if VCENTER_PLACE in url and refused is None:
        raise ConfigurationError(
            f"webmks_proxy_base_url {url} has {VCENTER_PLACE}, and this proxy serves "
            f"{len(routes)} vCenters: write the URL of this proxy"
        )
    return _build(ProxySettings, values)


def audit_settings(
    conf: cfg.ConfigOpts,
    local_conf: Mapping[str, str] | None = None,
    *,
    refused: Refused | None = None,
) -> AuditSettings:
    """Where audit events go; *local_conf*, the paste section, wins over *conf*.

    :param refused: as for :func:`filter_settings`.
    :raises ConfigurationError: a value of the wrong type.
    """
    register(conf)
    values = _resolve(conf, AUDIT_OPTS, local_conf or {}, refused or _raise(conf))
    if values["audit_fail_closed"] and not any(
        values[place] for place in ("audit_file", "audit_syslog", "audit_transport_url")
    ):
        (refused or _raise(conf))(
            "audit_fail_closed",
            "there is no place to keep events in; set audit_file, audit_syslog or "
            "audit_transport_url",
            in_section="audit_fail_closed" in (local_conf or {}),
        )
    named = {name.removeprefix("audit_"): value for name, value in values.items()}
    return AuditSettings(conf=conf, **named)


def vcenter_settings(
    conf: cfg.ConfigOpts, local_conf: Mapping[str, str] | None = None
) -> tuple[VCenterSettings, ...]:
    """One entry per name in ``vcenters``, in that order.

    :raises ConfigurationError: a group or one of its required options is missing, its password
        file is unreadable or open to others, or two ways of verifying certificates are mixed.
    """
    names = _resolve(conf, SHARED_OPTS, local_conf or {}, _raise(conf))["vcenters"]
    if twice := repeated(names):
        raise ConfigurationError(f"vcenters names {twice!r} twice")
    settings = []
    for name in names:
        faults: list[str] = []
        settings.append(_vcenter(conf, name, faults))
        if faults:
            raise ConfigurationError("; ".join(faults))
    return tuple(settings)


def repeated(names: Sequence[str]) -> str:
    """The first of *names* that is there before; empty: none is. The case of a group's name makes
    no difference to oslo.config."""
    lower = [name.lower() for name in names]
    return next((name for at, name in enumerate(names) if name.lower() in lower[:at]), "")


def vcenter_faults(conf: cfg.ConfigOpts, name: str) -> list[str]:
    """What is wrong with group ``[vcenter.NAME]``, all of it, a line each."""
    faults: list[str] = []
    _vcenter(conf, name, faults)
    return faults


def proxy_routes(
    conf: cfg.ConfigOpts, local_conf: Mapping[str, str] | None = None
) -> tuple[ProxyRoute, ...]:
    """Of each name in ``vcenters`` what tells where its consoles are; the rest is not read.

    :raises ConfigurationError: a URL without the UUID that it is chosen by, or not a UUID.
    """
    vcenters = [opt for opt in SHARED_OPTS if opt.dest == "vcenters"]
    names = _resolve(conf, vcenters, local_conf or {}, _raise(conf))["vcenters"]
    return tuple(_route(conf, name) for name in names)


def _route(conf: cfg.ConfigOpts, name: str) -> ProxyRoute:
    group = f"vcenter.{name}"
    conf.register_opts(VCENTER_OPTS, group=group)
    values: dict[str, str] = {}
    for option in ("instance_uuid", "webmks_proxy_base_url"):
        try:
            values[option] = conf[group][option] or ""
        except cfg.Error as exc:
            raise ConfigurationError(f"[{group}] {option}: {_words(exc)}") from None
    return ProxyRoute(
        name=name,
        instance_uuid=values["instance_uuid"].lower(),
        base_url=values["webmks_proxy_base_url"],
    )


def nova_settings(conf: cfg.ConfigOpts) -> NovaSettings | None:
    """The settings of group ``[nova]``; None when it names no way to log in.

    :raises ConfigurationError: incomplete credentials, or keystoneauth1 is not installed.
    """
    conf.register_opts(NOVA_OPTS, group=NOVA_GROUP)
    try:
        with extras.needed("[nova]"):
            from keystoneauth1 import exceptions, loading
    except ConfigurationError:
        conf.register_opt(cfg.StrOpt("auth_type"), group=NOVA_GROUP)
        if not conf[NOVA_GROUP].auth_type:
            return None
        raise
    loading.register_auth_conf_options(conf, NOVA_GROUP)
    loading.register_session_conf_options(conf, NOVA_GROUP)
    loading.register_adapter_conf_options(conf, NOVA_GROUP)
    _refuse_unknown_in_nova(conf)
    if not conf[NOVA_GROUP].auth_type:
        return None
    if mangled := _mangled(conf, NOVA_GROUP):
        raise ConfigurationError(f"[nova] password {mangled}")
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
        raise ConfigurationError(f"[nova]: {_words(exc)}") from None
    if "password" in conf[NOVA_GROUP].auth_type:
        for needed in ("auth_url", "username", "password"):
            # keystoneauth itself would find out at the first console.
            if not conf[NOVA_GROUP][needed]:
                raise ConfigurationError(f"[nova] {needed} is not set")
    ca_file, insecure = conf[NOVA_GROUP].console_ca_file, conf[NOVA_GROUP].console_insecure
    if ca_file and insecure:
        raise ConfigurationError(
            "[nova] console_insecure = true contradicts console_ca_file; remove one"
        )
    if ca_file:
        try:
            ssl.create_default_context(cafile=ca_file)
        except OSError as exc:  # ssl.SSLError is one
            raise ConfigurationError(
                f"[nova] console_ca_file {ca_file} cannot be used: {exc.strerror or exc}"
            ) from exc
    return NovaSettings(
        adapter,
        ticket=conf[NOVA_GROUP].ticket,
        timeout=timeout,
        console_ca_file=ca_file or None,
        console_insecure=insecure,
    )


def _refuse_unknown_in_nova(conf: cfg.ConfigOpts) -> None:
    """:raises ConfigurationError: ``[nova]`` holds what neither we nor keystoneauth reads."""
    from keystoneauth1 import exceptions, loading

    try:
        opts = [
            *NOVA_OPTS,
            *loading.get_auth_common_conf_options(),
            *loading.get_session_conf_options(),
            *loading.get_adapter_conf_options(),
            *loading.get_auth_plugin_conf_options(conf[NOVA_GROUP].auth_type or "password"),
        ]
    except exceptions.ClientException:
        return  # the kind of log-in is unknown, which is told when it is loaded
    known = {
        name.replace("-", "_")
        for opt in opts
        for name in (opt.dest, *(old.name for old in opt.deprecated_opts if old.name))
    }
    written: list[str] = []
    with contextlib.suppress(ConfigurationError):
        files = ConfigurationFiles(files_of(conf))
        written = [name for group in files.named(NOVA_GROUP) for name in group.options]
    if found := list(unknown_in_nova(written, known)):
        raise ConfigurationError("; ".join(map(str, found)))


def _vcenter(conf: cfg.ConfigOpts, name: str, faults: list[str]) -> VCenterSettings:
    group = f"vcenter.{name}"
    conf.register_opts(VCENTER_OPTS, group=group)
    values: dict[str, Any] = {}
    mangled = _mangled(conf, group, "password_file")
    for opt in VCENTER_OPTS:
        if opt.dest == "password" and mangled:
            values[opt.dest] = "?"  # what it is taken for may be told by its own error
            continue
        try:
            values[opt.dest] = conf[group][opt.dest]
            _require_sound(opt, values[opt.dest])
        except (cfg.Error, ValueError) as exc:
            faults.append(f"[{group}] option {opt.dest}: {_words(exc)}")
            # Not None: it is set, if not well.
            values[opt.dest] = opt.default or ("?" if opt.dest in _REQUIRED else None)
    for required in ("host", "username"):
        if not values[required]:
            faults.append(f"[{group}] {required} is not set, and vcenters names {name!r}")
    for option in ("host", "console_host"):
        values[option] = values[option] and unbracketed(values[option])
        if values[option] and not _is_host(values[option].replace("{host}", "host")):
            # Not the value: a URL may hold a password.
            faults.append(
                f"[{group}] {option} is not the name or address of a host alone; its port stands "
                f"in {option.removesuffix('host')}port"
            )
    password_file = values["password_file"]
    if password_file:
        values["password"] = _read_password(group, password_file, faults)
    elif mangled:
        faults.append(f"[{group}] password {mangled}")
    if not values["password"]:
        faults.append(f"[{group}] password_file (or password) is not set")
    if values["insecure"] and (values["thumbprint"] or values["ca_file"]):
        faults.append(f"[{group}] insecure = true contradicts thumbprint and ca_file; remove one")
    return VCenterSettings(name=name, **values)


def current_password(vcenter: VCenterSettings) -> str:
    """The password as it is written now, where a file holds it.

    :raises ConfigurationError: the file cannot be read, or is open to others.
    """
    if not vcenter.password_file:
        return vcenter.password
    faults: list[str] = []
    password = _read_password(f"vcenter.{vcenter.name}", vcenter.password_file, faults)
    if faults:
        raise ConfigurationError("; ".join(faults))
    if not password:
        raise ConfigurationError(f"[vcenter.{vcenter.name}] password_file is empty")
    return password


def _is_host(text: str) -> bool:
    if ":" not in text:
        return re.fullmatch(r"[^\s/@?#\[\]{}]+", text) is not None
    with contextlib.suppress(ValueError):
        return bool(ipaddress.IPv6Address(text))
    return False


def _mangled(conf: cfg.ConfigOpts, group: str, file_option: str = "") -> str:
    """Why oslo.config takes the password of *group* for another one than is written; ``""``: it
    does not."""
    with contextlib.suppress(ConfigurationError):
        return ConfigurationFiles(files_of(conf)).mangled(
            group, "password", file_option=file_option
        )
    return ""


def _read_password(group: str, path: str, faults: list[str]) -> str:
    """The password; where it cannot be had, a fault more and something that is not empty."""
    named = f"[{group}] password_file"
    try:
        place = place_of(os.path.dirname(path) or ".")
        found = os.path.join(place.path, os.path.basename(path)) if place.volume else path
        with open(found, encoding="utf-8") as file:
            info = os.fstat(file.fileno())
            # Root reads what is kept for another user.
            fault = place.fault or file_fault(info, path, volume=place.volume, owner=info.st_uid)
            if not fault:
                password = file.read().rstrip("\r\n")
                if not _NO_PASSWORD.search(password):
                    return password
                # Each log-in that vCenter refuses brings its lock-out nearer.
                fault = (
                    f"{path}: holds more than one line of text (a byte order mark, a second line, "
                    f"a control character); write the password alone"
                )
    except OSError as exc:
        fault = f"{path}: {exc.strerror}"
    except UnicodeDecodeError:
        fault = f"{path}: not UTF-8"
    faults.append(f"{named} {fault}")
    return "?"


class _Refused:
    """Passes over what is refused."""

    def __call__(self, option: str, words: str, *, in_section: bool) -> None:
        pass


def _raise(conf: cfg.ConfigOpts) -> Refused:
    def refused(option: str, words: str, *, in_section: bool) -> None:
        where = "paste section"
        if not in_section:
            with contextlib.suppress(ConfigurationError):
                where = ConfigurationFiles(files_of(conf)).where(GROUP, option)
        raise ConfigurationError(f"{where}: option {option}: {words}")

    return refused


def _resolve(
    conf: cfg.ConfigOpts,
    opts: Sequence[cfg.Opt],
    local_conf: Mapping[str, str],
    refused: Refused,
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for opt in opts:
        in_section = opt.dest in local_conf
        try:
            if in_section:
                values[opt.dest] = _parse(opt, local_conf[opt.dest])
            else:
                values[opt.dest] = conf[GROUP][opt.dest]
            _require_sound(opt, values[opt.dest])
        except (cfg.Error, ValueError, TypeError) as exc:
            refused(opt.dest, _words(exc), in_section=in_section)
            values[opt.dest] = opt.default
    return values


def _words(exc: Exception) -> str:
    """What a value is refused with, without what oslo.config says about its origin."""
    if isinstance(exc, cfg.NoSuchOptError):
        # Not its name: in a password it would be a part of the secret.
        return "refers with '$' to an option that there is not; a '$' itself is written '$$'"
    text = " ".join(str(exc).split())
    return text.partition(" is not valid: ")[2] or text


def _require_sound(opt: cfg.Opt, value: Any) -> None:
    """oslo.config takes an empty number for none at all, and ``nan`` for one.

    :raises ValueError: it is such a value.
    """
    if value is None and opt.default is not None:
        raise ValueError("is empty; write a value, or remove it")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("is not a finite number")


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
