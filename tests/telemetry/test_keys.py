"""The host's key on its disk, and the seal under messages while the key changes."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from telemetry.agent.invalid import ConfigInvalid
from telemetry.agent.keys import NEXT_NAME, HostKey, Seal, take
from telemetry.message import envelope


def test_a_key_is_made_once_and_stays(tmp_path):
    made = HostKey.load_or_create(tmp_path)

    assert HostKey.load_or_create(tmp_path).public_bytes == made.public_bytes
    assert (tmp_path / "host.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["host.key"]


def test_the_file_holds_the_seed_in_base64(tmp_path):
    (tmp_path / "host.key").write_text("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")

    # RFC 8032's arithmetic for the seed of 32 zero bytes.
    assert HostKey.load(tmp_path).public_bytes.hex().startswith("3b6a27bcceb6a42d62a3a8d02a6f0d73")


@pytest.mark.parametrize("content", [b"", b"not base64!", b"AAAA\n", b"\xff" * 32])
def test_a_damaged_key_is_named_and_never_replaced(tmp_path, content):
    (tmp_path / "host.key").write_bytes(content)

    with pytest.raises(ConfigInvalid, match=r"host\.key: the host's key is damaged; .*join again"):
        HostKey.load_or_create(tmp_path)
    assert (tmp_path / "host.key").read_bytes() == content


def signer(sealed: bytes, *keys: HostKey) -> list[bool]:
    """Say for each key whether it signed."""
    letter = envelope.read(sealed)

    def has_signed(key: HostKey) -> bool:
        try:
            return letter.verify("task", key.public_bytes) == b"body"
        except envelope.SignatureInvalid:
            return False

    return [has_signed(key) for key in keys]


def test_a_key_that_was_rotated_meanwhile_signs_what_comes_after(tmp_path):
    old = HostKey.load_or_create(tmp_path)
    seal = Seal(tmp_path, "a")
    before = seal("task", b"body")
    new = HostKey.load_or_create(tmp_path, NEXT_NAME)
    take(tmp_path, NEXT_NAME)

    assert signer(before, old, new) == [True, False]
    assert signer(seal("task", b"body"), old, new) == [False, True]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("x")])
def test_a_key_that_is_lost_while_the_agent_runs_signs_on(tmp_path, damage):
    old = HostKey.load_or_create(tmp_path)
    seal = Seal(tmp_path, "a")
    damage(tmp_path / "host.key")

    assert signer(seal("task", b"body"), old) == [True]


def test_an_agent_without_a_key_does_not_start(tmp_path):
    with pytest.raises(ConfigInvalid, match="join again"):
        Seal(tmp_path, "a")


def test_the_public_key_is_what_verifies(tmp_path):
    key = HostKey.load_or_create(tmp_path)

    Ed25519PublicKey.from_public_bytes(key.public_bytes).verify(key.private.sign(b"x"), b"x")
