"""Who holds a token may do what it says, for as long as it says, and nobody can make one up."""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import string

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from mksfilter.auth.token import MAX_TOKEN_LENGTH, Claims, Key, TokenCodec
from mksfilter.exceptions import (
    AccessDenied,
    TokenAudienceMismatch,
    TokenError,
    TokenExpired,
    TokenKeyUnknown,
    TokenMalformed,
    TokenMissing,
    TokenNotYetValid,
    TokenSignatureInvalid,
    TokenUseMismatch,
)
from mksfilter.request import ConsoleRequest
from tests.auth.keyring import Keyring, key
from tests.support.clock import Clock

INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"
BASE64URL = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"

printable = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF).filter(str.isprintable), max_size=60
)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def codec(clock):
    return TokenCodec(Keyring(key()), "cloud-a", clock=clock, clock_skew=30)


def signed(payload: bytes, by: Key | None = None) -> str:
    """A token with a good MAC over whatever *payload* is."""
    by = by or key()
    text = base64.urlsafe_b64encode(payload).rstrip(b"=")
    return signed_text(text.decode(), by)


def signed_text(payload: str, by: Key) -> str:
    head = f"{by.prefix}{payload}"
    return f"{head}.{by.mac(head.encode()).decode()}"


def document(**changes: object) -> bytes:
    """The JSON of a good token's claims, with *changes*; a change to ... removes the claim."""
    claims: dict[str, object] = {
        "jti": "A" * 22,
        "aud": "cloud-a",
        "iid": INSTANCE,
        "iat": 1_800_000_000,
        "exp": 1_800_000_600,
        "use": "connect",
        "mode": "full",
        **changes,
    }
    return json.dumps({k: v for k, v in claims.items() if v is not ...}).encode()


def test_a_token_says_what_it_was_made_to_say(codec):
    token = codec.issue(
        ConsoleRequest(
            INSTANCE, project_id="p1", user_id="u1", request_id="req-1", mode="view", vcenter="dc1"
        ),
        ttl=600,
        session_end=1_800_003_600,
    ).token
    claims = codec.verify(token)
    assert (claims.iid, claims.pid, claims.uid, claims.rid) == (INSTANCE, "p1", "u1", "req-1")
    assert (claims.aud, claims.use, claims.mode, claims.vc) == ("cloud-a", "connect", "view", "dc1")
    assert (claims.iat, claims.exp, claims.max) == (1_800_000_000, 1_800_000_600, 1_800_003_600)


def test_two_tokens_for_the_same_thing_have_different_names(codec):
    first, second = (
        codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=600).token for _ in range(2)
    )
    assert codec.verify(first).jti != codec.verify(second).jti


def test_a_token_holds_only_characters_that_urls_and_subprotocols_take_as_they_are(codec):
    token = codec.issue(
        ConsoleRequest(INSTANCE, project_id="prôjet / ü", mode="full"), ttl=600
    ).token
    assert set(token) <= set(BASE64URL + ".")


@given(
    project=printable,
    user=printable,
    request_id=printable,
    vcenter=st.none() | printable.filter(bool),
    ttl=st.integers(1, 10**8),
    mode=st.sampled_from(["full", "view"]),
    use=st.sampled_from(["connect", "resume"]),
    instance=st.uuids().map(str),
)
def test_whatever_is_minted_verifies_and_comes_back_the_same(
    project, user, request_id, vcenter, ttl, mode, use, instance
):
    codec = TokenCodec(Keyring(key()), "cloud-a", clock=Clock())
    request = ConsoleRequest(
        instance_id=instance,
        project_id=project,
        user_id=user,
        request_id=request_id,
        mode=mode,
        vcenter=vcenter,
    )
    issued = codec.issue(request, ttl=ttl, use=use)
    said = issued.claims
    assert codec.verify(issued.token, uses=[use]) == said
    assert (said.pid, said.uid, said.rid, said.vc) == (project, user, request_id, vcenter)


SAMPLE = (
    TokenCodec(Keyring(key()), "cloud-a", clock=Clock())
    .issue(ConsoleRequest(INSTANCE, mode="full"), ttl=600)
    .token
)


@given(position=st.integers(0, len(SAMPLE) - 1), character=st.characters())
def test_a_token_with_one_character_changed_is_refused(position, character):
    codec = TokenCodec(Keyring(key()), "cloud-a", clock=Clock())
    changed = SAMPLE[:position] + character + SAMPLE[position + 1 :]
    if changed == SAMPLE:
        assert codec.verify(changed).iid == INSTANCE
    else:
        with pytest.raises(TokenError):
            codec.verify(changed)


@given(position=st.integers(0, len(SAMPLE)), junk=st.text(min_size=1, max_size=5))
def test_a_token_with_anything_put_in_is_refused(position, junk):
    codec = TokenCodec(Keyring(key()), "cloud-a", clock=Clock())
    with pytest.raises(TokenError):
        codec.verify(SAMPLE[:position] + junk + SAMPLE[position:])


@given(start=st.integers(0, len(SAMPLE)), length=st.integers(1, len(SAMPLE)))
def test_a_token_with_anything_left_out_is_refused(start, length):
    codec = TokenCodec(Keyring(key()), "cloud-a", clock=Clock())
    shorter = SAMPLE[:start] + SAMPLE[start + length :]
    if shorter != SAMPLE:
        with pytest.raises(TokenError):
            codec.verify(shorter)


@given(st.text(max_size=200) | st.text(alphabet=BASE64URL + ".", max_size=200))
def test_any_other_text_is_refused_and_nothing_else_happens(text):
    codec = TokenCodec(Keyring(key()), "cloud-a", clock=Clock())
    with pytest.raises(TokenError):
        codec.verify(text)


def test_no_other_spelling_of_the_same_mac_verifies(codec):
    # The last of 43 characters carries four bits: three more characters decode to the same bytes.
    raw = base64.urlsafe_b64decode(SAMPLE.rpartition(".")[2] + "=")
    spellings = [
        SAMPLE[:-1] + last
        for last in BASE64URL
        if base64.urlsafe_b64decode(SAMPLE.rpartition(".")[2][:-1] + last + "=") == raw
    ]
    assert len(spellings) == 4
    verified = [text for text in spellings if verifies(codec, text)]
    assert verified == [SAMPLE]


@pytest.mark.parametrize("suffix", ["=", "==", "\n", " ", "\x00", ".", "%3D"])
def test_padding_and_white_space_are_not_ignored(codec, suffix):
    assert not verifies(codec, SAMPLE + suffix)


def test_the_standard_base64_alphabet_is_refused(codec):
    tokens = (
        codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=600).token for _ in itertools.count()
    )
    token = next(t for t in tokens if "-" in t.rpartition(".")[2] or "_" in t.rpartition(".")[2])
    head, _, mac = token.rpartition(".")
    assert not verifies(codec, f"{head}.{mac.replace('-', '+').replace('_', '/')}")


def verifies(codec: TokenCodec, token: str) -> bool:
    try:
        codec.verify(token)
    except TokenError:
        return False
    return True


def test_no_token_is_another_reason_than_a_bad_one(codec):
    with pytest.raises(TokenMissing):
        codec.verify("")


def test_a_token_of_a_key_we_do_not_have_is_refused(codec):
    foreign = TokenCodec(Keyring(key(2)), "cloud-a", clock=Clock())
    with pytest.raises(TokenKeyUnknown):
        codec.verify(foreign.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=600).token)


def test_naming_our_key_over_another_keys_mac_is_refused(codec):
    foreign = signed(document(), by=key(2))
    forged = foreign.replace(key(2).kid, key().kid)
    with pytest.raises(TokenSignatureInvalid):
        codec.verify(forged)


def test_the_payload_is_not_parsed_before_the_mac_is_checked(codec, monkeypatch):
    def parsed(*_: object, **__: object) -> None:
        raise AssertionError("the payload of a forged token was parsed")

    monkeypatch.setattr("mksfilter.auth.token.json.loads", parsed)
    head, _, mac = SAMPLE.rpartition(".")
    with pytest.raises(TokenSignatureInvalid):
        codec.verify(f"{head}.{mac[:-2]}AA")


def test_a_very_long_text_is_refused_unread(codec):
    payload = "A" * (MAX_TOKEN_LENGTH - 62)
    longest = signed_text(payload, key())
    assert len(longest) == MAX_TOKEN_LENGTH
    with pytest.raises(TokenMalformed, match="payload"):
        codec.verify(longest)
    with pytest.raises(TokenMalformed, match="longer than 4096"):
        codec.verify(signed_text(payload + "A", key()))


def test_a_token_that_would_be_too_long_is_not_minted(codec):
    with pytest.raises(ValueError, match="over 4096"):
        codec.issue(
            ConsoleRequest(INSTANCE, mode="full"),
            ttl=600,
            connect_info={"sessionTicket": "x" * 4096},
        )


def test_a_token_ends_at_its_time_with_allowance_for_the_clocks(codec, clock):
    token = codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=600).token
    clock.advance(600 + 29)
    assert codec.verify(token)
    clock.advance(1)
    with pytest.raises(TokenExpired, match="30 s ago"):
        codec.verify(token)


def test_a_token_from_the_future_is_refused_with_allowance_for_the_clocks(codec, clock):
    token = codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=600).token
    clock.advance(-30)
    assert codec.verify(token)
    clock.advance(-1)
    with pytest.raises(TokenNotYetValid, match="compare the clocks"):
        codec.verify(token)


def test_a_token_is_never_good_for_longer_than_its_session(codec, clock):
    token = codec.issue(
        ConsoleRequest(INSTANCE, mode="full"), ttl=600, session_end=1_800_000_060
    ).token
    assert codec.verify(token).exp == 1_800_000_060
    clock.advance(60 + 30)
    with pytest.raises(TokenExpired):
        codec.verify(token)


def test_a_token_for_another_deployment_with_the_same_keys_is_refused(codec):
    other = TokenCodec(Keyring(key()), "cloud-b", clock=Clock())
    with pytest.raises(TokenAudienceMismatch, match="'cloud-b', not 'cloud-a'"):
        codec.verify(other.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=600).token)


def test_a_token_to_resume_does_not_connect_and_the_other_way_round(codec):
    resume = codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=600, use="resume").token
    connect = codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=600).token
    with pytest.raises(TokenUseMismatch):
        codec.verify(resume)
    with pytest.raises(TokenUseMismatch):
        codec.verify(connect, uses=("resume",))
    assert codec.verify(resume, uses=("connect", "resume")).use == "resume"


def test_the_outside_hears_one_thing_whatever_is_wrong():
    reasons = [cls for cls in TokenError.__subclasses__() if cls.__module__.startswith("mksfilter")]
    assert len(reasons) >= 9
    assert {(cls.status, cls.public) for cls in reasons} == {(403, AccessDenied.public)}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 3000,
        document(jti=...),
        document(jti="short"),
        document(jti=1),
        document(jti="A" * 21 + "+"),
        document(aud=None),
        document(aud=["cloud-a"]),
        document(iid=...),
        document(iid="vm-1"),
        document(iid=INSTANCE.upper().replace("5", "A")),
        document(iid=INSTANCE + "\n"),
        document(iid=f"../{INSTANCE}"),
        document(pid=1),
        document(pid="x" * 256),
        document(uid="a\nb"),
        document(rid=None),
        document(iat="1800000000"),
        document(iat=True),
        document(exp=1_800_000_600.5),
        document(exp=1e999),
        document(exp=1_800_000_000),
        document(max="never"),
        document(max=1_800_000_599),
        document(vc=7),
        document(vc="a\rb"),
        document(use="both"),
        document(use=["connect"]),
        document(mode="root"),
        document(mode={}),
        document(sealed=5),
        document(only_on_sundays=True),
        document(repr="x"),
    ],
)
def test_a_signed_token_that_says_nonsense_is_refused(codec, payload):
    with pytest.raises(TokenMalformed):
        codec.verify(signed(payload))


def test_the_claims_those_changes_were_made_to_are_good(codec):
    assert codec.verify(signed(document(pid="p", max=1_800_000_600, vc="dc1"))).vc == "dc1"


@pytest.mark.parametrize("payload", ["eyJ9*", "A", "eyJ", "ey==", "\u00e9"])
def test_a_signed_payload_that_is_not_base64url_is_refused(codec, payload):
    with pytest.raises(TokenMalformed):
        codec.verify(signed_text(payload, key()))


def test_a_signed_payload_in_another_spelling_is_refused(codec):
    # Two characters stand for the last byte, and the second one has four bits to spare.
    payload = next(p for n in range(3) if len(p := document(pid="x" * n)) % 3 == 1)
    text = base64.urlsafe_b64encode(payload).decode().rstrip("=")
    assert codec.verify(signed_text(text, key()))
    other = text[:-1] + BASE64URL[BASE64URL.index(text[-1]) + 1]
    assert base64.urlsafe_b64decode(other + "==") == payload
    with pytest.raises(TokenMalformed):
        codec.verify(signed_text(other, key()))


def test_a_token_that_is_no_text_at_all_is_refused(codec):
    # What Python makes of undecodable bytes on a command line.
    with pytest.raises(TokenMalformed):
        codec.verify(SAMPLE[:30] + "\udcff" + SAMPLE[31:])


def test_nobody_gets_a_full_console_because_somebody_forgot_to_say_which():
    with pytest.raises(TypeError, match="mode"):
        ConsoleRequest(INSTANCE)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "wrong",
    [
        {"instance_id": "vm-1"},
        {"project_id": "a\nb"},
        {"user_id": "u" * 300},
        {"ttl": 0},
        {"use": "both"},
        {"mode": "root"},
    ],
)
def test_what_would_not_verify_is_not_minted(codec, wrong):
    facts = {"instance_id": INSTANCE, "mode": "full", **wrong}
    terms = {"ttl": 600} | {n: facts.pop(n) for n in ("ttl", "use") if n in facts}
    with pytest.raises(ValueError, match="claim"):
        codec.issue(ConsoleRequest(**facts), **terms)


def test_a_renewed_token_resumes_the_same_session(codec, clock):
    first = codec.verify(
        codec.issue(
            ConsoleRequest(INSTANCE, project_id="p1", user_id="u1", mode="view"), ttl=600
        ).token
    )
    clock.advance(3600)
    renewed = codec.verify(codec.renew(first, ttl=120), uses=("resume",))
    assert (renewed.iid, renewed.pid, renewed.uid) == (INSTANCE, "p1", "u1")
    assert renewed.mode == "view", "renewing gave a viewer the keyboard"
    assert renewed.jti != first.jti
    assert renewed.exp == clock.now + 120


def test_renewing_never_outlives_the_session(codec, clock):
    first = codec.verify(
        codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60, session_end=1_800_000_600).token
    )
    clock.advance(550)
    renewed = codec.verify(codec.renew(first, ttl=600), uses=("resume",))
    assert renewed.exp == renewed.max == 1_800_000_600
    clock.advance(50)
    with pytest.raises(TokenExpired):
        codec.renew(renewed, ttl=600)


def test_a_session_keeps_its_identity_through_every_renewal(codec, clock):
    first = codec.verify(codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60).token)
    assert (first.session_id, first.began) == (first.jti, 1_800_000_000)
    latest = first
    for _ in range(3):
        clock.advance(30)
        latest = codec.verify(codec.renew(latest, ttl=120, cnf="k" * 43), uses=("resume",))
    assert (latest.session_id, latest.began) == (first.jti, 1_800_000_000)
    assert latest.iat == 1_800_000_090


def test_a_session_is_renewed_by_a_node_whose_clock_is_behind(codec, clock):
    first = codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60).claims
    clock.advance(-20)
    renewed = codec.verify(codec.renew(first, ttl=60), uses=("resume",))
    assert renewed.began > renewed.iat


def test_a_resume_token_stays_bound_to_its_key(codec):
    first = codec.verify(codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60).token)
    bound = codec.verify(codec.renew(first, ttl=60, cnf="k" * 43), uses=("resume",))
    again = codec.verify(codec.renew(bound, ttl=60), uses=("resume",))
    assert (bound.cnf, again.cnf) == ("k" * 43, "k" * 43)


@pytest.mark.parametrize("late", [0, 1, 29])
def test_no_clock_skew_lengthens_a_session(codec, clock, late):
    """exp may be passed by the skew; max, which ends the session, may not."""
    token = codec.issue(
        ConsoleRequest(INSTANCE, mode="full"), ttl=600, session_end=1_800_000_600
    ).token
    clock.advance(600 + late)
    with pytest.raises(TokenExpired, match="session ended"):
        codec.verify(token)


def test_a_token_within_the_skew_of_its_expiry_opens_a_session_that_has_not_ended(codec, clock):
    token = codec.issue(
        ConsoleRequest(INSTANCE, mode="full"), ttl=60, session_end=1_800_000_600
    ).token
    clock.advance(89)
    assert codec.verify(token).max == 1_800_000_600


@pytest.mark.parametrize(
    "changes",
    [
        {"sid": "B" * 22},
        {"auth_time": 1_799_999_000},
        {"cnf": "k" * 43},
        {"use": "resume", "sid": "B" * 21},
        {"use": "resume", "sid": 1},
        {"use": "resume", "auth_time": -1},
        {"use": "resume", "auth_time": 1.5},
        {"use": "resume", "auth_time": True},
        {"use": "resume", "cnf": "k" * 42},
        {"use": "resume", "cnf": ["k" * 43]},
    ],
)
def test_claims_of_a_session_are_checked(codec, changes):
    with pytest.raises(TokenMalformed):
        codec.verify(signed(document(**changes)), uses=("connect", "resume"))


def test_no_mac_of_a_list_signs_a_token(codec):
    head = key().prefix + base64.urlsafe_b64encode(document()).rstrip(b"=").decode()
    with pytest.raises(TokenSignatureInvalid):
        codec.verify(f"{head}.{key().list_mac(head.encode()).decode()}")


CONNECT_INFO = {
    "host": "esx-7.internal.example",
    "port": 443,
    "vmId": "vm-4242",
    "vmName": "secret-name",
    "vcFQDN": "vc.internal.example",
    "sessionTicket": "cst-VCT-52b3b1f9-tp-0123456789abcdef",
    "thumbprint": "AA:BB:CC:DD",
}


def test_connect_info_comes_back_out_of_the_token_it_was_sealed_into(codec):
    token = codec.issue(
        ConsoleRequest(INSTANCE, mode="full"), ttl=600, connect_info=CONNECT_INFO
    ).token
    assert codec.connect_info(codec.verify(token)) == CONNECT_INFO


def test_a_token_without_connect_info_has_none(codec):
    assert (
        codec.connect_info(
            codec.verify(codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=600).token)
        )
        is None
    )


def test_nothing_of_the_connect_info_can_be_read_in_the_token(codec):
    token = codec.issue(
        ConsoleRequest(INSTANCE, mode="full"), ttl=600, connect_info=CONNECT_INFO
    ).token
    layers = [token.encode()]
    for part in token.split("."):
        layers.append(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    sealed = json.loads(layers[3])["sealed"].partition(".")[2]
    layers.append(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)))
    for layer in layers:
        for name, value in CONNECT_INFO.items():
            assert name.encode() not in layer
            assert len(str(value)) < 4 or str(value).encode() not in layer


def test_sealed_connect_info_does_not_open_in_another_token(codec):
    claims = [
        codec.verify(
            codec.issue(
                ConsoleRequest(INSTANCE, mode="full"), ttl=600, connect_info={"host": name}
            ).token
        )
        for name in ("a", "b")
    ]
    swapped = Claims(
        **{n: getattr(claims[0], n) for n in Claims.__slots__ if n != "sealed"},
        sealed=claims[1].sealed,
    )
    with pytest.raises(TokenSignatureInvalid):
        codec.connect_info(swapped)


@pytest.mark.parametrize("sealed", ["", ".", "x", "A", "AAAA", "A" * 60, "é"])
def test_a_sealed_part_that_is_nonsense_is_refused(codec, sealed):
    token = signed(document(sealed=f"{key().kid}.{sealed}"))
    with pytest.raises(TokenError):
        codec.connect_info(codec.verify(token))


def test_a_renewed_token_holds_no_used_ticket(codec):
    first = codec.verify(
        codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=600, connect_info=CONNECT_INFO).token
    )
    assert codec.verify(codec.renew(first, ttl=60), uses=("resume",)).sealed is None


def test_an_issued_token_does_not_show_in_a_repr(codec):
    issued = codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=600)
    assert issued.claims.jti in repr(issued)
    assert "mks1" not in repr(issued)


def test_neither_keys_nor_sealed_parts_show_in_a_repr(codec):
    token = codec.issue(
        ConsoleRequest(INSTANCE, mode="full"), ttl=600, connect_info=CONNECT_INFO
    ).token
    claims = codec.verify(token)
    assert claims.sealed
    assert claims.sealed not in repr(claims)
    assert repr(key()) == f"<Key {key().kid}>"


def test_the_format_is_what_the_documentation_says():
    """Made by hand with the standard library: other releases and programs rely on it."""
    secret = bytes(range(5, 37))

    def derived(purpose: bytes) -> bytes:
        # HKDF-SHA256 (RFC 5869) without salt, one block.
        extracted = hmac.digest(bytes(32), secret, "sha256")
        return hmac.digest(extracted, b"mksfilter mks1 " + purpose + b"\x01", "sha256")

    head = (
        "mks1."
        + derived(b"name")[:6].hex()
        + "."
        + base64.urlsafe_b64encode(document()).decode().rstrip("=")
    )
    mac = hmac.digest(derived(b"sign"), head.encode(), "sha256")
    token = head + "." + base64.urlsafe_b64encode(mac).decode().rstrip("=")
    codec = TokenCodec(Keyring(Key(secret)), "cloud-a", clock=Clock())
    assert codec.verify(token).iid == INSTANCE

    sealed = codec.verify(
        codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=60, connect_info={"host": "h"}).token
    )
    kid, _, box = sealed.sealed.partition(".")
    raw = base64.urlsafe_b64decode(box + "=" * (-len(box) % 4))
    opened = AESGCM(derived(b"seal")).decrypt(raw[:12], raw[12:], sealed.jti.encode())
    assert (kid, opened) == (Key(secret).kid, b'{"host":"h"}')


def test_a_key_of_less_than_256_bits_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        Key(b"x" * 31)
