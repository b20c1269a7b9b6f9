"""Run in Horizon's environment: log in, and get a console as its "Console" tab does.

    python horizon_console.py INSTANCE CONSOLE_TYPE

Prints a JSON list: which type it is, and the URL that Horizon shows in a frame. ``OS_*`` say who
asks.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

import django
from django.conf import settings

SETTINGS = {
    "SECRET_KEY": "of a test",
    "ALLOWED_HOSTS": ["*"],
    "OPENSTACK_KEYSTONE_URL": os.environ["OS_AUTH_URL"],
    "CACHES": {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
    "INSTALLED_APPS": [
        "openstack_dashboard",
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django.contrib.sessions",
        "horizon",
        "openstack_auth",
    ],
    "AUTHENTICATION_BACKENDS": ["openstack_auth.backend.KeystoneBackend"],
    "AUTH_USER_MODEL": "openstack_auth.User",
    "USE_TZ": True,
}


def main(instance_id: str, console_type: str) -> None:
    defaults: dict[str, object] = {}
    for package in ("horizon", "openstack_auth", "openstack_dashboard"):
        module = importlib.import_module(f"{package}.defaults")
        defaults |= {name: value for name, value in vars(module).items() if name.isupper()}
    kinds = importlib.import_module("openstack_dashboard.exceptions")
    defaults["HORIZON_CONFIG"] = {
        "exceptions": {
            "recoverable": kinds.RECOVERABLE,
            "not_found": kinds.NOT_FOUND,
            "unauthorized": kinds.UNAUTHORIZED,
        }
    }
    settings.configure(**{**defaults, **SETTINGS})
    django.setup()
    from django.contrib.auth import authenticate
    from django.contrib.sessions.backends.cache import SessionStore
    from django.test import RequestFactory
    from openstack_dashboard import api
    from openstack_dashboard.dashboards.project.instances import console

    request = RequestFactory().get("/project/instances/")
    request.session = SessionStore()
    request.user = authenticate(
        request=request,
        username=os.environ["OS_USERNAME"],
        password=os.environ["OS_PASSWORD"],
        user_domain_name="Default",
        auth_url=os.environ["OS_AUTH_URL"],
    )
    instance = api.nova.server_get(request, instance_id)
    print(json.dumps(console.get_console(request, console_type, instance)))


main(*sys.argv[1:])
