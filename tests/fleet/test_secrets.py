"""The installation's own secrets."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from fleet.secrets import load_or_create


def test_they_are_made_once_and_stay(tmp_path):
    first = load_or_create(tmp_path / "var")

    assert load_or_create(tmp_path / "var") == first
    assert len(set(first.values())) == 2
    assert all(len(secret) > 40 for secret in first.values())


def test_only_their_owner_can_read_them(tmp_path):
    load_or_create(tmp_path)

    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_processes_that_start_together_agree(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: load_or_create(tmp_path), range(8)))

    assert all(secrets == made[0] for secrets in made)
    assert [file.name for file in tmp_path.iterdir()] == ["secrets.json"]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"django_secret_key": "x"}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "secrets.json").write_text(content)

    with pytest.raises(ValueError, match=r"secrets\.json is damaged"):
        load_or_create(tmp_path)
