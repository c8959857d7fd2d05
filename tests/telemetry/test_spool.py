"""The spool: what a host made is kept until it is acknowledged or too much, and never named twice."""

import sqlite3

import pytest

from telemetry.agent import membership
from telemetry.agent.config import ConfigInvalid, read_config
from telemetry.agent.outbox import Outbox
from telemetry.agent.spool import FILE, TEND_SECONDS
from tests.telemetry.spooling import HOST, MACHINE, Clock, broken, named, opened_in, parcel, used_bytes, waiting


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(tmp_path, clock):
    with opened_in(tmp_path, clock) as make:
        yield make


def test_what_is_not_acknowledged_is_there_after_a_restart_and_sequences_go_on(opened):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    first = [parcel(names) for _ in range(3)]
    spool.add(first)
    spool.remove(names.epoch, [(0, 0)])
    spool.close()

    again = opened()
    names = again.names(HOST, MACHINE)

    assert waiting(again) == first[1:]
    assert names.claim() == (first[0].epoch, 3)


def test_sequences_go_on_where_all_was_acknowledged(opened):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names)])
    spool.remove(names.epoch, [(0, 0)])
    spool.close()

    assert opened().names(HOST, MACHINE).claim() == (names.epoch, 1)


def test_after_a_reboot_the_numbers_go_on_behind_all_that_a_power_cut_may_have_undone(opened):
    spool = opened(boot="one")
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names)])
    spool.close()

    epoch, sequence = opened(boot="two").names(HOST, MACHINE).claim()

    assert epoch == names.epoch
    assert sequence >= 1_000_000


def test_the_clocks_segment_is_kept_over_a_restart(opened):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    names.segment, names.offset = 4, 123.5
    spool.add([parcel(names)])
    spool.close()

    found = opened().names(HOST, MACHINE)

    assert (found.segment, found.offset) == (4, 123.5)


def test_the_oldest_are_dropped_where_the_bound_in_bytes_is_reached(opened):
    spool = opened(limit_bytes=400_000)
    names = spool.names(HOST, MACHINE)
    made = [parcel(names, body=bytes(3000 if number % 3 else 9000)) for number in range(300)]
    for each in made:
        spool.add([each])

    kept = waiting(spool)
    assert kept == made[-len(kept) :]
    assert spool.n_dropped == 300 - len(kept) > 0
    assert 360_000 < spool.n_bytes <= 400_000
    assert Outbox(spool).cost()["agent_batches_dropped_total"] == spool.n_dropped


def test_what_is_too_old_is_dropped_and_counted(opened, clock):
    spool = opened(limit_seconds=3600)
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names)])
    clock.now += 3000
    young = parcel(names)
    spool.add([young])
    clock.now += 1000

    spool.tend()

    assert waiting(spool) == [young]
    assert spool.n_dropped == 1


@pytest.mark.parametrize("days", [8, -8, 20_000])
def test_a_wall_clock_that_is_set_makes_nothing_older_or_younger(opened, clock, days):
    spool = opened(limit_seconds=3600)
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names)])
    clock.now += 3000
    clock.set_by = days * 86_400.0
    young = parcel(names)
    spool.add([young])
    clock.now += 500
    spool.tend()
    assert spool.n_dropped == 0

    clock.now += 500
    spool.tend()

    assert waiting(spool) == [young]


def test_nothing_is_dropped_where_the_clock_is_set_while_the_disk_is_full(opened, clock, monkeypatch):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names, 1000)])
    mended = broken(monkeypatch, sqlite3.SQLITE_FULL)
    spool.add([parcel(names, 2000)])
    clock.set_by = 8 * 86_400.0
    spool.tend()
    mended()
    for _ in range(2):
        clock.now += TEND_SECONDS
        spool.tend()

    assert [named(each)[2] for each in waiting(spool)] == [1000, 2000]
    assert (spool.n_dropped, spool.is_failed) == (0, False)


def test_a_clock_that_was_wrong_at_the_start_keeps_nothing_from_before_for_years(opened, clock):
    spool = opened(limit_seconds=3600)
    spool.add([parcel(spool.names(HOST, MACHINE))])
    spool.close()
    clock.set_by = -1000 * 86_400.0
    spool = opened(limit_seconds=3600)
    spool.names(HOST, MACHINE)
    clock.set_by = 0.0
    spool.tend()
    clock.now += 3700

    spool.tend()

    assert (spool.n_batches, spool.n_dropped) == (0, 1)


def test_the_file_is_small_again_when_it_is_empty(opened, tmp_path):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names, body=bytes(4000)) for _ in range(2000)])
    spool.close()
    before = (tmp_path / FILE).stat().st_size

    spool = opened()
    spool.names(HOST, MACHINE)
    spool.remove(names.epoch, [(0, 1999)])
    spool.close()

    assert (tmp_path / FILE).stat().st_size < before / 5


def test_the_memory_that_an_outage_took_is_free_a_minute_later(opened, clock):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names, body=bytes(8_000)) for _ in range(500)])
    before = used_bytes()

    clock.now += TEND_SECONDS
    spool.tend()

    assert used_bytes() < before - 1e6


def test_an_acknowledgement_leaves_the_holes(opened):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names) for _ in range(10)])

    assert spool.remove(names.epoch, [(0, 3), (6, 6), (9, 9)]) == 6
    assert [each.sequence for each in waiting(spool)] == [4, 5, 7, 8]


def test_a_copy_of_the_disk_on_another_machine_names_what_waits_anew(opened):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    spool.add([parcel(names, at_ms) for at_ms in (1000, 2000)])
    spool.close()

    copy = opened()
    other = copy.names(HOST, "b" * 32)

    assert other.epoch != names.epoch
    assert [named(each) for each in waiting(copy)] == [(other.epoch, 0, 1000), (other.epoch, 1, 2000)]
    assert other.claim() == (other.epoch, 2)


def test_an_acknowledgement_of_what_was_never_made_begins_another_epoch_and_loses_nothing(opened):
    spool = opened()
    names = spool.names(HOST, MACHINE)
    before, outbox = names.epoch, Outbox(spool)
    outbox.put(parcel(names, 1000))
    outbox.store()
    outbox.sent(outbox.next())

    outbox.acknowledge(before, [(0, 50)])
    outbox.store()

    assert names.epoch != before
    assert [named(each) for each in waiting(spool)] == [(names.epoch, 0, 1000)]


@pytest.mark.parametrize(
    ("name", "raw"), [("STEPWATT_SPOOL_BYTES", "1000"), ("STEPWATT_SPOOL_BYTES", "1GB"), ("STEPWATT_SPOOL_DAYS", "0")]
)
def test_a_bound_that_makes_no_sense_is_refused_by_its_name(tmp_path, name, raw):
    membership.enrol_here(tmp_path / "agent", HOST, "redis://127.0.0.1:1/0", bytes(32))

    with pytest.raises(ConfigInvalid, match=name):
        read_config({"STEPWATT_DATA_DIR": str(tmp_path), name: raw})


def test_the_bounds_are_settings(tmp_path):
    membership.enrol_here(tmp_path / "agent", HOST, "redis://127.0.0.1:1/0", bytes(32))
    given = {"STEPWATT_SPOOL_BYTES": "10000000", "STEPWATT_SPOOL_DAYS": "0.5"}

    config = read_config({"STEPWATT_DATA_DIR": str(tmp_path), **given})

    assert (config.spool_bytes, config.spool_seconds) == (10_000_000, 43_200)
