"""Options and groups that nobody reads: misspelt, or at home elsewhere.

The filter and the proxy refuse them at their start and ``mksfilter check`` tells them, by the same
code. Inside nova-api the files are Nova's own: only our groups in them are looked at.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping

from mksfilter.config.files import ConfigurationFiles, environment_variable
from mksfilter.config.options import (
    AUDIT_OPTS,
    FILTER_OPTS,
    GROUP,
    NOVA_GROUP,
    PROXY_OPTS,
    SHARED_OPTS,
    VCENTER_OPTS,
)

__all__ = [
    "FILTER",
    "PROXY",
    "Role",
    "Unknown",
    "unknown_in_environment",
    "unknown_in_files",
    "unknown_in_nova",
    "unknown_in_section",
    "unused_groups",
]

_VCENTER = "vcenter"
_VCENTER_GROUP = f"[{_VCENTER}.NAME]"
_SEPARATORS = ".:-_ /"
# Nova's groups have other names; [mks] and [vmware] among them are far enough from ours.
_NEAR = 0.8

_SHARED = frozenset(opt.dest for opt in (*SHARED_OPTS, *AUDIT_OPTS))
_OF_FILTER = frozenset(opt.dest for opt in FILTER_OPTS)
_OF_PROXY = frozenset(opt.dest for opt in PROXY_OPTS)
_OF_VCENTER = frozenset(opt.dest for opt in VCENTER_OPTS)
_OF_GROUP = _SHARED | _OF_FILTER | _OF_PROXY
#: Names that other services' [DEFAULT] has or had too.
_OTHERS = frozenset({"api", "audience", "identity", "log_format", "log_level", "policy_file"})


@dataclasses.dataclass(frozen=True)
class Role:
    """What a paste section's factory reads.

    :param elsewhere: what to do about an option that only the other one reads.
    """

    name: str
    options: frozenset[str]
    elsewhere: str


#: Whose paste section it is, and what it reads.
FILTER = Role("filter", _SHARED | _OF_FILTER, "the proxy alone reads it; write it into its file")
PROXY = Role(
    "proxy",
    _SHARED | _OF_PROXY | {"session_lifetime", "webmks_proxy_base_url"},
    "the filter alone reads it; write it where nova-api's is",
)


@dataclasses.dataclass(frozen=True)
class Unknown:
    """One of them; ``str()`` is ``WHERE: PROBLEM; REMEDY``.

    :param where: file and group as written.
    """

    where: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.remedy}"


def unknown_in_section(
    where: str, section: Iterable[str], role: Role, *, also: Collection[str] = ()
) -> Iterator[Unknown]:
    """Options of a paste section that its factory does not read.

    :param also: further names that it reads.
    """
    for name in section:
        if name in role.options or name in also:
            continue
        if name in _OF_GROUP:
            yield Unknown(where, f"option {name!r} is not the {role.name}'s", role.elsewhere)
        elif name in _OF_VCENTER:
            yield Unknown(where, f"unknown option {name!r}", f"it belongs into {_VCENTER_GROUP}")
        else:
            yield Unknown(where, f"unknown option {name!r}", _suggestion(name, role.options))


def unknown_in_files(files: ConfigurationFiles) -> Iterator[Unknown]:
    """Options of our groups that nobody reads, and groups whose names come close to ours."""
    for written in files.groups:
        group = written.group.lower()
        if group == GROUP:
            yield from _in_group(
                written.where, written.options, _OF_GROUP, _OF_VCENTER, _VCENTER_GROUP
            )
        elif group.startswith(f"{_VCENTER}.") and len(group) > len(_VCENTER) + 1:
            yield from _in_group(
                written.where, written.options, _OF_VCENTER, _OF_GROUP, f"[{GROUP}]"
            )
        elif group == "default":
            for name in sorted((_OF_GROUP - _OTHERS) & written.options.keys()):
                yield Unknown(
                    written.where, f"option {name!r} is not read here", f"it belongs into [{GROUP}]"
                )
        elif meant := _meant(written.group):
            yield Unknown(written.where, "unknown group", f"did you mean {meant}?")


def unknown_in_nova(options: Iterable[str], known: Collection[str]) -> Iterator[Unknown]:
    """Options of group ``[nova]`` that are none of *known*."""
    for name in options:
        if name not in known:
            yield Unknown(f"[{NOVA_GROUP}]", f"unknown option {name!r}", _suggestion(name, known))


def unknown_in_environment(environ: Mapping[str, str] = os.environ) -> Iterator[Unknown]:
    """Variables ``OS_MKSFILTER__OPTION``, which oslo.config prefers to any file."""
    prefix = environment_variable(GROUP, "")
    for variable in environ:
        name = variable.removeprefix(prefix).lower()
        if variable.startswith(prefix) and name not in _OF_GROUP:
            yield Unknown(
                f"environment {variable}", f"unknown option {name!r}", _suggestion(name, _OF_GROUP)
            )


def unused_groups(files: ConfigurationFiles, vcenters: Collection[str]) -> Iterator[Unknown]:
    """Groups ``[vcenter.NAME]`` that *vcenters* does not name."""
    names = {name.lower() for name in vcenters}
    for written in files.groups:
        prefix, _, name = written.group.partition(".")
        if prefix.lower() == _VCENTER and name and name.lower() not in names:
            yield Unknown(
                written.file,
                f"[{written.group}] is not used",
                f"add {name} to vcenters, or remove the group",
            )


def _in_group(
    where: str,
    options: Mapping[str, str],
    known: frozenset[str],
    others: frozenset[str],
    home: str,
) -> Iterator[Unknown]:
    for name in options:
        if name in known:
            continue
        remedy = f"it belongs into {home}" if name in others else _suggestion(name, known)
        yield Unknown(where, f"unknown option {name!r}", remedy)


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.lower().replace("-", "_"), sorted(known), n=1)
    return f"did you mean {near[0]}?" if near else "remove it"


def _meant(group: str) -> str | None:
    """The group of ours that *group*, which is none, was probably meant to be."""
    plain = group.strip().lower()
    if _similar(plain, GROUP):
        return f"[{GROUP}]"
    for separator in _SEPARATORS:
        prefix, found, name = plain.partition(separator)
        if found and name.strip() and _similar(prefix.strip(), _VCENTER):
            # With the name as it was written: vcenters has to name it.
            return f"[{_VCENTER}.{group.strip()[-len(name) :].strip()}]"
    if plain != NOVA_GROUP and _similar(plain, NOVA_GROUP):
        return f"[{NOVA_GROUP}]"
    return f"{_VCENTER_GROUP}" if plain in (_VCENTER, f"{_VCENTER}.") else None


def _similar(name: str, to: str) -> bool:
    return difflib.SequenceMatcher(None, name, to).ratio() >= _NEAR
