"""Named groups for the key exchange of TLS (RFC 8446 section 4.2.7), as console hosts are offered
them.

From OpenSSL 3.5 on a client makes key shares of X25519MLKEM768 and X25519 for each handshake unless
it is told otherwise. P-256 is in every TLS profile of ESXi and takes less: docs/performance.md has
the figures.
"""

from __future__ import annotations

import platform
import ssl
from collections.abc import Sequence
from typing import Final

from mksfilter.exceptions import ConfigurationError, NoCommonGroup

__all__ = ["OPENSSL_LIST", "check_groups", "default_groups", "no_common_group", "offer_groups"]

#: Stands for OpenSSL's own list, as in OpenSSL 3.5's ``SSL_CTX_set1_groups_list``.
OPENSSL_LIST: Final = ("DEFAULT",)

_P256: Final = "prime256v1"
# What a host says (RFC 8446 section 6.2) to a client with which it has no group in common.
_DISAGREEMENTS: Final = (
    "ALERT_HANDSHAKE_FAILURE",
    "ALERT_ILLEGAL_PARAMETER",
    "ALERT_INSUFFICIENT_SECURITY",
)


def default_groups(openssl: tuple[int, ...] = ssl.OPENSSL_VERSION_INFO) -> tuple[str, ...]:
    """What hosts are offered where the operator names no groups; empty: OpenSSL's own list.

    :param openssl: the version that runs.
    """
    return (_P256,) if openssl >= (3, 5) else ()


def check_groups(groups: Sequence[str]) -> None:
    """Can the option ``tls_groups`` be followed here?

    :raises ConfigurationError: as :func:`offer_groups`.
    """
    offer_groups(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), groups)


def offer_groups(context: ssl.SSLContext, groups: Sequence[str]) -> None:
    """Have a client's *context* offer *groups* and no others; empty: OpenSSL's own list.

    :raises ConfigurationError: OpenSSL does not know one of them, or Python cannot set so many.
    """
    if not groups or tuple(groups) == OPENSSL_LIST:
        return
    set_groups = getattr(context, "set_groups", None)  # Python 3.15 and later
    if set_groups is None and len(groups) > 1:
        raise ConfigurationError(
            f"tls_groups: {', '.join(groups)}: Python {platform.python_version()} can set one "
            f"group alone; write one of them, or use Python 3.15 or later"
        )
    try:
        if set_groups is None:
            context.set_ecdh_curve(groups[0])
        else:
            set_groups(":".join(groups))
    except (ValueError, ssl.SSLError) as exc:
        raise ConfigurationError(
            f"tls_groups: {', '.join(groups)}: no group of {ssl.OPENSSL_VERSION} for TLS; write "
            f"{_P256} (P-256), secp384r1 or secp521r1, or DEFAULT for OpenSSL's own list"
        ) from exc


def no_common_group(exc: ssl.SSLError, groups: Sequence[str], name: str) -> NoCommonGroup | None:
    """What *exc*, of a handshake in which *groups* were offered, has to be told as; None: as it is.

    :param name: of the console host.
    """
    if not groups or tuple(groups) == OPENSSL_LIST:
        return None
    if not (exc.reason or "").endswith(_DISAGREEMENTS):
        return None
    return NoCommonGroup(
        f"{name}: TLS failed: {exc.reason}; the host may have none of the groups in tls_groups "
        f"({', '.join(groups)}): correct the option, or remove it"
    )
