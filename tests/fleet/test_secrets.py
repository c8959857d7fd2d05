"""The installation's own secrets."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleet.environment.secrets import load_or_create, server_key

OF_BEFORE = {"django_secret_key": "d" * 64, "broker_password": "b" * 64}


def test_they_are_made_once_and_stay(tmp_path):
    first = load_or_create(tmp_path / "var")

    assert load_or_create(tmp_path / "var") == first
    assert len(set(first.values())) == 3
    assert all(len(secret) > 40 for secret in first.values())


def test_the_servers_key_is_an_ed25519_seed(tmp_path):
    assert len(server_key(load_or_create(tmp_path))) == 32


def test_only_their_owner_can_read_them(tmp_path):
    load_or_create(tmp_path)

    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("there", [None, OF_BEFORE], ids=["first start", "file without the server's key"])
def test_processes_that_start_together_agree(tmp_path, there):
    if there:
        (tmp_path / "secrets.json").write_text(json.dumps(there))

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: load_or_create(tmp_path), range(8)))

    assert all(secrets == made[0] for secrets in made)
    assert [file.name for file in tmp_path.iterdir()] == ["secrets.json"]


def test_a_file_without_the_servers_key_is_completed_and_keeps_the_rest(tmp_path):
    (tmp_path / "secrets.json").write_text(json.dumps(OF_BEFORE))

    completed = load_or_create(tmp_path)

    assert OF_BEFORE.items() <= completed.items()
    assert json.loads((tmp_path / "secrets.json").read_text()) == completed
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '{"django_secret_key": "x"}', json.dumps(OF_BEFORE | {"server_key": "AAAA"})],
    ids=["empty", "nothing", "list", "half", "short key"],
)
def test_a_damaged_file_is_named_and_left_alone(tmp_path, content):
    (tmp_path / "secrets.json").write_text(content)

    with pytest.raises(ValueError, match=r"secrets\.json is damaged"):
        load_or_create(tmp_path)

    assert (tmp_path / "secrets.json").read_text() == content
