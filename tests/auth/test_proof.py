"""A resume token is worth nothing without the key that it is bound to (RFC 9449, RFC 7638)."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mksfilter.auth.proof import PROOF_LIFETIME, check, thumbprint
from mksfilter.exceptions import TokenProofInvalid, TokenProofMissing
from tests.support.proofs import BrowserKey

ORIGIN = "https://console.example.com"
JTI = "AAAAAAAAAAAAAAAAAAAAAA"
NOW = 1_800_000_000

KEY = BrowserKey()
CNF = thumbprint(KEY.public)
GOOD = {"cnf": CNF, "origin": ORIGIN, "jti": JTI, "now": float(NOW)}


def proof(**changed: object) -> str:
    facts: dict[str, object] = {"origin": ORIGIN, "jti": JTI, "time": NOW}
    return KEY.proof(**{**facts, **changed})  # type: ignore[arg-type]


def test_the_thumbprint_is_rfc_7638_s() -> None:
    """The JWK is what RFC 7638 section 3.2 names; its digest was made with another program."""
    x = base64.urlsafe_b64decode("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4=")
    y = base64.urlsafe_b64decode("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM=")
    key = base64.urlsafe_b64encode(b"\x04" + x + y).rstrip(b"=").decode()
    # RFC 7517 appendix A.1's key; openssl dgst -sha256 over its members in order.
    assert thumbprint(key) == "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"


def test_a_proof_of_the_right_key_passes() -> None:
    check(proof(), **GOOD)


@pytest.mark.parametrize("age", [-PROOF_LIFETIME, 0, PROOF_LIFETIME])
def test_a_proof_is_good_for_its_lifetime_either_way(age: int) -> None:
    check(proof(), **{**GOOD, "now": float(NOW + age)})


@pytest.mark.parametrize("age", [-PROOF_LIFETIME - 1, PROOF_LIFETIME + 1, 86_400 * 365])
def test_a_proof_of_another_time_does_not(age: int) -> None:
    with pytest.raises(TokenProofInvalid, match="old"):
        check(proof(), **{**GOOD, "now": float(NOW + age)})


@pytest.mark.parametrize(
    "changed",
    [
        {"origin": "https://console.example.org"},
        {"origin": "http://console.example.com"},
        {"origin": ""},
        {"jti": "BAAAAAAAAAAAAAAAAAAAAA"},
    ],
)
def test_a_proof_for_something_else_does_not(changed: dict[str, str]) -> None:
    with pytest.raises(TokenProofInvalid, match="signature"):
        check(proof(), **{**GOOD, **changed})


def test_the_time_cannot_be_moved() -> None:
    time, rest = proof().split(".", 1)
    with pytest.raises(TokenProofInvalid, match="signature"):
        check(f"{int(time) + 1}.{rest}", **GOOD)


def test_another_browser_s_key_does_not() -> None:
    stolen = BrowserKey().proof(origin=ORIGIN, jti=JTI, time=NOW)
    with pytest.raises(TokenProofInvalid, match="another key"):
        check(stolen, **GOOD)


def test_the_right_key_with_another_one_s_signature_does_not() -> None:
    other = BrowserKey().proof(origin=ORIGIN, jti=JTI, time=NOW).rpartition(".")[2]
    with pytest.raises(TokenProofInvalid, match="signature"):
        check(f"{NOW}.{KEY.public}.{other}", **GOOD)


@pytest.mark.parametrize(
    ("given_proof", "cnf"),
    [("", CNF), (proof(), ""), ("", "")],
    ids=["no proof", "no key", "neither"],
)
def test_nothing_is_no_proof(given_proof: str, cnf: str) -> None:
    with pytest.raises(TokenProofMissing):
        check(given_proof, **{**GOOD, "cnf": cnf})


@given(st.text(max_size=300))
def test_no_text_is_a_proof_and_no_text_breaks_it(text: str) -> None:
    with pytest.raises((TokenProofInvalid, TokenProofMissing)):
        check(text, **GOOD)


@given(st.integers(0, 200), st.characters(codec="ascii"))
def test_one_changed_character_spoils_it(place: int, character: str) -> None:
    good = proof()
    place %= len(good)
    if good[place] == character:
        return
    with pytest.raises(TokenProofInvalid):
        check(good[:place] + character + good[place + 1 :], **GOOD)


def test_a_signature_has_one_spelling() -> None:
    """Its last character has four bits that no byte uses."""
    good = proof()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(good[-1])
    for slack in range(1, 16):
        with pytest.raises(TokenProofInvalid, match="form"):
            check(good[:-1] + alphabet[last ^ slack], **GOOD)


def test_a_point_off_the_curve_is_refused_in_one_line() -> None:
    bad = base64.urlsafe_b64encode(b"\x04" + b"\x01" * 64).rstrip(b"=").decode()
    text = f"{NOW}.{bad}.{proof().rpartition('.')[2]}"
    with pytest.raises(TokenProofInvalid) as caught:
        check(text, **{**GOOD, "cnf": thumbprint(bad)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("r", [b"\x00" * 32, b"\xff" * 32], ids=["zero", "greatest"])
def test_degenerate_signatures_do_not_pass(r: bytes) -> None:
    """CVE-2022-21449: r and s of zero passed for any message in Java."""
    raw = base64.urlsafe_b64encode(r + r).rstrip(b"=").decode()
    with pytest.raises(TokenProofInvalid):
        check(f"{NOW}.{KEY.public}.{raw}", **GOOD)


@pytest.mark.parametrize(
    "spoilt",
    ["", "A" * 87, KEY.public[:-1], KEY.public + "A", "+" * 87],
    ids=["empty", "no point", "shorter", "longer", "alphabet"],
)
def test_a_key_of_another_form_has_no_thumbprint(spoilt: str) -> None:
    with pytest.raises(TokenProofInvalid):
        thumbprint(spoilt)


def test_errors_repeat_nothing_that_the_client_sent() -> None:
    with pytest.raises(TokenProofInvalid) as caught:
        check("<script>", **GOOD)
    assert not re.search("script", str(caught.value))
