"""From files, directories and paste sections to settings."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from oslo_config import cfg, types

from mksfilter.config.options import (
    FILTER_OPTS,
    GROUP,
    NOVA_GROUP,
    NOVA_OPTS,
    PROXY_OPTS,
    SHARED_OPTS,
    VCENTER_OPTS,
)
from mksfilter.config.settings import (
    FilterSettings,
    NovaSettings,
    ProxySettings,
    VCenterSettings,
)
from mksfilter.exceptions import ConfigurationError

__all__ = [
    "filter_settings",
    "load",
    "nova_settings",
    "proxy_settings",
    "register",
    "vcenter_settings",
]

_Settings = TypeVar("_Settings", FilterSettings, ProxySettings)


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
