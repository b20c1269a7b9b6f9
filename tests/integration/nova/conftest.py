"""One Keystone, one set of databases, and two nova-api: as shipped, and with the filter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import Claims, TokenCodec
from mksfilter.simulator.processes import Children

from . import stack as stacks
from .servers import SERVERS

PROXY = "https://console.example.com/"

#: ``[filter:mksfilter]`` as we ship it, with the one line that an operator adds.
SHIPPED = stacks.ROOT / "etc" / "api-paste.ini"

OPTIONS = """\
[mksfilter]
key_repository = {keys}
audience = integration
# No node of these databases is named as the VMware driver would, but one.
vsphere_hosts = *
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this directory is `integration`, and its first test waits for the set-up."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def environment() -> stacks.Environment:
    environment = stacks.Environment()
    environment.make()
    return environment


@pytest.fixture(scope="session")
def children() -> Iterator[Children]:
    with Children() as started:
        yield started


@pytest.fixture(scope="session")
def stack(
    environment: stacks.Environment,
    children: Children,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[stacks.Stack]:
    stack = stacks.Stack(environment, tmp_path_factory.mktemp("nova"), children)
    stack.start(SERVERS)
    yield stack
    stack.close()


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("nova-keys") / "keys"
    KeyRepository(str(directory)).setup()
    return directory


@pytest.fixture(scope="session")
def options(keys: Path) -> str:
    """``[mksfilter]`` of nova.conf."""
    return OPTIONS.format(keys=keys)


@pytest.fixture(scope="session")
def filtered_paste(stack: stacks.Stack) -> str:
    _, heading, section = SHIPPED.read_text().partition("[filter:mksfilter]\n")
    assert heading
    return stacks.with_filter(
        stack.stock_paste(), f"{heading}{section}webmks_proxy_base_url = {PROXY}"
    )


@pytest.fixture(scope="session")
def native(stack: stacks.Stack) -> stacks.Service:
    """Nova as shipped."""
    return stack.nova_api(stack.stock_paste(), "native")


@pytest.fixture(scope="session")
def nova_api(stack: stacks.Stack, filtered_paste: str, options: str) -> stacks.Service:
    """Nova with the filter in its pipelines; the one in the catalogue."""
    return stack.nova_api(filtered_paste, options=options)


@pytest.fixture
def ask(stack: stacks.Stack, nova_api: stacks.Service) -> Callable[..., requests.Response]:
    """``ask("member", "/servers/…", {…})``: POST to the filtered API, microversion 2.8."""

    def post(
        user: str,
        path: str,
        body: Any,
        *,
        version: str | None = "2.8",
        prefix: str = "/v2.1",
        api: stacks.Service = nova_api,
    ) -> requests.Response:
        headers = {"X-Auth-Token": stack.token(user)}
        if version:
            headers["OpenStack-API-Version"] = f"compute {version}"
        return requests.post(f"{api.url}{prefix}{path}", json=body, headers=headers, timeout=60)

    return post


@pytest.fixture
def claims_of(keys: Path) -> Callable[[str], Claims]:
    """What the token in a console URL says, as a proxy of this deployment reads it."""
    codec = TokenCodec(KeyRepository(str(keys)), "integration")

    def read(url: str) -> Claims:
        return codec.verify(url.partition("token=")[2].partition("&")[0])

    return read


@pytest.fixture
def policy(stack: stacks.Stack) -> Iterator[Callable[[dict[str, str]], None]]:
    """Overrides of policy.yaml, taken back after the test."""
    yield stack.set_policy
    stack.set_policy({})
