"""Private names of other libraries stand in the modules that docs/development.md names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

KNOWN = {
    ("api/nova.py", "_ENFORCER"),
    ("audit/messaging.py", "_send_notification"),
    ("backends/vsphere/adapter.py", "_moId"),
    ("checks/paste_loader.py", "_context_from_explicit"),
    ("backends/vsphere/adapter.py", "_GetPropertyInfo"),
    ("backends/vsphere/adapter.py", "_GetPropertyList"),
    ("backends/vsphere/adapter.py", "_lazyLock"),
    ("backends/vsphere/adapter.py", "_thread"),
    ("backends/vsphere/call_queue.py", "_thread"),
    ("proxy/relay/transport.py", "_socket"),
    ("proxy/relay/transport.py", "_sslobj"),
    ("proxy/server/connection.py", "_socket"),
    # Documented by Python for use after a fork.
    ("proxy/server/rehearsal.py", "_exit"),
    ("simulator/processes.py", "_exit"),
}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def borrowed(module: ast.Module) -> Iterator[str]:
    """Private names that a module uses of something else than its own classes."""
    own = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and _is_self(node.value):
            own.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            own.add(node.target.id)
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in own:
            yield node.attr
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.name for alias in node.names if private(alias.name))


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def test_private_names_of_others_stand_where_the_table_says() -> None:
    package = ROOT / "mksfilter"
    found = {
        (path.relative_to(package).as_posix(), name)
        for path in package.rglob("*.py")
        for name in borrowed(ast.parse(path.read_text("utf-8")))
    }
    assert found == KNOWN


def test_the_table_names_each_of_these_modules() -> None:
    table = (ROOT / "docs" / "development.md").read_text("utf-8")
    for module, name in KNOWN:
        if name != "_exit":
            assert f"`{module}`" in table, module
