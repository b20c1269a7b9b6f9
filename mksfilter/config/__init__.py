"""Configuration: the options, the settings made of them, and where they are read from.

The rest of the package never sees oslo.config: it takes the frozen settings made here.
"""

from __future__ import annotations

from mksfilter.config.loading import (
    filter_settings,
    load,
    nova_settings,
    proxy_settings,
    register,
    vcenter_settings,
)
from mksfilter.config.options import (
    FILTER_OPTS,
    GROUP,
    NOVA_GROUP,
    NOVA_OPTS,
    PROXY_OPTS,
    SHARED_OPTS,
    VCENTER_OPTS,
    list_opts,
)
from mksfilter.config.settings import (
    FilterSettings,
    NovaSettings,
    ProxySettings,
    VCenterSettings,
)

__all__ = [
    "FILTER_OPTS",
    "GROUP",
    "NOVA_GROUP",
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
    "register",
    "vcenter_settings",
]
