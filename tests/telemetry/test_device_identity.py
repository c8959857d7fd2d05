"""Names of machines and devices that have none of their own."""

import uuid

import pytest

from telemetry.agent.backends.identity import machine_id, stable_uuid

FIRST = "0123456789abcdef0123456789abcdef"
SECOND = "fedcba9876543210fedcba9876543210"


@pytest.fixture
def sources(tmp_path):
    return (tmp_path / "etc-machine-id", tmp_path / "dbus-machine-id")


def test_the_systems_own_id_comes_first(tmp_path, sources):
    sources[0].write_text(f"{FIRST}\n")
    sources[1].write_text(f"{SECOND}\n")
    assert machine_id(tmp_path, sources) == FIRST


@pytest.mark.parametrize("content", [b"", b"uninitialized\n", b"\xff\xfe", b"0123"])
def test_an_id_that_is_none_is_passed_over(tmp_path, sources, content):
    sources[0].write_bytes(content)
    sources[1].write_text(SECOND)
    assert machine_id(tmp_path, sources) == SECOND


def test_a_machine_without_an_id_gets_one_that_stays(tmp_path, sources):
    made = machine_id(tmp_path, sources)
    assert len(made) == 32
    assert machine_id(tmp_path, sources) == made


def test_two_machines_without_an_id_get_different_ones(tmp_path, sources):
    (tmp_path / "other").mkdir()
    assert machine_id(tmp_path, sources) != machine_id(tmp_path / "other", sources)


def test_a_half_written_id_is_made_anew(tmp_path, sources):
    (tmp_path / "machine-id").write_text("0123")
    assert machine_id(tmp_path, sources) == machine_id(tmp_path, sources) != "0123"


def test_an_id_that_cannot_be_kept_is_an_error(tmp_path, sources):
    with pytest.raises(FileNotFoundError):
        machine_id(tmp_path / "missing", sources)


def test_a_devices_uuid_never_changes():
    # Written down: another namespace or spelling would make every known CPU a new device.
    assert stable_uuid(FIRST, "cpu", "package-0") == "6bf1bacd-a05d-562f-b7c7-c5a2972e600e"


@pytest.mark.parametrize(
    "other", [(SECOND, "cpu", "package-0"), (FIRST, "tpu", "package-0"), (FIRST, "cpu", "package-1")]
)
def test_another_machine_kind_or_address_is_another_device(other):
    assert stable_uuid(*other) != stable_uuid(FIRST, "cpu", "package-0")


def test_a_devices_uuid_does_not_show_the_machines_id():
    found = stable_uuid(FIRST, "cpu", "package-0")
    assert uuid.UUID(found).version == 5
    assert FIRST not in found.replace("-", "")
