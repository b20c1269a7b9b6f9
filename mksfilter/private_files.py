"""Who else can read or replace a file that holds a secret.

An ordinary file belongs to root or to the user that reads it, and nobody else may read or write it.

A volume of Kubernetes (Secret or projected) cannot give that to a user other than root: its files
belong to root, and a pod's ``fsGroup`` lets the group read them (0440). The kubelet writes them
into a directory ``..DATE`` and replaces a link ``..data`` to it, both in a directory of mode 1777.
There the group may read. The open directory does no harm, because only ``..data`` counts in it: it
is root's, the sticky bit keeps others from replacing it, and files are read from where it leads, so
that what others add beside it is never looked at. Files are read in place and not from a copy,
since a copy would not follow a rotation.

https://kubernetes.io/docs/concepts/storage/volumes/#secret and, for the layout, AtomicWriter in
Kubernetes' pkg/volume/util/atomic_writer.go.
"""

from __future__ import annotations

import dataclasses
import os
import pwd
import stat

__all__ = ["Place", "directory_fault", "file_fault", "mode_of_secret", "owner_name", "place_of"]

_LINK = "..data"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where files are really read from.

    :param path: a directory, every link in it followed when it is one of a volume.
    :param volume: it is a Kubernetes volume's, by its layout.
    :param fault: why nothing may be read from there, with the remedy; empty: nothing is wrong.
    """

    path: str
    volume: bool = False
    fault: str = ""


def place_of(directory: str) -> Place:
    """The place that *directory* stands for: itself, or the current data of a volume.

    :raises OSError: it is not there, or may not be looked at.
    """
    if os.path.islink(os.path.join(directory, _LINK)):
        top, inside = directory, ""
    else:
        real = os.path.realpath(directory, strict=True)
        parts = real.split(os.sep)
        dated = next((i for i, part in enumerate(parts) if part.startswith("..")), None)
        if dated is None or not os.path.islink(os.path.join(os.sep.join(parts[:dated]), _LINK)):
            return Place(directory)
        top, inside = os.sep.join(parts[:dated]), os.sep.join(parts[dated + 1 :])
    link = os.path.join(top, _LINK)
    target = os.readlink(link)
    data = os.path.join(top, target)
    path = os.path.join(data, inside) if inside else data
    return Place(path, volume=True, fault=_volume_fault(top, link, target, data, path))


def directory_fault(info: os.stat_result, path: str, *, volume: bool = False) -> str:
    """Why others could read or add files in this directory; empty: they cannot."""
    # Root keeps keys for another user ('mksfilter keys rotate'): a directory may be anybody's then.
    owner = None if volume or os.geteuid() else info.st_uid
    mask, wanted = (0o022, "0755") if volume else (0o077, "0700")
    return _owner_fault(info, path, owner) or _mode_fault(info, path, mask, f"chmod {wanted} it")


def file_fault(
    info: os.stat_result, path: str, *, volume: bool = False, owner: int | None = None
) -> str:
    """Why others could read or write this file; empty: they cannot.

    :param owner: to whom it may belong too when this process is root's: the directory's owner.
    """
    mask = 0o037 if volume else 0o077
    remedy = "set defaultMode: 0440 for the volume" if volume else "chmod 0600 it"
    if volume or os.geteuid():
        owner = None
    return _owner_fault(info, path, owner) or _mode_fault(info, path, mask, remedy)


def mode_of_secret(path: str) -> str:
    """How everybody can read this file, or others can write it; empty: they cannot.

    A configuration file may be its group's, as OpenStack's are: 0640 and root:nova.
    """
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return ""
    if mode & 0o007:
        return f"others can read it (mode {mode:04o})"
    if mode & 0o020:
        return f"its group can write it (mode {mode:04o})"
    return ""


def owner_name(uid: int) -> str:
    """The name of a user, else its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _volume_fault(top: str, link: str, target: str, data: str, path: str) -> str:
    if os.sep in target or not target.startswith("..") or target in ("..", _LINK):
        return f"{link} leads out of its volume, to {target}"
    info = os.stat(top)
    if fault := _owner_fault(info, top) or _owner_fault(os.lstat(link), link):
        return fault
    if not info.st_mode & stat.S_ISVTX and (fault := _mode_fault(info, top, 0o022, "chmod +t it")):
        return fault
    return directory_fault(os.lstat(data), data, volume=True) or (
        directory_fault(os.lstat(path), path, volume=True) if path != data else ""
    )


def _owner_fault(info: os.stat_result, path: str, owner: int | None = None) -> str:
    me = os.geteuid()
    if info.st_uid in (0, me, owner):
        return ""
    return (
        f"{path} belongs to {owner_name(info.st_uid)}, who could replace it: chown it to "
        f"{owner_name(me)} or root"
    )


def _mode_fault(info: os.stat_result, path: str, forbidden: int, remedy: str) -> str:
    mode = stat.S_IMODE(info.st_mode)
    return f"{path} is open to others (mode {mode:04o}): {remedy}" if mode & forbidden else ""
