"""What only a look at the site tells: each vCenter's clock, privileges, and the hosts from here."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final, TypeVar

from mksfilter.backends.base import console_host, console_port
from mksfilter.backends.vsphere.faults import CONSOLE_PRIVILEGE
from mksfilter.backends.vsphere.session import Session, log_out
from mksfilter.backends.vsphere.shared_record import SharedRecord
from mksfilter.checks.finding import Finding, Kind
from mksfilter.exceptions import BackendError

if TYPE_CHECKING:
    from mksfilter.backends.vsphere.client import VSphereClient
    from mksfilter.config import VCenterSettings

__all__ = ["look_at"]

T = TypeVar("T")
_PRIVILEGES: Final = ["System.View", "System.Read", CONSOLE_PRIVILEGE]
_AT_ONCE: Final = 500
_NAMED: Final = 5
_MOST_HOSTS: Final = 500
_CONNECT_TIMEOUT: Final = 4.0
_CLOCK_ERROR: Final = 300.0
#: The port of authd, and that of everything else.
_PORTS: Final = {"mks": 902}


def look_at(settings: VCenterSettings, where: str, *, runtime_directory: str) -> Iterator[Finding]:
    """What is wrong with the site of one vCenter that can be logged in to, and what is good.

    :param where: for the findings.
    :param runtime_directory: as for :func:`.vcenters.check_vcenters`.
    """
    record = SharedRecord.of(settings, runtime_directory)
    with contextlib.closing(Session(settings, record=record)) as session:
        for look in (_clock, _privileges, _hosts):
            try:
                yield from look(session, where)
            except BackendError as exc:
                name = look.__name__.strip("_")
                yield Finding(where, f"{name}: {exc}", kind=Kind.UNCHECKED)
        log_out([session])


def _asked(session: Session, question: Callable[[VSphereClient], T]) -> T:
    return session.run(lambda: session.ask(question))


def _clock(session: Session, where: str) -> Iterator[Finding]:
    before = time.time()
    theirs = _asked(session, lambda client: client.clock())
    ahead = theirs - (before + time.time()) / 2
    if abs(ahead) > _CLOCK_ERROR:
        yield Finding(
            where,
            f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this "
            f"machine's: its event log and our audit trail do not fit together, and tickets may "
            f"be taken for expired",
            "synchronize both (NTP)",
        )
    else:
        yield Finding(where, f"clock: {ahead:+.1f} s from this machine's", kind=Kind.GOOD)


def _privileges(session: Session, where: str) -> Iterator[Finding]:
    def ask(client: VSphereClient) -> tuple[dict[str, list[bool]], dict[str, dict[str, object]]]:
        moids = client.entities("VirtualMachine")
        has: dict[str, list[bool]] = {}
        for start in range(0, len(moids), _AT_ONCE):
            has.update(client.privileges_on(moids[start : start + _AT_ONCE], _PRIVILEGES))
        lacking = [moid for moid, granted in has.items() if not all(granted)][:_AT_ONCE]
        about = {}
        if lacking:
            about = client.properties("VirtualMachine", lacking, ["name", "config.annotation"])
        return has, about

    has, about = _asked(session, ask)
    user = session.settings.username
    if not has:
        yield Finding(
            where,
            f"user {user} sees no VM at all",
            "give it its role where the instances are, propagating to children",
        )
        return
    missing = {
        moid: [name for name, ok in zip(_PRIVILEGES, granted, strict=True) if not ok]
        for moid, granted in has.items()
        if not all(granted)
    }
    lacks = ", ".join(sorted({name for names in missing.values() for name in names}))
    if not missing:
        yield Finding(
            where, f"user {user} has the console privilege on all {len(has)} VMs", kind=Kind.GOOD
        )
        return
    if len(missing) == len(has):
        yield Finding(
            where,
            f"user {user} lacks {lacks} on every one of {len(has)} VMs: no console opens",
            "give it a role with it where the instances are, propagating to children",
        )
        return
    novas = [moid for moid in missing if "projectid:" in str(about.get(moid, {}))]
    others = [moid for moid in missing if moid not in novas]
    for moids, kind, whose in (
        (novas, Kind.ERROR, "instances of Nova"),
        (others, Kind.WARNING, "VMs, by their notes none of Nova's"),
    ):
        if moids:
            named = [f"{about.get(moid, {}).get('name', '?')} ({moid})" for moid in moids[:_NAMED]]
            more = f" and {len(moids) - _NAMED} more" if len(moids) > _NAMED else ""
            yield Finding(
                where,
                f"user {user} lacks {lacks} on {len(moids)} of {len(has)} {whose}: "
                f"{', '.join(named)}{more}",
                "give it its role there too",
                kind,
            )


def _hosts(session: Session, where: str) -> Iterator[Finding]:
    settings = session.settings
    if settings.backend == "vcenter":
        return  # its consoles are at the vCenter

    def ask(client: VSphereClient) -> dict[str, dict[str, object]]:
        moids = client.entities("HostSystem")[:_MOST_HOSTS]
        paths = ["summary.config.name", "runtime.connectionState", "summary.config.port"]
        return client.properties("HostSystem", moids, paths) if moids else {}

    hosts = [
        each
        for each in _asked(session, ask).values()
        if str(each.get("runtime.connectionState")) == "connected"
    ]
    targets = dict.fromkeys(_target(settings, each) for each in hosts)
    bad = 0
    for (host, port), problem in _tried(list(targets)):
        if problem:
            bad += 1
            yield Finding(where, f"console host {host}:{port} {problem[0]}", problem[1])
    if targets and not bad:
        yield Finding(
            where, f"all {len(targets)} console hosts are reached from here", kind=Kind.GOOD
        )
    if not targets:
        yield Finding(
            where,
            f"user {settings.username} sees no connected host, so whether they are reached "
            f"from here is not known",
            "check an instance with --instance",
            Kind.UNCHECKED,
        )


def _target(settings: VCenterSettings, host: dict[str, object]) -> tuple[str, int]:
    named = str(host.get("summary.config.name") or "")
    port = _PORTS.get(settings.backend)
    if port is None:
        known = host.get("summary.config.port")
        port = known if isinstance(known, int) else 443
    return console_host(settings, named), console_port(settings, None, port)


def _tried(
    targets: Sequence[tuple[str, int]],
) -> Iterator[tuple[tuple[str, int], tuple[str, str] | None]]:
    with ThreadPoolExecutor(max_workers=32) as pool:
        tries: list[Future[tuple[str, str] | None]] = [
            pool.submit(_try, host, port) for host, port in targets
        ]
        wait(tries)
    for target, tried in zip(targets, tries, strict=True):
        yield target, tried.result()


def _try(
    host: str,
    port: int,
    connect: Callable[..., socket.socket] = socket.create_connection,
) -> tuple[str, str] | None:
    """What is wrong with the way to a host, and what to do about it; None: nothing."""
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return (
            "does not resolve here",
            "add it to the DNS that this node asks, or set console_host",
        )
    try:
        connect((host, port), timeout=_CONNECT_TIMEOUT).close()
    except TimeoutError:
        return "does not answer: a firewall drops it", f"open TCP {port} from here to it"
    except OSError as exc:
        words = exc.strerror or str(exc)
        return f"is not reached: {words}", f"open TCP {port} from here to it"
    return None
