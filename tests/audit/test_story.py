"""One console is followed through the files of all nodes, and nobody else's with it."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from mksfilter.audit.events import AuditEvent
from mksfilter.audit.reading import parse, read
from mksfilter.audit.story import Wanted, follow, summary
from mksfilter.exceptions import OperationError

_numbers = itertools.count()


def happened(time: float, action: str, service: str = "proxy", **fields: Any) -> AuditEvent:
    node = fields.pop("node", "node1")
    return AuditEvent(action, service, node, f"{next(_numbers):032x}", time, **fields)


def life(session: str, request: str, instance: str, start: float = 0.0) -> list[AuditEvent]:
    """A console that returns twice, each time on another node."""
    facts = {"session": session, "request": request, "instance": instance, "user": f"u-{session}"}
    told = [happened(start, "asked", "api", node="api1", **facts)]
    for number, (action, end) in enumerate(
        [("opened", "moved"), ("resumed", "moved"), ("resumed", "ended")]
    ):
        connection = {"connection": f"{session}-{number}", "node": f"node{number}"}
        at = start + 10 * number + 1
        told.append(happened(at, action, **facts, **connection))
        told.append(
            happened(
                at + 9, end, **facts, **connection,
                began=at, seconds=9.0, bytes_in=1, bytes_out=2, reason="upstream-lost",
            )
        )  # fmt: skip
    return told


def actions(events: list[AuditEvent]) -> list[str]:
    return [event.action for event in events]


MINE, OTHER = life("s1", "req-1", "i1"), life("s2", "req-2", "i2", 0.5)
WHOLE = ["asked", "opened", "moved", "resumed", "moved", "resumed", "ended"]


@pytest.mark.parametrize("wanted", [Wanted(request="req-1"), Wanted(session="s1")])
def test_a_life_with_two_returns_is_told_whole_in_time_order(wanted: Wanted) -> None:
    shuffled = [*MINE, *OTHER]
    random.Random(5).shuffle(shuffled)
    assert follow(shuffled, wanted) == MINE
    assert actions(MINE) == WHOLE


def test_an_event_that_is_in_two_places_is_told_once() -> None:
    assert follow([*MINE, *MINE], Wanted(request="req-1")) == MINE


def test_a_refusal_before_the_session_began_belongs_to_its_request() -> None:
    refused = happened(0.2, "refused", request="req-1", reason="vcenter-unreachable")
    assert refused in follow([*MINE, *OTHER, refused], Wanted(session="s1"))


@pytest.mark.parametrize("aim", [{"instance": "i1"}, {"user": "u-s1"}])
def test_what_an_operator_did_meanwhile_belongs_to_the_story(aim: dict[str, str]) -> None:
    inside = happened(12.0, "revoked", "command", by="root", **aim)
    later = happened(99.0, "revoked", "command", by="root", **aim)
    elsewhere = happened(12.0, "revoked", "command", by="root", instance="i2")
    found = follow([*MINE, inside, later, elsewhere], Wanted(request="req-1"))
    assert inside in found
    assert later not in found
    assert elsewhere not in found


def test_an_instance_or_a_user_has_all_that_happened_to_it() -> None:
    again = life("s3", "req-3", "i1", 100.0)
    everything = [*MINE, *OTHER, *again]
    assert follow(everything, Wanted(instance="i1")) == [*MINE, *again]
    assert follow(everything, Wanted(user="u-s3")) == again
    assert follow(everything, Wanted(instance="i1", since=50.0)) == again
    assert follow(everything, Wanted(instance="i1", until=0.2)) == MINE[:1]
    assert follow(everything, Wanted(instance="i2", user="u-s1")) == []


def test_a_line_sums_up_each_session() -> None:
    (line,) = summary(MINE)
    assert line == (
        "session s1; opened, resumed 2 times, on node0, node1, node2; connected for 27.0 s; "
        "3 bytes in, 6 out; ended: upstream-lost"
    )
    assert "1 connections without an end" in summary(MINE[:-1])[0]
    assert "a link that opened nothing" in summary(MINE[:1])[0]
    assert "its opening is not here, resumed 1 times" in summary(MINE[-2:])[0]


def test_files_of_several_nodes_rotated_ones_and_syslogs_are_read(tmp_path: Path) -> None:
    first, rotated, syslog = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz", tmp_path / "syslog"
    first.write_text("".join(event.to_line() + "\n" for event in MINE[:2]) + '{"half": \n\n')
    with gzip.open(rotated, "wt") as file:
        file.writelines(event.to_line() + "\n" for event in MINE[2:4])
    syslog.write_text(
        "".join(
            f"Nov 26 09:30:00 node{{2}} mksfilter-audit[7]: {event.to_line()}\n"
            for event in MINE[4:]
        )
        + "Nov 26 09:30:01 node2 sshd[8]: session opened\n"
    )
    events, others = read([str(first), str(rotated), str(syslog)])
    assert follow(events, Wanted(request="req-1")) == MINE
    assert others == 2


@pytest.mark.parametrize("line", ["[]", "{", '{"action": 1}', "no", "[" * 99999, "{" * 9999])
def test_a_line_that_is_no_event_is_no_error(line: str) -> None:
    assert list(parse([line])) == [None]


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match=r"audit file .*/none: No such file"):
        read([str(tmp_path / "none")])
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(json.dumps({}).encode() * 99)[:20])
    with pytest.raises(OperationError, match=r"broken\.gz: Compressed file ended"):
        read([str(broken)])
    packed = bytearray(gzip.compress(MINE[0].to_line().encode() * 99))
    packed[12:40] = bytes(28)
    broken.write_bytes(packed)
    with pytest.raises(OperationError, match=r"broken\.gz: Error -3 while decompressing"):
        read([str(broken)])
