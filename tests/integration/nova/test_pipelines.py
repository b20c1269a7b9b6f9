"""Pipelines as deployers have them: Nova's policy counts whatever stands around the filter."""

from __future__ import annotations

import pytest

from . import servers

MKS = {"remote_console": {"protocol": "mks", "type": "webmks"}}

AUDIT = """\
[filter:audit]
paste.filter_factory = keystonemiddleware.audit:filter_factory
"""
DRIVER = "[audit_middleware_notifications]\ndriver = log\n"


@pytest.fixture(scope="module")
def audited(stack, filtered_paste, options):
    """keystonemiddleware's audit between the filter and Nova's API, which it hides."""
    paste = filtered_paste.replace(
        "mksfilter osapi_compute_app_v21", "mksfilter audit osapi_compute_app_v21"
    )
    assert paste.count("mksfilter audit osapi") == 2
    api = stack.nova_api(f"{paste}\n{AUDIT}", "audited", options=options + DRIVER)
    yield api
    api.stop()


def test_behind_audit_novas_policy_still_counts(ask, audited, policy):
    path = f"/servers/{servers.WEB}/remote-consoles"
    assert ask("member", path, MKS, api=audited).status_code == 200

    policy({"os_compute_api:os-remote-consoles": "role:admin"})

    assert ask("member", path, MKS, api=audited).status_code == 403
    assert ask("admin", path, MKS, api=audited).status_code == 200


def test_behind_audit_the_log_tells_the_mode_and_what_is_passed_by(audited):
    logged = audited.logged()
    assert "event=filter-ready api=nova" in logged
    assert "event=filter-not-last next=keystonemiddleware.audit.AuditMiddleware" in logged


def test_before_authtoken_nobody_gets_a_console(ask, stack, filtered_paste, options):
    paste = filtered_paste.replace(" mksfilter osapi", " osapi").replace(
        "authtoken keystonecontext", "mksfilter authtoken keystonecontext"
    )
    assert paste.count("mksfilter authtoken") == 2
    api = stack.nova_api(paste, "before", options=options)
    try:
        answer = ask("reader", f"/servers/{servers.WEB}/remote-consoles", MKS, api=api)
        assert answer.status_code in (401, 403)
    finally:
        api.stop()
