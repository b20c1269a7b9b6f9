"""What is remembered of pyvmomi's look-ups is what pyvmomi says, and is bounded."""

from __future__ import annotations

import io

import pytest
from pyVmomi import vim
from pyVmomi.SoapAdapter import SoapDeserializer, SoapResponseDeserializer

from mksfilter.backends.vsphere import adapter


def answer(body: str) -> io.BytesIO:
    envelope = (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
        f'<AcquireTicketResponse xmlns="urn:vim25">{body}</AcquireTicketResponse>'
        "</s:Body></s:Envelope>"
    )
    return io.BytesIO(envelope.encode())


def read(body: str) -> vim.VirtualMachine.Ticket:
    return SoapResponseDeserializer(None).Deserialize(answer(body), vim.VirtualMachine.Ticket)


@pytest.mark.parametrize("tag", ["urn:vim25 ticket", "detail", "urn:vim25 "])
def test_a_tag_is_split_as_pyvmomi_splits_it(tag: str) -> None:
    for _ in range(2):
        assert SoapDeserializer.SplitTag(tag) == adapter._split(None, tag)


def test_the_same_answer_is_read_the_same_again() -> None:
    body = "<returnval><ticket>t-1</ticket><cfgFile>a.vmx</cfgFile><port>902</port></returnval>"
    tickets = [read(body) for _ in range(2)]
    assert [(one.ticket, one.cfgFile, one.port) for one in tickets] == [("t-1", "a.vmx", 902)] * 2


@pytest.mark.parametrize("with_bases", [True, False])
def test_properties_are_listed_as_pyvmomi_lists_them(with_bases: bool) -> None:
    kind = vim.fault.NoPermission
    assert [*kind._GetPropertyList(with_bases)] == adapter._list(kind, with_bases)


@pytest.mark.parametrize("name", ["other", "x" * 300])
def test_an_unknown_element_is_an_error_each_time(name: str) -> None:
    for _ in range(2):
        with pytest.raises((AttributeError, ValueError)):
            read(f"<returnval><{name}>1</{name}></returnval>")


def test_nothing_is_remembered_of_a_name_that_is_too_long() -> None:
    before = SoapDeserializer.SplitTag.cache_info().currsize
    with pytest.raises(ValueError, match="too long"):
        SoapDeserializer.SplitTag("x" * 300)
    assert SoapDeserializer.SplitTag.cache_info().currsize == before
