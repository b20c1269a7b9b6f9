"""nova.conf as nova-api would read it: which files it is made of, and what ``$options`` stand for.

``nova.api.openstack.wsgi_app`` takes the files of ``OS_NOVA_CONFIG_FILES`` in
``OS_NOVA_CONFIG_DIR`` (api-paste.ini and nova.conf in /etc/nova), the first of which is the paste
file; oslo.config adds ``nova.conf.d``.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence

from oslo_config import cfg
from oslo_utils import netutils

from mksfilter import config
from mksfilter.checks.finding import Finding, Kind
from mksfilter.exceptions import ConfigurationError

__all__ = ["NovaConf", "beside", "search"]

_DEFAULT = "DEFAULT"
_PROGRAM = "nova-api"
_REFERENCE = re.compile(r"(?<![$\\])(?:\$\$)*\$(?:\{([\w.]+)\}|([A-Za-z_][\w.]*))")

# Options of nova-api that are read here and are not ours; as Nova has them.
_NOVA_OPTS = {
    "mks": [cfg.StrOpt("mksproxy_base_url")],
    "api": [
        cfg.StrOpt(
            "auth_strategy",
            default="keystone",
            choices=["keystone", "noauth2"],
            deprecated_group=_DEFAULT,
        )
    ],
}
# Nova's defaults that are the same wherever it is installed, and those that are not.
_DEFAULTS: dict[str, Callable[[], str]] = {
    "host": lambda: socket.gethostname(),
    "my_ip": lambda: str(netutils.get_my_ipv4()),
}
_UNKNOWN = ("bindir", "my_block_storage_ip", "pybasedir", "state_path", "tempdir")


def search(environ: Mapping[str, str] = os.environ) -> tuple[str | None, list[str]]:
    """The paste file and the configuration files that nova-api would read by itself.

    Those that are not there are left out.
    """
    directory = environ.get("OS_NOVA_CONFIG_DIR", "/etc/nova").strip()
    names = environ.get("OS_NOVA_CONFIG_FILES", "").split(";")
    if names == [""]:
        names = ["api-paste.ini", "nova.conf"]
    paste, *files = [os.path.join(directory, name) for name in names]
    found = [file for file in files if os.path.exists(file)]
    for path in cfg.find_config_dirs(project="nova", prog=_PROGRAM):
        found += [file for file in beside(path) if file not in found]
    return (paste if os.path.exists(paste) else None), found


def beside(directory: str) -> list[str]:
    """The files of a directory like ``nova.conf.d``, which may be empty or not there."""
    try:
        return config.expand([directory])
    except ConfigurationError:
        return []


class NovaConf:
    """The options that matter to the filter.

    :param paths: files and directories, later ones winning; the ``nova.conf.d`` beside a file is
        read after all of them, as the one in /etc/nova is.
    :raises ConfigurationError: a file cannot be read or is not in INI form.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        files = config.expand(paths)
        for path in paths:
            directory = f"{path}.d"
            if not os.path.isdir(path) and os.path.isdir(directory):
                if not os.access(directory, os.R_OK | os.X_OK):
                    raise ConfigurationError(
                        f"configuration directory {directory}: not readable by this user"
                    )
                files += [file for file in beside(directory) if file not in files]
        self.conf = config.load(files)
        self.files = config.ConfigurationFiles(files)
        for group, opts in _NOVA_OPTS.items():
            self.conf.register_opts(opts, group=group)
        #: References that nothing here gives a value to.
        self.unresolved: dict[str, str] = {}
        self._nova = _options_of_nova()
        for written in self.files.groups:
            group = written.group.lower()
            if group in (config.GROUP, "mks", "api") or group.startswith("vcenter."):
                for option, text in written.options.items():
                    self._register(written.group, option, text)

    def value(self, group: str, option: str) -> tuple[str | None, Finding | None]:
        """The value of an option of Nova's, and what is wrong with it."""
        try:
            value = self.conf[group][option]
        except (cfg.Error, ValueError) as exc:
            words = " ".join(str(exc).split()).partition(" is not valid: ")[2] or str(exc)
            where = self.files.where(group, option)
            return None, Finding(where, f"option {option}: {words}")
        return (None if value is None else str(value)), None

    def findings(self) -> Iterator[Finding]:
        """References that could not be followed."""
        for name, where in self.unresolved.items():
            yield Finding(
                where,
                f"${name} is set in none of these files, and its default is that of Nova, which "
                f"is not installed here",
                kind=Kind.UNCHECKED,
            )

    def is_resolved(self, value: str) -> bool:
        """Whether nothing in *value* had to be left as it was written."""
        return not any(f"${name}" in value for name in self.unresolved)

    def hint(self, group: str, option: str) -> str:
        """The option that a reference which nobody has was probably meant for; else empty."""
        known = {*_DEFAULTS, *_UNKNOWN, *self._in_default(), *(name for _, name in self._nova)}
        for name in _references(self.files.value(group, option) or ""):
            near = difflib.get_close_matches(name, sorted(known - {name}), n=1)
            if name not in known and near:
                return f"did you mean ${near[0]}?"
        return ""

    def _in_default(self) -> set[str]:
        return {name for written in self.files.named(_DEFAULT) for name in written.options}

    def _register(self, group: str, option: str, text: str) -> None:
        """Make everything that *text* refers to an option, with Nova's default."""
        for name in _references(text):
            its_group, _, its_name = name.rpartition(".")
            if self._has(its_group or group, its_name) or self._has(its_group, its_name):
                continue
            its_group = its_group or _DEFAULT
            opt = self._nova.get((its_group, its_name)) or self._known_here(its_group, its_name)
            if opt is None:
                continue
            self.conf.register_opt(opt, group=None if its_group == _DEFAULT else its_group)
            if opt.default == f"$${name}":
                self.unresolved[name] = self.files.where(group, option)
            value = self.files.value(its_group, its_name)
            self._register(its_group, its_name, value if value is not None else str(opt.default))

    def _known_here(self, group: str, name: str) -> cfg.Opt | None:
        if self.files.value(group, name) is not None:
            return cfg.StrOpt(name)
        if group != _DEFAULT:
            return None
        if name in _DEFAULTS:
            return cfg.StrOpt(name, default=_DEFAULTS[name]())
        # Left as it is: the checks that need its value say that they were not made.
        return cfg.StrOpt(name, default=f"$${name}") if name in _UNKNOWN else None

    def _has(self, group: str, name: str) -> bool:
        if group in ("", _DEFAULT):
            return name in self.conf
        return group in self.conf and name in self.conf[group]


def _references(text: str) -> list[str]:
    return [braced or plain.rstrip(".") for braced, plain in _REFERENCE.findall(text)]


def _options_of_nova() -> Mapping[tuple[str, str], cfg.Opt]:
    """Every option of the Nova that is installed here, by group and name; empty: none is."""
    (entry, *_) = [
        *importlib.metadata.entry_points(group="oslo.config.opts", name="nova.conf"),
        None,
    ]
    if entry is None:
        return {}
    try:
        listed = entry.load()()
    except Exception:
        # A Nova that cannot be imported stops nova-api; here it only has no defaults to give.
        return {}
    return {
        (_DEFAULT if group is None else getattr(group, "name", group), opt.dest): opt
        for group, opts in listed
        for opt in opts
    }
