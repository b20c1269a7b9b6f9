"""Which configuration files there are, and what is written in them.

oslo.config passes over options that nobody registered, misspelt ones among them, and does not say
which of several files an option stands in. Both are told here, from the files themselves.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from oslo_config import cfg

from mksfilter.exceptions import ConfigurationError

__all__ = ["ConfigurationFiles", "Written", "environment_variable", "expand", "files_of"]


@dataclasses.dataclass(frozen=True)
class Written:
    """A group as it stands in one file.

    :param group: its name as the operator wrote it, without the brackets.
    :param options: name -> value as written; where a name is repeated, the last one.
    """

    file: str
    group: str
    options: Mapping[str, str]

    @property
    def where(self) -> str:
        """``FILE [GROUP]``."""
        return f"{self.file} [{self.group}]"


class ConfigurationFiles:
    """Files in the order in which oslo.config reads them: later ones win.

    :raises ConfigurationError: a file cannot be read or is not in INI form.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.files = tuple(files)
        self.groups: tuple[Written, ...] = tuple(
            written for path in files for written in _read(path)
        )

    def named(self, group: str) -> Iterator[Written]:
        """Where *group* is written. As for oslo.config, case makes no difference."""
        return (written for written in self.groups if written.group.lower() == group.lower())

    def value(self, group: str, option: str) -> str | None:
        """The value as written, nothing substituted; None: it stands nowhere."""
        written = self._last(group, option)
        return None if written is None else written.options[option]

    def where(self, group: str, option: str) -> str:
        """Where the value that counts is set: an environment variable, or ``FILE [GROUP]``.

        Where it is not set at all, the group, else the last file.
        """
        variable = environment_variable(group, option)
        if variable in os.environ:
            return f"environment {variable}"
        found = self._last(group, option) or next(self.named(group), None)
        if found is not None:
            return found.where
        return self.files[-1] if self.files else f"[{group}]"

    def mangled(self, group: str, option: str, *, file_option: str = "") -> str:
        """Why oslo.config reads another secret than is written, in words that hold nothing of it;
        ``""``: it does not.

        It substitutes other options for ``$NAME``, also in values of the environment, and takes
        away quotes and the blanks around a value.

        :param file_option: names a file that can hold the secret as it is; without one, quotes are
            taken for meant, since nothing else keeps blanks.
        """
        variable = environment_variable(group, option)
        if variable in os.environ:
            return _substituted(os.environ[variable], file_option)
        found = self._last(group, option)
        if found is None:
            return ""
        raw = _raw(found.file, found.group, option)
        stripped = _stripped(raw, file_option) if file_option else ""
        return stripped or _substituted(raw, file_option)

    def _last(self, group: str, option: str) -> Written | None:
        found = [written for written in self.named(group) if option in written.options]
        return found[-1] if found else None


def expand(paths: Sequence[str]) -> list[str]:
    """*paths* with each directory replaced by its ``*.conf``, sorted, as ``--config-dir`` does.

    :raises ConfigurationError: one is missing or unreadable, or a directory without such files.
    """
    files: list[str] = []
    for path in paths:
        if not os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0)):
            raise ConfigurationError(
                f"configuration file {path}: "
                f"{'not readable by this user' if os.path.exists(path) else 'no such file'}"
            )
        if not os.path.isdir(path):
            files.append(path)
            continue
        found = sorted(glob.glob(os.path.join(glob.escape(path), "*.conf")))
        if not found:
            raise ConfigurationError(f"configuration directory {path}: no file *.conf in it")
        files += expand(found)
    return files


def files_of(conf: cfg.ConfigOpts) -> list[str]:
    """The files that *conf* was read from, ours or Nova's; not in order of precedence."""
    try:
        files, directories = conf.config_file, [*(conf.config_dir or ()), *conf.config_dirs]
    except cfg.NoSuchOptError:  # nothing was read at all
        return []
    found = [*files]
    for directory in directories:
        pattern = os.path.join(glob.escape(os.path.expanduser(directory)), "*.conf")
        found += sorted(glob.glob(pattern))
    return list(dict.fromkeys(found))


def environment_variable(group: str, option: str) -> str:
    """The variable that oslo.config reads before any file."""
    return f"OS_{group.upper()}__{option.upper()}"


def _read(path: str) -> Iterator[Written]:
    sections: dict[str, dict[str, list[str]]] = {}
    try:
        cfg.ConfigParser(path, sections).parse()
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"configuration file {path}: not UTF-8 ({exc.reason})") from exc
    except (OSError, cfg.ParseError) as exc:
        raise ConfigurationError(f"{path}: {' '.join(str(exc).split())}") from exc
    for group, options in sections.items():
        yield Written(path, group, {name: values[-1] for name, values in options.items()})


# As oslo.config's own template and string.Template have it; '$$' is taken out before.
_REFERENCE: Final = re.compile(r"\\\$|\$(?:[_a-z][._a-z0-9]*|\{[_a-z][._a-z0-9]*\})", re.IGNORECASE)


def _substituted(raw: str, file_option: str) -> str:
    if not _REFERENCE.search(raw.replace("$$", "")):
        return ""
    remedy = f": write `$` as `$$`, or use {file_option}" if file_option else ""
    return f"refers with '$' to another option; a '$' itself is written '$$'{remedy}"


def _stripped(raw: str, file_option: str) -> str:
    inner = raw.strip()
    if "\n" in raw:
        return f"goes on in the next line: use {file_option}"
    if raw != raw.rstrip() or len(raw) > len(inner) + 1:
        return f"begins or ends with blanks, which are taken away: use {file_option}"
    if inner and inner[0] == inner[-1] and inner[0] in "\"'":
        return f"stands in quotes, which are taken away: leave them out, or use {file_option}"
    return ""


def _raw(path: str, group: str, option: str) -> str:
    """What stands behind the separator, the last time that *option* is written; a line that
    continues it is kept apart by a line break."""
    raw, section, ours = "", "", False
    with open(path, encoding="utf-8") as file:
        for line in file.read().split("\n"):
            text = line.removesuffix("\r")
            if not text.strip():
                ours = False
            elif text[0] in " \t":
                raw += f"\n{text}" if ours else ""
            elif text[0] == "[":
                section, ours = text.strip()[1:-1], False
            elif text[0] not in "#;":
                key, separator, value = _split(text)
                ours = bool(separator) and section == group and key == option
                raw = value if ours else raw
    return raw


def _split(line: str) -> tuple[str, str, str]:
    at = min((place for place in (line.find("="), line.find(":")) if place >= 0), default=-1)
    return (line[:at].strip(), line[at], line[at + 1 :]) if at >= 0 else (line, "", "")
