"""``etc/kubernetes`` as ``kubectl`` renders it: valid, and what it promises holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.request import ConsoleRequest
from mksfilter.simulator.client import WEB_1
from tests.support.proxy import start_proxy
from tests.support.source import ROOT
from tests.support.volume import Volume

KUBERNETES = ROOT / "etc" / "kubernetes"
#: The oldest that has all of it, and the newest that there are schemas for.
RELEASES = ("1.28", kubernetes_validate.latest_version())

Object = dict[str, Any]


def kubectl() -> str:
    found = shutil.which("kubectl", path=f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")
    assert found, "kubectl is missing; make setup installs it"
    return found


def render(directory: Path) -> str:
    """What ``kubectl apply -k`` would apply."""
    done = subprocess.run(
        [kubectl(), "kustomize", directory], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def rendered() -> dict[str, Object]:
    """The objects of the example, by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all(render(KUBERNETES / "example"))}


@pytest.fixture
def pod(rendered: dict[str, Object]) -> Object:
    spec: Object = rendered["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: Object) -> Object:
    (only,) = pod["containers"]
    return dict(only)


@pytest.mark.parametrize("release", RELEASES)
def test_every_object_is_valid(rendered, release):
    assert len(rendered) == 7
    for each in rendered.values():
        kubernetes_validate.validate(each, release, strict=True)
        assert each["metadata"]["namespace"] == "consoles"


def test_the_schemas_would_see_a_misspelt_field(rendered):
    wrong = {**rendered["PodDisruptionBudget"], "spec": {"maxUnavailabel": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASES[0], strict=True)


def test_every_selector_finds_the_pods(rendered):
    labels = rendered["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        rendered["Deployment"]["spec"]["selector"]["matchLabels"],
        rendered["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        rendered["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        rendered["Service"]["spec"]["selector"],
    ]
    pod = rendered["Deployment"]["spec"]["template"]["spec"]
    (affinity,) = pod["affinity"]["podAntiAffinity"].popitem()[1]
    selectors.append(affinity["podAffinityTerm"]["labelSelector"]["matchLabels"])
    selectors += [each["labelSelector"]["matchLabels"] for each in pod["topologySpreadConstraints"]]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()
    target = rendered["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == rendered["Deployment"]["metadata"]["name"]


def test_a_pod_has_no_root_no_capability_and_nothing_to_write_to(pod, container):
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    writable = [each["name"] for each in container["volumeMounts"] if not each.get("readOnly")]
    assert writable == ["tmp"]


def test_the_secrets_follow_a_rotation_and_only_the_pod_reads_them(pod, container):
    assert all("subPath" not in mount for mount in container["volumeMounts"])
    secrets = [each["secret"] for each in pod["volumes"] if "secret" in each]
    # A plain name: no digest that would restart the pods with each rotation.
    assert [each["secretName"] for each in secrets] == ["mksproxy-keys", "mksproxy-vcenter"]
    assert all(each["defaultMode"] == 0o440 for each in secrets)
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]


def test_probes_ask_the_management_listener_and_the_service_does_not_lead_there(
    rendered, container
):
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    for probe, path in (("startup", "/livez"), ("liveness", "/livez"), ("readiness", "/readyz")):
        get = container[f"{probe}Probe"]["httpGet"]
        assert (get["path"], ports[get["port"]]) == (path, 6091)
    (port,) = rendered["Service"]["spec"]["ports"]
    assert ports[port["targetPort"]] == 6090


def test_pods_are_counted_by_a_metric_that_there_is(rendered, proxy):
    (metric,) = rendered["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert proxy.metric(metric["pods"]["metric"]["name"]) >= 0


def test_the_container_serves_with_its_configuration_and_keys_rotate_inside_it(
    rendered, container, tmp_path, vsphere
):
    """What the pod runs, on directories as the kubelet makes them."""
    repository = tmp_path / "made"
    KeyRepository(str(repository)).setup()
    keys = Volume(tmp_path / "keys", files(repository))
    settings = vsphere.vcenter_settings()
    authority = Path(settings.ca_file).read_text()
    secrets = {"password": settings.password, "ca.pem": authority}
    vcenter = Volume(tmp_path / "vcenter", secrets)
    moved = {
        "/run/secrets/mksfilter/keys": str(keys.path),
        "/run/secrets/mksfilter/vcenter": str(vcenter.path),
        "host = vcenter.example.com": f"host = {settings.host}\nport = {settings.port}",
        "username = mksfilter@vsphere.local": f"username = {settings.username}",
        "0.0.0.0:6091": "127.0.0.1:0",
        # The simulated hosts are on this machine, and nobody stands in front of the proxy.
        "audience = mksfilter": "audience = mksfilter\nallowed_networks = 127.0.0.0/8",
        "https://console.example.com/": "",
    }
    written = {}
    for name, text in rendered["ConfigMap"]["data"].items():
        for old, new in moved.items():
            text = text.replace(old, new)
        written[name] = text
    config = Volume(tmp_path / "config", written, mode=0o444)
    serve, bind, *arguments = container["args"]
    assert (serve, bind) == ("serve", "--bind=0.0.0.0:6090")
    arguments = [each.replace("/etc/mksfilter", str(config.path)) for each in arguments]
    with start_proxy((), *arguments) as proxy:
        before = token(keys.path)
        KeyRepository(str(repository)).rotate()
        keys.replace(files(repository))
        for link in (token(keys.path), before):
            with proxy.viewer(link) as viewer:
                assert viewer.name == "web-1"


def files(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def token(keys: Path) -> str:
    """As nova-api makes it, which has the same Secret."""
    codec = TokenCodec(KeyRepository(str(keys)), audience="mksfilter")
    return codec.issue(ConsoleRequest(WEB_1, mode="full"), ttl=600).token
