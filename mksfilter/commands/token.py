"""``mksfilter token``: mint a console token by hand, or tell what one says."""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from typing import Any
from urllib.parse import parse_qs

from mksfilter import config
from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import Claims, TokenCodec
from mksfilter.commands import add_config_file
from mksfilter.exceptions import ConfigurationError, OperationError, TokenError
from mksfilter.issuer import token_url
from mksfilter.request import ConsoleRequest

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    mint = actions.add_parser(
        "mint",
        help="print a token, or with --url a console URL",
        description="Print one token. Nova is not asked: who may read the keys may open any "
        "console.",
    )
    mint.add_argument("--instance", required=True, type=_uuid, metavar="UUID", help="Nova instance")
    mint.add_argument(
        "--ttl", type=_seconds, metavar="S", help="seconds (default: the option token_ttl)"
    )
    mint.add_argument("--url", action="store_true", help="print a console URL instead")
    mint.add_argument(
        "--base-url", metavar="URL", help="(default: the option webmks_proxy_base_url)"
    )
    mint.add_argument("--view", action="store_true", help="a console without keyboard and mouse")
    mint.add_argument("--project", default="", metavar="ID", help="the instance's project")
    mint.add_argument("--user", default="", metavar="ID", help="who is to open it, for the logs")
    mint.add_argument("--vcenter", metavar="NAME", help="the vCenter that has the instance")
    inspect = actions.add_parser(
        "inspect",
        help="print what a token says and whether it is valid here and now",
        description="Print the claims of a token, and whether it is valid, as JSON. Exit code 1 "
        "when it is not. Claims are shown only when the signature is good.",
    )
    inspect.add_argument(
        "token",
        nargs="?",
        default="-",
        metavar="TOKEN",
        help="token or console URL; '-' or nothing: read it from standard input, which is better: "
        "other users of this machine can see a command line",
    )
    for action in (mint, inspect):
        action.add_argument(
            "--key-repository", metavar="DIR", help="(default: the option key_repository)"
        )
        action.add_argument("--audience", metavar="NAME", help="(default: the option audience)")
        add_config_file(action)


def run(args: argparse.Namespace) -> int:
    """Carry out the chosen action.

    :raises ConfigurationError: an option is wrong, or the key repository cannot be used.
    """
    overrides = {
        name: value
        for name in ("key_repository", "audience")
        if (value := getattr(args, name)) is not None
    }
    conf = config.load(args.config_file)
    settings = config.proxy_settings(conf, overrides)
    keys = KeyRepository(settings.key_repository)
    keys.load()
    codec = TokenCodec(keys, settings.audience, clock_skew=settings.clock_skew)
    return _mint(args, conf, codec) if args.action == "mint" else _inspect(args, codec)


def _mint(args: argparse.Namespace, conf: Any, codec: TokenCodec) -> int:
    options = conf[config.GROUP]
    base_url = args.base_url or options.webmks_proxy_base_url
    if args.url and not base_url:
        raise ConfigurationError("--url needs --base-url or the option webmks_proxy_base_url")
    lifetime = options.session_lifetime
    try:
        issued = codec.issue(
            ConsoleRequest(
                instance_id=args.instance,
                project_id=args.project,
                user_id=args.user,
                mode="view" if args.view else "full",
                vcenter=args.vcenter,
            ),
            ttl=args.ttl or options.token_ttl,
            session_end=codec.now() + lifetime if lifetime else None,
        )
    except ValueError as exc:
        raise OperationError(f"no token made: {exc}") from exc
    print(token_url(base_url, issued.token) if args.url else issued.token)
    return 0


def _inspect(args: argparse.Namespace, codec: TokenCodec) -> int:
    token = _token_of(sys.stdin.read() if args.token == "-" else args.token)  # noqa: S105
    claims: Claims | None = None
    answer: dict[str, Any] = {"valid": True}
    try:
        claims = codec.authenticate(token)
        codec.verify(token, uses=("connect", "resume"))
    except TokenError as exc:
        answer = {"valid": False, "reason": exc.reason, "detail": str(exc)}
    if claims is not None:
        answer["claims"] = {
            name: value
            for name in Claims.__slots__
            if (value := getattr(claims, name)) not in (None, "") and name != "sealed"
        }
        answer["connect_info"] = "sealed" if claims.sealed else "none"
    print(json.dumps(answer, indent=2))
    if not answer["valid"]:
        raise OperationError(f"the token is refused: {answer['detail']}")
    return 0


def _token_of(text: str) -> str:
    """The token in *text*, be it bare or the last ``token`` of a console URL's query."""
    text = text.strip()
    if re.match(r"https?://", text):
        # Not urlsplit(), which refuses some texts; of no use here is what stands before the query.
        query = text.partition("#")[0].partition("?")[2]
        return parse_qs(query).get("token", [""])[-1]
    return text


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a UUID") from None


def _seconds(text: str) -> int:
    try:
        seconds = int(text)
    except ValueError:
        seconds = 0
    if seconds < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds
