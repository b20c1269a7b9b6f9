"""Configuration: the options, the settings made of them, and where they are read from.

The rest of the package never sees oslo.config: it takes the frozen settings made here.
"""

from __future__ import annotations

from mksfilter.config.files import ConfigurationFiles, expand
from mksfilter.config.loading import (
    audit_settings,
    current_password,
    filter_settings,
    load,
    nova_settings,
    proxy_routes,
    proxy_settings,
    refuse_unknown,
    register,
    repeated,
    vcenter_faults,
    vcenter_settings,
)
from mksfilter.config.options import (
    AUDIT_OPTS,
    FILTER_OPTS,
    GROUP,
    MANAGEMENT_BIND,
    NOVA_GROUP,
    NOVA_OPTS,
    PROXY_OPTS,
    SHARED_OPTS,
    VCENTER_OPTS,
    list_opts,
)
from mksfilter.config.settings import (
    VCENTER_PLACE,
    AuditSettings,
    FilterSettings,
    NovaSettings,
    ProxyRoute,
    ProxySettings,
    VCenterSettings,
    with_vcenter,
)
from mksfilter.config.unknown import (
    FILTER,
    PROXY,
    Unknown,
    unknown_in_environment,
    unknown_in_files,
    unknown_in_section,
    unused_groups,
)

__all__ = [
    "AUDIT_OPTS",
    "FILTER",
    "FILTER_OPTS",
    "GROUP",
    "MANAGEMENT_BIND",
    "NOVA_GROUP",
    "NOVA_OPTS",
    "PROXY",
    "PROXY_OPTS",
    "SHARED_OPTS",
    "VCENTER_OPTS",
    "VCENTER_PLACE",
    "AuditSettings",
    "ConfigurationFiles",
    "FilterSettings",
    "NovaSettings",
    "ProxyRoute",
    "ProxySettings",
    "Unknown",
    "VCenterSettings",
    "audit_settings",
    "current_password",
    "expand",
    "filter_settings",
    "list_opts",
    "load",
    "nova_settings",
    "proxy_routes",
    "proxy_settings",
    "refuse_unknown",
    "register",
    "repeated",
    "unknown_in_environment",
    "unknown_in_files",
    "unknown_in_section",
    "unused_groups",
    "vcenter_faults",
    "vcenter_settings",
    "with_vcenter",
]
