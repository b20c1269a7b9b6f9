"""The keys are nobody else's, and can be replaced while everything runs."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import threading

import pytest

from mksfilter.auth import keys as keys_module
from mksfilter.auth.keys import CHECK_INTERVAL, FORCED_CHECKS, VANISHED_GRACE, KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.auth.weak_keys import weakness
from mksfilter.exceptions import KeyRepositoryError, TokenKeyUnknown
from mksfilter.request import ConsoleRequest
from tests.support.clock import Clock
from tests.support.volume import Volume

INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def repository(path, clock):
    repository = KeyRepository(str(path), clock=clock)
    repository.setup()
    return repository


def write(path, number, text, mode=0o600):
    file = path / str(number)
    file.write_text(text)
    file.chmod(mode)


def roles(repository):
    return [(entry.number, entry.role) for entry in repository.entries()]


def kids(repository):
    return {entry.number: entry.kid for entry in repository.entries()}


class TestSetup:
    def test_makes_a_staged_key_and_a_primary_one(self, repository):
        assert roles(repository) == [(0, "staged"), (1, "primary")]
        assert repository.primary().kid == kids(repository)[1]

    def test_tells_when_each_was_made(self, repository, path):
        os.utime(path / "1", (1000, 1000))
        assert repository.created()[1] == 1000
        assert set(repository.created()) == {0, 1}

    def test_lets_nobody_else_read_them(self, repository, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert [stat.S_IMODE((path / n).stat().st_mode) for n in "01"] == [0o600, 0o600]

    def test_lets_nobody_else_read_them_whatever_the_umask(self, path):
        before = os.umask(0)
        try:
            KeyRepository(str(path)).setup()
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE((path / "1").stat().st_mode) == 0o600

    def test_replaces_no_keys(self, repository, path):
        before = (path / "1").read_bytes()
        with pytest.raises(KeyRepositoryError, match=r"has keys already.*keys rotate"):
            KeyRepository(str(path)).setup()
        assert (path / "1").read_bytes() == before

    def test_puts_no_keys_into_a_directory_that_others_can_read(self, path):
        path.mkdir(mode=0o755)
        with pytest.raises(KeyRepositoryError, match="chmod 0700"):
            KeyRepository(str(path)).setup()
        assert list(path.iterdir()) == []

    def test_makes_keys_of_256_random_bits_that_differ(self, repository, path):
        secrets = {base64.urlsafe_b64decode((path / n).read_bytes()) for n in "01"}
        assert [len(secret) for secret in secrets] == [32, 32]

    def test_says_which_directory_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(KeyRepositoryError, match=r"file/keys"):
            KeyRepository(str(tmp_path / "file" / "keys")).setup()


class TestRotation:
    def test_promotes_the_staged_key_and_stages_a_new_one(self, repository):
        before = kids(repository)
        repository.rotate()
        after = kids(repository)
        assert roles(repository) == [(0, "staged"), (1, "active"), (2, "primary")]
        assert (after[1], after[2]) == (before[1], before[0])
        assert after[0] not in before.values()

    def test_removes_the_oldest_keys(self, repository):
        for _ in range(4):
            repository.rotate(max_active_keys=3)
        assert roles(repository) == [(0, "staged"), (4, "active"), (5, "primary")]

    def test_keeps_more_keys_when_told_to(self, repository):
        for _ in range(4):
            repository.rotate(max_active_keys=5)
        assert [number for number, _ in roles(repository)] == [0, 2, 3, 4, 5]

    def test_never_removes_the_key_before_the_primary(self, repository):
        with pytest.raises(ValueError, match="3 or more"):
            repository.rotate(max_active_keys=2)

    def test_that_was_interrupted_is_completed_without_promoting_an_unknown_key(
        self, repository, path
    ):
        (path / "0").rename(path / "2")
        repository.rotate()
        assert roles(repository) == [(0, "staged"), (1, "active"), (2, "primary")]

    def test_clears_away_what_an_interrupted_one_left(self, repository, path):
        write(path, ".new-0123456789abcdef", "half a k")
        repository.rotate()
        assert sorted(p.name for p in path.iterdir()) == ["0", "1", "2"]

    @pytest.mark.parametrize("step", [1, 2, 3])
    def test_loses_no_key_when_the_disk_is_full(self, repository, path, monkeypatch, step):
        before = kids(repository)
        steps = iter(range(1, 10))
        really = os.fsync

        def full(descriptor: int) -> None:
            if next(steps) == step:
                raise OSError(28, "No space left on device")
            really(descriptor)

        monkeypatch.setattr(keys_module.os, "fsync", full)
        with pytest.raises(KeyRepositoryError, match="No space left"):
            repository.rotate()
        assert set(before.values()) <= set(kids(repository).values())
        assert not list(path.glob(".new-*"))

    def test_by_several_at_once_loses_no_key(self, repository, path):
        start = threading.Barrier(4)

        def rotate() -> None:
            start.wait()
            KeyRepository(str(path)).rotate(max_active_keys=10)

        threads = [threading.Thread(target=rotate) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [number for number, _ in roles(repository)] == [0, 1, 2, 3, 4, 5]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_by_root_leaves_the_keys_to_the_directorys_owner(self, repository, path):
        os.chown(path, 12345, 12346)
        repository.rotate()
        info = (path / "0").stat()
        assert (info.st_uid, info.st_gid) == (12345, 12346)


class TestRefusal:
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o602, 0o610])
    def test_of_a_key_that_others_may_use(self, repository, path, mode):
        (path / "1").chmod(mode)
        with pytest.raises(KeyRepositoryError, match=rf"keys/1 is open.*{mode:04o}.*chmod 0600"):
            repository.load()

    @pytest.mark.parametrize("mode", [0o755, 0o710, 0o702])
    def test_of_a_directory_that_others_may_enter(self, repository, path, mode):
        path.chmod(mode)
        with pytest.raises(KeyRepositoryError, match=rf"keys is open.*{mode:04o}.*chmod 0700"):
            repository.load()

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "0 bytes"),
            ("c2VjcmV0", "6 bytes.*needs 32"),
            ("change-me!", "not base64url"),
            ("\u00e9" * 40, "not base64url"),
            (base64.urlsafe_b64encode(b"\0" * 32).decode(), "well-known or guessable"),
            (base64.urlsafe_b64encode(b"A" * 64).decode(), "well-known or guessable"),
            (base64.urlsafe_b64encode(b"secret" * 8).decode(), "well-known or guessable"),
            (base64.urlsafe_b64encode(bytes(range(32))).decode(), "well-known or guessable"),
            ("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=", "well-known or guessable"),
        ],
    )
    def test_of_a_weak_key_names_the_file_and_the_remedy(self, repository, path, text, why):
        write(path, 1, text)
        with pytest.raises(KeyRepositoryError, match=rf"keys/1: .*{why}.*keys setup") as caught:
            repository.load()
        assert len(text) < 5 or text not in str(caught.value)
        assert caught.value.__cause__ is None, "the cause's text could hold the key"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_of_a_key_that_belongs_to_somebody_else(self, repository, path):
        os.chown(path / "1", 12345, -1)
        with pytest.raises(KeyRepositoryError, match=r"keys/1 belongs to 12345.*chown it to root"):
            repository.load()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_of_a_key_that_does_not_belong_to_its_directorys_owner(self, repository, path):
        os.chown(path, 12345, -1)  # root may keep the keys of another user
        os.chown(path / "0", 12345, -1)
        os.chown(path / "1", 12345, -1)
        repository.load()
        os.chown(path / "1", 12346, -1)
        with pytest.raises(KeyRepositoryError, match="belongs to 12346"):
            repository.load()

    def test_of_a_repository_that_is_not_there(self, path):
        with pytest.raises(KeyRepositoryError, match=r"no such.*keys setup.*key_repository"):
            KeyRepository(str(path)).load()

    def test_of_a_file_in_its_place(self, path):
        path.write_text("")
        with pytest.raises(KeyRepositoryError, match=r"(?i)not a directory"):
            KeyRepository(str(path)).load()

    def test_of_a_repository_without_a_primary_key(self, repository, path):
        (path / "1").unlink()
        with pytest.raises(KeyRepositoryError, match="no primary key"):
            repository.load()

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
    def test_of_another_users_repository_says_whose_it_is_and_who_asked(self, repository, path):
        for parent in path.parents:
            if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
                parent.chmod(0o755)
        code = (
            "import os\n"
            "from mksfilter.auth.keys import KeyRepository\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            f"KeyRepository({str(path)!r}).load()"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
        )
        assert "user nobody may not use it, it belongs to root" in result.stderr
        assert "chown" in result.stderr

    def test_is_not_triggered_by_files_that_are_no_keys(self, repository, path):
        for name in (".1.swp", "1.bak", "README", "-1", "\u0661"):
            write(path, name, "junk", 0o644)
        # What a file looks like that a rotation renames between listing and reading.
        (path / "7").symlink_to("gone")
        assert roles(repository) == [(0, "staged"), (1, "primary")]
        assert repository.primary().kid == kids(repository)[1]


class TestReload:
    def test_happens_within_a_second_of_a_change(self, repository, path, clock):
        before = repository.primary().kid
        KeyRepository(str(path)).rotate()
        assert repository.primary().kid == before
        clock.advance(CHECK_INTERVAL)
        assert repository.primary().kid != before

    def test_happens_at_once_when_a_token_names_an_unknown_key(self, repository, path):
        repository.primary()
        KeyRepository(str(path)).rotate()
        staged = kids(repository)[0]
        assert repository.get(staged).kid == staged

    def test_notices_a_key_that_is_rewritten_in_place(self, repository, path, clock):
        before = repository.primary().kid
        write(path, 1, base64.urlsafe_b64encode(os.urandom(32)).decode())
        clock.advance(CHECK_INTERVAL)
        assert repository.primary().kid != before

    def test_reads_no_key_again_while_nothing_changes(self, repository, clock, monkeypatch):
        repository.primary()
        monkeypatch.setattr(keys_module, "_read", lambda _: pytest.fail("keys were read again"))
        for _ in range(10):
            clock.advance(CHECK_INTERVAL)
            repository.primary()

    def test_does_not_look_at_the_disk_more_than_once_a_second(
        self, repository, clock, monkeypatch
    ):
        repository.primary()
        looks = count_looks(monkeypatch)
        for _ in range(80):
            clock.advance(0.125)
            repository.primary()
        assert looks == [1] * 10

    def test_forged_key_names_cannot_keep_the_disk_busy(self, repository, clock, monkeypatch):
        repository.primary()
        looks = count_looks(monkeypatch)
        for number in range(1000):
            with pytest.raises(TokenKeyUnknown):
                repository.get(f"{number:012x}")
        assert len(looks) == FORCED_CHECKS

    def test_stops_using_a_repository_that_others_can_read_by_now(self, repository, path, clock):
        repository.primary()
        (path / "1").chmod(0o644)
        clock.advance(CHECK_INTERVAL)
        with pytest.raises(KeyRepositoryError, match="open to others"):
            repository.primary()

    def test_recovers_when_the_repository_does(self, repository, path, clock, caplog):
        before = repository.primary().kid
        path.rename(path.with_name("elsewhere"))
        clock.advance(CHECK_INTERVAL)
        with pytest.raises(KeyRepositoryError, match="no such"):
            repository.primary()
        assert "event=key-repository-unusable" in caplog.text
        path.with_name("elsewhere").rename(path)
        clock.advance(CHECK_INTERVAL)
        assert repository.primary().kid == before

    def test_forgets_a_removed_key_after_a_moment(self, repository, path, clock):
        old = repository.primary().kid
        for _ in range(2):
            KeyRepository(str(path)).rotate()
        clock.advance(CHECK_INTERVAL)
        assert repository.get(old).kid == old
        clock.advance(VANISHED_GRACE)
        with pytest.raises(TokenKeyUnknown, match=old):
            repository.get(old)


class TestVolume:
    """A Secret that Kubernetes mounts: links to files of root's that the pod's group reads."""

    @pytest.fixture
    def volume(self, path):
        return Volume(path, new_keys())

    @pytest.fixture
    def mounted(self, volume, clock):
        return KeyRepository(str(volume.path), clock=clock)

    def test_is_read_in_place(self, mounted):
        assert roles(mounted) == [(0, "staged"), (1, "primary")]
        assert mounted.primary().kid == kids(mounted)[1]

    def test_may_have_the_keys_in_a_directory_of_it(self, tmp_path):
        keys = {f"keys/{name}": text for name, text in new_keys().items()}
        volume = Volume(tmp_path / "volume", keys)
        assert len(roles(KeyRepository(str(volume.path / "keys")))) == 2

    def test_follows_a_rotation_within_a_second(self, mounted, volume, clock):
        before = mounted.primary().kid
        volume.replace(new_keys())
        clock.advance(CHECK_INTERVAL)
        assert mounted.primary().kid not in (before, None)

    def test_is_read_again_when_it_is_replaced_meanwhile(self, mounted, volume, monkeypatch):
        """Never keys of two states, and no moment without keys."""
        after = new_keys()
        read = keys_module._read_key

        def replaced(file, **options):
            monkeypatch.setattr(keys_module, "_read_key", read)
            key = read(file, **options)
            volume.replace(after)
            return key

        monkeypatch.setattr(keys_module, "_read_key", replaced)
        mounted.load()
        assert mounted.primary().kid == kids(KeyRepository(str(volume.path)))[1]
        assert {entry.kid for entry in mounted.entries()} == set(mounted._state.by_kid)

    @pytest.mark.parametrize("mode", [0o444, 0o644, 0o460])
    def test_that_more_than_its_group_may_read_is_refused(self, mounted, volume, mode):
        (volume.dated / "1").chmod(mode)
        with pytest.raises(KeyRepositoryError, match=rf"{mode:04o}.*defaultMode: 0440"):
            mounted.load()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_never_holds_what_others_put_beside_its_link(self, mounted, volume):
        (volume.path / "9").write_text(new_keys()["1"])
        (volume.path / "9").chmod(0o440)
        os.chown(volume.path / "9", 12345, 12345)
        (volume.path / "8").symlink_to("..data/1")
        os.chown(volume.path / "8", 12345, 12345, follow_symlinks=False)
        assert roles(mounted) == [(0, "staged"), (1, "primary")]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_with_a_file_of_somebody_elses_is_refused(self, mounted, volume):
        os.chown(volume.dated / "1", 12345, 0)
        with pytest.raises(KeyRepositoryError, match="1 belongs to 12345, who could replace it"):
            mounted.load()

    def test_with_an_open_directory_is_refused_without_the_sticky_bit(self, mounted, volume):
        volume.path.chmod(0o777)
        with pytest.raises(KeyRepositoryError, match=r"0777.*chmod \+t.*make new keys"):
            mounted.load()

    @pytest.mark.parametrize("action", ["setup", "rotate"])
    def test_is_not_written(self, mounted, volume, action):
        before = sorted(os.listdir(volume.path))
        with pytest.raises(KeyRepositoryError, match="replace the Secret"):
            getattr(mounted, action)()
        assert sorted(os.listdir(volume.path)) == before

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
    @pytest.mark.parametrize(
        ("groups", "told"), [([12345], "2 keys"), ([], "user nobody may not use it.*fsGroup")]
    )
    def test_is_read_by_the_pods_user_through_the_pods_group(self, volume, groups, told):
        for file in volume.dated.iterdir():
            os.chown(file, 0, 12345)
        for parent in volume.path.parents:
            if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
                parent.chmod(0o755)
        code = (
            "import os\n"
            "from mksfilter.auth.keys import KeyRepository\n"
            f"os.setgroups({groups}); os.setgid(65534); os.setuid(65534)\n"
            f"print(len(KeyRepository({str(volume.path)!r}).entries()), 'keys')"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
        )
        assert re.search(told, result.stdout + result.stderr), result


class TestWeakKeys:
    @pytest.mark.parametrize(
        ("secret", "why"),
        [
            (bytes(32), "repeats"),
            (b"\xff" * 64, "repeats"),
            (hashlib.sha256(b"16").digest()[:16] * 2, "repeats"),
            ((hashlib.sha256(b"13").digest()[:13] * 3)[:32], "repeats"),
            (bytes(range(32)), "count"),
            (bytes(range(1, 33)), "count"),
            (bytes(range(200, 168, -1)), "count"),
            (bytes(number * 7 % 256 for number in range(48)), "count"),
            (b"".join(number.to_bytes(2, "big") for number in range(1, 40)), "count"),
            (b"".join(number.to_bytes(4, "little") for number in range(1, 40)), "count"),
            (b"correct horse battery staple! 123", "text"),
            (b"0123456789abcdefghijklmnopqrstuv", "text"),
            (hashlib.sha256(b"changeme").digest(), "digest"),
            (hashlib.sha256(b"changeme\n").digest(), "digest"),
            (hashlib.sha512(b"Password").digest(), "digest"),
            (hashlib.sha3_256(b"").digest(), "digest"),
            (hashlib.blake2s(b"mksfilter").digest(), "digest"),
        ],
    )
    def test_are_refused_whatever_they_are_made_of(self, repository, path, secret, why):
        write(path, 1, base64.urlsafe_b64encode(secret).decode())
        with pytest.raises(KeyRepositoryError, match=rf"keys/1: .*{why}.*keys setup") as caught:
            repository.load()
        assert base64.urlsafe_b64encode(secret).decode()[:12] not in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("changeme" * 6, "repeats"),
            ("correct-horse-battery-staple-correct_horses", "text"),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZ-ABCDEFGHIJKLMNOP", "text"),
            ("3141592653589793238462643383279502884197169", "text"),
            (hashlib.sha256(b"secret").hexdigest(), "digest"),
            (hashlib.sha256(b"secret\n").hexdigest().upper(), "digest"),
        ],
    )
    def test_are_refused_when_they_were_typed(self, repository, path, text, why):
        write(path, 1, text)
        with pytest.raises(KeyRepositoryError, match=rf"keys/1: .*{why}.*keys setup"):
            repository.load()

    def test_are_never_what_a_random_generator_makes(self):
        for _ in range(5000):
            secret = os.urandom(32)
            assert weakness(secret, base64.urlsafe_b64encode(secret)) == ""

    def test_are_not_digests_of_what_nobody_knows(self, repository, path):
        write(path, 1, hashlib.sha256(os.urandom(32)).hexdigest())
        repository.load()


def new_keys():
    """Text by name, as in a Secret made of the files of a repository."""
    return {name: base64.urlsafe_b64encode(os.urandom(32)).decode() + "\n" for name in ("0", "1")}


def count_looks(monkeypatch):
    looks = []
    real = keys_module._fingerprint

    def look(path):
        looks.append(1)
        return real(path)

    monkeypatch.setattr(keys_module, "_fingerprint", look)
    return looks


def test_no_token_is_refused_while_three_nodes_learn_of_rotations_at_different_times(
    repository, path, tmp_path, clock
):
    """The origin rotates; a filter and two proxies get copies late, each at its own time."""
    token_life = 5
    chance = random.Random(7)
    wall = Clock()
    nodes = []
    for number in range(3):
        copy = tmp_path / f"node{number}"
        shutil.copytree(path, copy)
        nodes.append((copy, TokenCodec(KeyRepository(str(copy), clock=clock), "a", clock=wall)))
    live: list[str] = []
    verified, seconds_apart, signers = 0, 0, set()

    def everybody_accepts(token: str) -> int:
        return sum(1 for _, codec in nodes if codec.verify(token))

    def a_second_passes() -> None:
        nonlocal verified, seconds_apart
        clock.advance(1)
        wall.advance(1)
        minted = [
            codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=token_life).token
            for _, codec in nodes
        ]
        kids = {token.split(".")[1] for token in minted}
        signers.update(kids)
        seconds_apart += len(kids) > 1
        live[:] = [*live, *minted][-len(nodes) * token_life :]
        verified += sum(everybody_accepts(token) for token in live)

    for _rotation in range(6):
        repository.rotate()
        waiting = [copy for copy, _ in nodes]
        chance.shuffle(waiting)
        while waiting:
            for _ in range(chance.randint(1, 4)):
                a_second_passes()
            synchronise(path, waiting.pop(), between=lambda: everybody_accepts(live[-1]))
        for _ in range(token_life):
            a_second_passes()
    assert verified > 2000
    assert len(signers) == 7, "not every rotation took place"
    assert seconds_apart > 10, "the nodes never signed with different keys: nothing was shown"


def synchronise(source, copy, between):
    """Copy as rsync does: one file after the other, by name, then remove what is gone."""
    for name in sorted(os.listdir(source)):
        shutil.copy2(source / name, copy / ".incoming")
        (copy / ".incoming").rename(copy / name)
        between()
    for name in set(os.listdir(copy)) - set(os.listdir(source)):
        (copy / name).unlink()
        between()


def test_threads_see_one_consistent_repository_during_rotations(repository, path, clock):
    codec = TokenCodec(repository, "a")
    failures: list[BaseException] = []
    done = threading.Event()

    def use() -> None:
        try:
            while not done.is_set():
                codec.verify(codec.issue(ConsoleRequest(INSTANCE, mode="full"), ttl=600).token)
        except BaseException as exc:  # a thread's own error must fail the test
            failures.append(exc)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        KeyRepository(str(path)).rotate(max_active_keys=30)
        clock.advance(CHECK_INTERVAL)
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
