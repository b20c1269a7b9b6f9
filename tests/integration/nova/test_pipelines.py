"""Pipelines as deployers have them: Nova's policy counts whatever stands around the filter."""

from __future__ import annotations

import pytest
import requests

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


def test_without_keys_only_consoles_are_unavailable_where_the_operator_says_so(
    ask, stack, filtered_paste, options, tmp_path
):
    keys = next(line for line in options.splitlines() if line.startswith("key_repository"))
    options = options.replace(
        keys, f"key_repository = {tmp_path / 'none'}\nstart_without_keys = true"
    )
    api = stack.nova_api(filtered_paste, "keyless", options=options)
    try:
        path = f"/servers/{servers.WEB}/remote-consoles"
        answer = ask("member", path, MKS, api=api)
        refused = ask("reader", path, MKS, api=api)
        headers = {"X-Auth-Token": stack.token("member")}
        shown = requests.get(f"{api.url}/v2.1/servers", headers=headers, timeout=60)
    finally:
        api.stop()

    assert answer.status_code == 503
    assert answer.json()["serviceUnavailable"]["message"] == (
        "The console service is not available at the moment. Try again later."
    )
    assert refused.status_code == 403
    assert shown.status_code == 200
    assert "ERROR mksfilter.filter" in api.logged()
    assert "event=keys-unusable" in api.logged()
    assert "Traceback" not in api.logged()
