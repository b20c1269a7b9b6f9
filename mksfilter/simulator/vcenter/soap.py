"""SOAP as vSphere speaks it: requests parsed, values and faults written. No I/O.

Values are plain Python: ``str``, ``int``, ``bool``, lists, :class:`Ref` (a managed object),
:class:`Enum` and :class:`Data` (a data object). Every element carries its ``xsi:type``, which
clients need inside property values and accept everywhere else. Source: vSphere Web Services API
reference, and what pyvmomi's ``SoapAdapter`` sends and reads.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

__all__ = [
    "Array",
    "Call",
    "Data",
    "Enum",
    "Fault",
    "Malformed",
    "Ref",
    "Value",
    "fault_response",
    "parse",
    "response",
    "version_tuple",
]

_ENVELOPE = "{http://schemas.xmlsoap.org/soap/envelope/}"
_START = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
    'xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n<soapenv:Body>\n'
)
_END = "\n</soapenv:Body>\n</soapenv:Envelope>"
_VERSION = re.compile(r"urn:vim25/([0-9.]+)")


class Malformed(ValueError):
    """The request is not a SOAP call."""


@dataclasses.dataclass(frozen=True)
class Ref:
    """A managed object reference: ``Ref("VirtualMachine", "vm-11")``."""

    type: str
    id: str


@dataclasses.dataclass(frozen=True)
class Enum:
    """A value of an enumeration: ``Enum("VirtualMachinePowerState", "poweredOn")``."""

    type: str
    value: str


class Data(dict[str, "Value"]):
    """A data object: its fields in order, and the name of its type. ``None`` fields are unset."""

    def __init__(self, type_name: str, **fields: Value) -> None:
        super().__init__(fields)
        self.type = type_name


class Array(list["Value"]):
    """A list that stands alone in a property value, where its type has to be named."""

    def __init__(self, item_type: str, items: Iterable[Value]) -> None:
        super().__init__(items)
        self.item_type = item_type


class Fault(Exception):
    """A fault to answer with: its type, the words, and the fields of its detail."""

    def __init__(self, type_name: str, message: str, **fields: Value) -> None:
        super().__init__(message)
        self.type = type_name
        self.fields = fields


Value = None | bool | int | str | datetime.datetime | Ref | Enum | Data | Array | Sequence["Value"]
"""What can be written as SOAP. None is left out; a sequence is one element per item."""


@dataclasses.dataclass(frozen=True)
class Call:
    """One method call.

    :ivar version: API version the caller speaks, from ``SOAPAction``; empty when it does not say.
    """

    method: str
    this: Ref
    version: tuple[int, ...]
    arguments: ElementTree.Element

    def text(self, name: str, default: str | None = None) -> str | None:
        """The text of argument *name*."""
        element = self.arguments.find(f"{{*}}{name}")
        return default if element is None else (element.text or "")

    def flag(self, name: str) -> bool:
        """The truth of argument *name*; absent is false."""
        return (self.text(name) or "").lower() in ("true", "1")

    def all(self, path: str) -> list[ElementTree.Element]:
        """The elements at *path*, whose steps are local names: ``specSet/objectSet/obj``."""
        return self.arguments.findall("/".join(f"{{*}}{step}" for step in path.split("/")))


def parse(body: bytes, soap_action: str = "") -> Call:
    """Read a request.

    :raises Malformed: not XML, or not an envelope with one call for a managed object.
    """
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - expat guards against expansion bombs
    except ElementTree.ParseError as exc:
        raise Malformed(str(exc)) from exc
    envelope = root.find(f"{_ENVELOPE}Body")
    call = envelope[0] if envelope is not None and len(envelope) else None
    this = None if call is None else call.find("{*}_this")
    if call is None or this is None:
        raise Malformed("no call in the body")
    match = _VERSION.search(soap_action)
    return Call(
        method=call.tag.rpartition("}")[2],
        this=Ref(this.get("type", "").rpartition(":")[2], (this.text or "").strip()),
        version=version_tuple(match[1]) if match else (),
        arguments=call,
    )


def version_tuple(version: str) -> tuple[int, ...]:
    """``"7.0.3.1"`` as numbers that compare: ``(7, 0, 3, 1)``; zeros at the end do not count."""
    numbers = [int(part) for part in version.split(".") if part.isdigit()]
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def response(method: str, value: Value = None) -> bytes:
    """The answer to *method*; a list becomes one ``returnval`` element per item."""
    values = value if isinstance(value, list) else [value]
    inner = "".join(_element("returnval", item) for item in values if item is not None)
    text = f'<{method}Response xmlns="urn:vim25">{inner}</{method}Response>'
    return (_START + text + _END).encode()


def fault_response(fault: Fault) -> bytes:
    """The body that goes with status 500."""
    inner = "".join(_element(name, value) for name, value in fault.fields.items())
    text = (
        "<soapenv:Fault><faultcode>ServerFaultCode</faultcode>"
        f"<faultstring>{escape(str(fault))}</faultstring><detail>"
        f'<{fault.type}Fault xmlns="urn:vim25" xsi:type="{fault.type}">{inner}'
        f"</{fault.type}Fault></detail></soapenv:Fault>"
    )
    return (_START + text + _END).encode()


def _element(tag: str, value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f'<{tag} xsi:type="xsd:boolean">{"true" if value else "false"}</{tag}>'
    if isinstance(value, int):
        return f'<{tag} xsi:type="xsd:int">{value}</{tag}>'
    if isinstance(value, datetime.datetime):
        return f'<{tag} xsi:type="xsd:dateTime">{value.isoformat()}</{tag}>'
    if isinstance(value, str):
        return f'<{tag} xsi:type="xsd:string">{escape(value)}</{tag}>'
    if isinstance(value, Enum):
        return f'<{tag} xsi:type="{value.type}">{value.value}</{tag}>'
    if isinstance(value, Ref):
        return (
            f'<{tag} type={quoteattr(value.type)} xsi:type="ManagedObjectReference">'
            f"{escape(value.id)}</{tag}>"
        )
    if isinstance(value, Data):
        inner = "".join(_element(name, field) for name, field in value.items())
        return f'<{tag} xsi:type="{value.type}">{inner}</{tag}>'
    if isinstance(value, Array):
        inner = "".join(_element(value.item_type, item) for item in value)
        return f'<{tag} xsi:type="ArrayOf{value.item_type}">{inner}</{tag}>'
    return "".join(_element(tag, item) for item in value)
