"""A list that travels with the keys says which tokens and sessions are over."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.revocation import MAX_FILE, Revocation, RevocationFile, RevocationList
from mksfilter.auth.token import Claims, Key
from mksfilter.exceptions import RevocationListError, TokenKeyUnknown

INSTANCE = "11111111-2222-4333-8444-555555555555"
NOW = 1_800_000_000


def claims(**changed: object) -> Claims:
    facts: dict[str, object] = {
        "jti": "A" * 22,
        "aud": "cloud",
        "iid": INSTANCE,
        "iat": NOW,
        "exp": NOW + 600,
        "use": "connect",
        "mode": "full",
        "pid": "project-1",
        "uid": "user-1",
    }
    return Claims(**{**facts, **changed})  # type: ignore[arg-type]


#: A token that continues a session which began an hour before it.
RESUMED = claims(jti="B" * 22, use="resume", sid="A" * 22, auth_time=NOW - 3600)


class FixedKeys:
    """Keys of a test, by name."""

    def __init__(self, *secrets: bytes, path: str = "") -> None:
        self.keys = [Key(secret) for secret in secrets]
        self.path = path

    def primary(self) -> Key:
        return self.keys[0]

    def get(self, kid: str) -> Key:
        for key in self.keys:
            if key.kid == kid:
                return key
        raise TokenKeyUnknown(kid)


KEYS = FixedKeys(b"one key of a test, thirty-two by")


class TestWhatAnEntryConcerns:
    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            ("session", "A" * 22),
            ("instance", INSTANCE),
            ("user", "user-1"),
            ("project", "project-1"),
        ],
    )
    def test_what_it_names_and_nothing_else(self, kind: str, value: str) -> None:
        revocations = RevocationList([Revocation(kind, value, NOW)])
        assert revocations.match(claims()) is not None
        assert RevocationList([Revocation(kind, value[:-1] + "x", NOW)]).match(claims()) is None

    @pytest.mark.parametrize("kind", ["instance", "user", "project"])
    def test_not_what_begins_afterwards(self, kind: str) -> None:
        value = {"instance": INSTANCE, "user": "user-1", "project": "project-1"}[kind]
        entry = RevocationList([Revocation(kind, value, NOW)])
        assert entry.match(claims(iat=NOW)) is not None
        assert entry.match(claims(iat=NOW + 1)) is None

    def test_a_session_is_known_through_its_resume_tokens(self) -> None:
        assert RevocationList([Revocation("session", "A" * 22, NOW)]).match(RESUMED) is not None

    def test_a_resume_token_issued_after_the_revocation_is_none_the_better(self) -> None:
        """A node that had not seen the list yet may have issued it."""
        assert RevocationList([Revocation("user", "user-1", NOW - 10)]).match(RESUMED) is not None

    def test_issued_before_is_about_when_the_session_began(self) -> None:
        before = RevocationList([Revocation("issued-before", "", NOW)])
        assert before.match(claims(iat=NOW - 1)) is not None
        assert before.match(claims(iat=NOW)) is None
        assert before.match(RESUMED) is not None

    def test_of_two_entries_for_the_same_the_later_holds(self) -> None:
        for order in ([NOW - 10, NOW], [NOW, NOW - 10]):
            entries = [Revocation("user", "user-1", at) for at in order]
            assert [entry.at for entry in RevocationList(entries).entries] == [NOW]

    def test_an_entry_goes_when_it_can_concern_nothing_any_more(self) -> None:
        revocations = RevocationList(
            [Revocation("user", "u", NOW, NOW + 10), Revocation("user", "v", NOW, None)]
        )
        assert len(revocations.without_expired(NOW + 9)) == 2
        assert [e.value for e in revocations.without_expired(NOW + 10).entries] == ["v"]


class TestTheText:
    def test_comes_back_as_it_was(self) -> None:
        entries = [Revocation("user", "ü\n", NOW, NOW + 5), Revocation("issued-before", "", 7)]
        text = RevocationList(entries).sign(KEYS.primary())
        assert text.isascii()
        assert set(RevocationList.verify(text, KEYS).entries) == set(entries)

    def test_no_changed_character_passes(self) -> None:
        text = RevocationList([Revocation("user", "u", NOW)]).sign(KEYS.primary())
        for place, character in enumerate(text):
            changed = text[:place] + ("B" if character == "A" else "A") + text[place + 1 :]
            with pytest.raises(RevocationListError):
                RevocationList.verify(changed, KEYS)

    def test_a_token_s_mac_is_none_of_a_list(self) -> None:
        """Each purpose has a key of its own."""
        key = KEYS.primary()
        signed = RevocationList([Revocation("user", "u", NOW)]).sign(key).rpartition(".")[0]
        forged = f"{signed}.{key.mac(signed.encode()).decode()}"
        with pytest.raises(RevocationListError, match="MAC"):
            RevocationList.verify(forged, KEYS)

    def test_a_key_that_is_not_here_is_named_with_the_remedy(self) -> None:
        other = FixedKeys(b"another key of a test, 32 bytes.")
        text = RevocationList().sign(other.primary())
        with pytest.raises(RevocationListError, match=rf"{other.primary().kid}.*revoke --sign"):
            RevocationList.verify(text, KEYS)

    @given(st.text(max_size=200))
    def test_no_text_passes_or_breaks_it(self, text: str) -> None:
        with pytest.raises(RevocationListError):
            RevocationList.verify(text, KEYS)

    @pytest.mark.parametrize(
        "document",
        [
            {},
            [1],
            [{}],
            [{"kind": "user", "value": 1, "at": 1, "until": None}],
            [{"kind": "user", "value": "u", "at": True, "until": None}],
            [{"kind": "host", "value": "u", "at": 1, "until": None}],
            [{"kind": "user", "value": "u", "at": 1, "until": None, "new": 1}],
        ],
    )
    def test_an_entry_of_a_later_release_is_not_ignored(self, document: object) -> None:
        key = KEYS.primary()
        payload = base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()
        signed = f"mksr1.{key.kid}.{payload}"
        text = f"{signed}.{key.list_mac(signed.encode()).decode()}"
        with pytest.raises(RevocationListError, match="upgrade"):
            RevocationList.verify(text, KEYS)


@pytest.fixture
def repository(tmp_path) -> KeyRepository:
    keys = KeyRepository(str(tmp_path / "keys"))
    keys.setup()
    return keys


class TestTheFile:
    def test_an_absent_one_is_an_empty_list(self, repository) -> None:
        assert len(RevocationFile(repository).load()) == 0

    def test_another_node_reads_what_one_has_written(self, repository) -> None:
        RevocationFile(repository).add(Revocation("user", "u", NOW), now=NOW)
        node = RevocationFile(KeyRepository(repository.path))
        assert node.changed()
        assert [entry.value for entry in node.load().entries] == ["u"]
        assert not node.changed()
        RevocationFile(repository).add(Revocation("user", "v", NOW), now=NOW)
        assert node.changed()
        assert [entry.value for entry in node.load().entries] == ["u", "v"]

    def test_is_as_closed_as_the_keys(self, repository) -> None:
        file = RevocationFile(repository)
        file.add(Revocation("user", "u", NOW), now=NOW)
        assert os.stat(file.path).st_mode & 0o777 == 0o600
        assert os.listdir(repository.path).count("revocations") == 1
        assert not [name for name in os.listdir(repository.path) if ".new-" in name]

    def test_the_keys_are_read_beside_it(self, repository) -> None:
        RevocationFile(repository).add(Revocation("user", "u", NOW), now=NOW)
        repository.rotate()
        assert len(KeyRepository(repository.path).entries()) == 3

    def test_a_broken_copy_undoes_no_revocation(self, repository) -> None:
        file = RevocationFile(repository)
        file.add(Revocation("user", "u", NOW), now=NOW)
        with open(file.path, "r+") as stream:
            stream.truncate(20)
        with pytest.raises(RevocationListError, match=file.path):
            file.load()
        assert [entry.value for entry in file.current.entries] == ["u"]

    def test_is_written_only_over_one_that_verifies(self, repository) -> None:
        file = RevocationFile(repository)
        with open(file.path, "w") as stream:
            stream.write("nonsense")
        with pytest.raises(RevocationListError):
            file.add(Revocation("user", "u", NOW), now=NOW)
        with open(file.path) as stream:
            assert stream.read() == "nonsense"

    def test_survives_any_number_of_rotations_when_it_is_signed_again(self, repository) -> None:
        file = RevocationFile(repository)
        file.add(Revocation("user", "u", NOW), now=NOW)
        for _ in range(4):
            repository.rotate()
            repository.load()
            file.sign_again(now=NOW)
        node = RevocationFile(KeyRepository(repository.path))
        assert [entry.value for entry in node.load().entries] == ["u"]

    def test_expired_entries_are_left_out_when_it_is_written(self, repository) -> None:
        file = RevocationFile(repository)
        file.add(Revocation("user", "u", NOW, NOW + 10), now=NOW)
        file.add(Revocation("user", "v", NOW + 20, NOW + 30), now=NOW + 20)
        assert [entry.value for entry in file.load().entries] == ["v"]

    def test_a_huge_one_is_not_read(self, repository) -> None:
        file = RevocationFile(repository)
        with open(file.path, "wb") as stream:
            stream.truncate(MAX_FILE + 1)
        with pytest.raises(RevocationListError, match="more than"):
            file.load()

    def test_bytes_that_are_no_text_are_told_in_a_line(self, repository) -> None:
        file = RevocationFile(repository)
        with open(file.path, "wb") as stream:
            stream.write(b"\xff\xfe")
        with pytest.raises(RevocationListError, match="not ASCII"):
            file.load()


def test_operators_who_revoke_at_the_same_time_lose_nothing_of_each_other(repository):
    names = [f"user-{number}" for number in range(16)]

    def revoke(name: str) -> None:
        RevocationFile(KeyRepository(repository.path)).add(Revocation("user", name, NOW), now=NOW)

    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(revoke, names))
    listed = RevocationFile(repository).load().entries
    assert sorted(entry.value for entry in listed) == sorted(names)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("mksr1.", "mksr2."), "another version than mksr1; upgrade"),
        (lambda text: text[:-9], "copy the file again, whole"),
        (lambda text: text + "\r\n", "copy the file again, whole"),
        (lambda text: "", "copy the file again, whole"),
    ],
)
def test_a_list_that_is_newer_and_one_that_is_cut_have_a_remedy_each(change, words):
    text = RevocationList([Revocation("user", "u", NOW)]).sign(KEYS.primary())
    with pytest.raises(RevocationListError, match=words):
        RevocationList.verify(change(text), KEYS)
