"""A fault that pyvmomi cannot read, without the fields that it stumbles over.

A field that is there and empty where a number or a reference has to be, or a fault of a newer
release, ends pyvmomi's reading with an error of its own. What the fault is called, and what vCenter
says in words, is still there, and says more to an operator than that nothing was understood.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Final

from pyVmomi import vim, vmodl

__all__ = ["bare_fault"]

_TYPE: Final = "{http://www.w3.org/2001/XMLSchema-instance}type"


def bare_fault(body: bytes) -> Exception | None:
    """The fault in a SOAP answer: pyvmomi's class of that name without any field, else
    ``MethodFault`` with the name in its words. None: there is no fault in it."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - from a server whose certificate matched
    except ElementTree.ParseError:
        return None
    detail = next(root.iter("detail"), None)
    if detail is None or not len(detail):
        return None
    name = detail[0].get(_TYPE, "").rpartition(":")[2]
    said = next((element.text or "" for element in root.iter("faultstring")), "")
    fault = _known(name)
    if fault is None:
        fault, said = vmodl.MethodFault(), f"{name} {said}".strip()
    fault.msg = said
    return fault


def _known(name: str) -> vmodl.MethodFault | None:
    for package in (vim.fault, vmodl.fault):
        kind = getattr(package, name, None) if name.isalnum() else None
        if isinstance(kind, type) and issubclass(kind, vmodl.MethodFault):
            return kind()
    return None
