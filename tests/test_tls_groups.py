from __future__ import annotations

import ssl
import sys

import pytest

from mksfilter.exceptions import ConfigurationError
from mksfilter.tls_groups import check_groups, default_groups, offer_groups

# Python 3.10 sets curves that have parameters alone.
NEWER = [["X25519"]] if sys.version_info >= (3, 11) else []
ONE_AT_MOST = not hasattr(ssl.SSLContext, "set_groups")


class Python315(ssl.SSLContext):
    """A context of Python 3.15, as far as groups go."""

    offered = ""

    def set_groups(self, groups: str) -> None:
        self.offered = groups
        if "P-255" in groups:
            raise ssl.SSLError("unrecognized group")


def context() -> Python315:
    return Python315(ssl.PROTOCOL_TLS_CLIENT)


@pytest.mark.parametrize(
    ("openssl", "groups"),
    [
        ((1, 1, 1, 22, 15), ()),
        ((3, 0, 0, 19, 0), ()),
        ((3, 4, 0, 1, 0), ()),
        ((3, 5, 0, 0, 0), ("prime256v1",)),
        ((3, 6, 0, 2, 0), ("prime256v1",)),
        ((4, 0, 0, 0, 0), ("prime256v1",)),
    ],
)
def test_p_256_is_the_default_where_openssl_makes_a_key_of_ml_kem(
    openssl: tuple[int, ...], groups: tuple[str, ...]
) -> None:
    assert default_groups(openssl) == groups
    check_groups(groups)


@pytest.mark.parametrize("groups", [[], ["DEFAULT"], ["prime256v1"], ["secp384r1"], *NEWER])
def test_what_openssl_knows_can_be_followed(groups: list[str]) -> None:
    check_groups(groups)


@pytest.mark.parametrize("name", ["P-255", "", "prime256v1 secp384r1"])
def test_what_it_does_not_know_is_refused_with_names_that_it_knows(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^tls_groups: .*OpenSSL.*write prime256v1"):
        check_groups([name])


@pytest.mark.skipif(not ONE_AT_MOST, reason="this Python can set a list")
def test_a_list_is_refused_where_python_sets_one_group_alone() -> None:
    with pytest.raises(ConfigurationError, match=r"^tls_groups: prime256v1, secp384r1: Python 3"):
        check_groups(["prime256v1", "secp384r1"])


def test_a_list_is_set_where_python_can() -> None:
    it = context()
    offer_groups(it, ["prime256v1", "secp384r1"])
    assert it.offered == "prime256v1:secp384r1"
    with pytest.raises(ConfigurationError, match="write prime256v1"):
        offer_groups(it, ["P-255"])


@pytest.mark.parametrize("groups", [(), ("DEFAULT",)])
def test_openssls_own_list_is_left_as_it_is(groups: tuple[str, ...]) -> None:
    it = context()
    offer_groups(it, groups)
    assert not it.offered
