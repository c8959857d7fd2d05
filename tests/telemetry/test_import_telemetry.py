"""`manage.py import_telemetry` with recorded files, up to what is stored."""

import io
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from fleet.models import Device, Host, Origin
from telemetry import rollups
from telemetry.accounts.energy import trapezoid
from telemetry.maintenance.retention import retire
from telemetry.models import Chunk, DirtyRollup, StoredBatch
from telemetry.newest.queries import fleet_state
from telemetry.store import compact, latest, rolled, samples, verify
from telemetry.store.statistics import Field
from tests.factories import make_device, make_host
from tests.people import signed_in

DATA = Path(__file__).parent.parent / "data"
MLPERF = DATA / "mlperf_gpt3_64xh100" / "node_power_ac.csv.xz"
SMI = """\
timestamp, index, uuid, name, power.draw [W], utilization.gpu [%], memory.used [MiB], pstate
2024/05/17 15:38:27.100, 0, GPU-aa, NVIDIA A40, 100.00 W, 50 %, 10 MiB, P0
2024/05/17 15:38:27.101, 1, GPU-bb, NVIDIA A40, [N/A], 60 %, 20 MiB, P0
2024/05/17 15:38:28.100, 0, GPU-aa, NVIDIA A40, 110.00 W, 55 %, 10 MiB, P0
"""

pytestmark = pytest.mark.django_db


def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    call_command("import_telemetry", *map(str, arguments), stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def write(tmp_path, text, name="log.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def watts(host="a"):
    device = Device.objects.get(host__name=host, kind="node")
    found = samples.of_device(device, "power_draw_watts", 0, 2**62)
    return list(zip(found.times_ms.tolist(), found.values.tolist(), strict=True))


def test_the_recorded_power_of_64_nodes_comes_in_whole():
    told, _ = run(MLPERF, "--cluster", "mlperf")

    assert told.startswith("108,916 rows, 108,916 samples of 64 devices on 64 hosts")
    assert Host.objects.filter(origin=Origin.IMPORTED, cluster="mlperf").count() == 64
    power = [samples.of_device(device, "power_draw_watts", 0, 2**62) for device in Device.objects.all()]
    assert sum(series.values.size for series in power) == 108_916
    joules = sum(trapezoid(series, 0, 2**62)[0] for series in power)
    assert joules / 3.6e6 == pytest.approx(415.26, abs=0.01)  # the submitter published 415.22 kWh


def test_a_recording_that_was_imported_and_compacted_changes_nothing_again(tmp_path):
    lines = [f"{1_715_960_307_000 + 1000 * n},{host},{n}\n" for host in "ab" for n in range(900)]
    log = write(tmp_path, "time_ms,host,watts\n" + "".join(lines))
    run(log)
    compact.compact(datetime.now(UTC), 60)
    before = [(row.pk, bytes(row.body)) for row in Chunk.objects.order_by("pk")]
    DirtyRollup.objects.all().delete()

    assert "nothing new" in run(log)[0]
    assert [(row.pk, bytes(row.body)) for row in Chunk.objects.order_by("pk")] == before
    assert not StoredBatch.objects.exists()
    assert not DirtyRollup.objects.exists()


def test_an_nvidia_smi_log_becomes_devices_with_their_readings(tmp_path):
    _, told = run(write(tmp_path, SMI), "--host", "old-1")

    first, second = Device.objects.order_by("index")
    assert (first.uuid, first.model, second.uuid) == ("GPU-aa", "NVIDIA A40", "GPU-bb")
    newest = latest.of_hosts([first.host])[first.host_id].devices
    assert newest["GPU-aa"].values == {
        "power_draw_watts": 110, "gpu_utilization_ratio": 0.55, "memory_used_bytes": 10 * 2**20
    }  # fmt: skip
    assert "power_draw_watts" not in newest["GPU-bb"].values
    assert "not imported: pstate" in told


def test_any_split_and_order_of_a_log_ends_in_the_same_samples(tmp_path):
    lines = [f"{1_715_960_307_000 + 1000 * n},a,{n}\n" for n in range(900)]
    expected = [(1_715_960_307_000 + 1000 * n, float(n)) for n in range(900)]
    random.Random(3).shuffle(lines)
    for number, part in enumerate((lines[:500], lines[300:], lines[100:700])):
        run(write(tmp_path, "time_ms,host,watts\n" + "".join(part), f"{number}.csv"))
        compact.compact(datetime.now(UTC), 60)

    assert watts() == expected


def test_a_later_file_adds_a_metric_to_what_is_there(tmp_path):
    run(write(tmp_path, "time_ms,host,watts\n1715960307000,a,5\n"))
    run(write(tmp_path, "time_ms,host,temperature_celsius\n1715960307000,a,40\n"))

    device = Device.objects.get()
    assert samples.of_device(device, "power_draw_watts", 0, 2**62).values.tolist() == [5]
    assert samples.of_device(device, "temperature_celsius", 0, 2**62).values.tolist() == [40]


def test_two_files_of_one_command_are_joined_by_their_times(tmp_path):
    power = write(tmp_path, "time_ms,host,watts\n1715960307000,a,5\n", "power.csv")
    heat = write(tmp_path, "time_ms,host,temperature_celsius\n1715960307000,a,40\n", "heat.csv")
    told, _ = run(power, heat)
    assert "2 rows, 2 samples" in told
    assert "0 bad rows" in told
    assert samples.of_device(Device.objects.get(), "temperature_celsius", 0, 2**62).values.tolist() == [40]


def test_where_two_files_differ_the_later_one_holds(tmp_path):
    first = write(tmp_path, "time_ms,host,watts\n1715960307000,a,5\n", "1.csv")
    second = write(tmp_path, "time_ms,host,watts\n1715960307000,a,6\n", "2.csv")
    assert "0 bad rows" in run(first, second)[0]
    assert watts() == [(1715960307000, 6.0)]


def test_more_samples_than_a_batch_can_hold_are_imported_whole(tmp_path):
    start = 1_715_960_400_000
    for number, shift in enumerate((0, 50)):
        rows = "".join(f"{start + 100 * n + shift},a,{n}\n" for n in range(5_100))
        told, _ = run(write(tmp_path, "time_ms,host,watts\n" + rows, f"{number}.csv"))
    assert "0 bad rows" in told
    assert len(watts()) == 10_200


def test_bad_rows_are_told_and_the_rest_is_imported(tmp_path):
    told, faults = run(write(tmp_path, "time_ms,host,watts\n1715960307000,a,5\nx,a,6\n"))
    assert "1 bad rows" in told
    assert "line 3" in faults


def test_a_file_without_a_good_row_changes_nothing(tmp_path):
    good = write(tmp_path, "time_ms,host,watts\n1715960307000,a,5\n", "good.csv")
    with pytest.raises(CommandError, match=r"bad\.csv: no row could be used.*line 2"):
        run(good, write(tmp_path, "time_ms,host,watts\nx,a,6\n", "bad.csv"))
    assert not Host.objects.exists()


@pytest.mark.parametrize("origin", [Origin.REAL, Origin.SIMULATED])
def test_a_host_that_reports_is_not_mixed_with_recorded_telemetry(tmp_path, origin):
    make_host("a", origin=origin)
    with pytest.raises(CommandError, match=f"host a is {origin}"):
        run(write(tmp_path, "time_ms,host,watts\n1715960307000,b,5\n1715960307000,a,5\n"))
    assert not Host.objects.filter(name="b").exists()


def test_a_device_of_another_host_is_not_taken(tmp_path):
    make_device(make_host("gpu-a01"), uuid="GPU-aa")
    with pytest.raises(CommandError, match="belongs to host gpu-a01"):
        run(write(tmp_path, SMI), "--host", "old-1")
    assert not StoredBatch.objects.exists()


def test_a_later_file_without_an_index_leaves_the_device_its_own(tmp_path):
    at = "2024/05/17 15:38:2"
    run(write(tmp_path, f"timestamp,index,uuid,power.draw [W]\n{at}7.100,3,GPU-aa,100\n"), "--host", "a")
    run(write(tmp_path, f"timestamp,uuid,power.draw [W]\n{at}8.100,GPU-aa,100\n", "later.csv"), "--host", "a")

    assert Device.objects.get().index == 3


def test_a_later_file_corrects_the_index_also_to_0(tmp_path):
    at = "2024/05/17 15:31:4"
    run(write(tmp_path, f"timestamp,index,uuid,power.draw [W]\n{at}7.100,3,GPU-aa,100\n"), "--host", "a")
    run(write(tmp_path, f"timestamp,index,uuid,power.draw [W]\n{at}8.100,0,GPU-aa,100\n", "later.csv"), "--host", "a")

    assert Device.objects.get().index == 0


def test_a_later_file_tells_the_index_that_the_one_before_did_not(tmp_path):
    at = "2024/05/17 15:38:2"
    run(write(tmp_path, f"timestamp,uuid,power.draw [W]\n{at}7.100,GPU-aa,100\n"), "--host", "a")
    assert Device.objects.get().index is None

    run(write(tmp_path, f"timestamp,index,uuid,power.draw [W]\n{at}8.100,0,GPU-aa,100\n", "later.csv"), "--host", "a")
    assert Device.objects.get().index == 0


def test_of_several_files_of_one_command_each_tells_what_it_knows(tmp_path):
    first = write(tmp_path, "time_ms,host,uuid,watts\n1715960307000,a,X-1,5\n", "1.csv")
    second = write(tmp_path, "time_ms,host,kind,index,uuid,watts\n1715960308000,a,cpu,2,X-1,6\n", "2.csv")
    run(first, second)

    assert Device.objects.values_list("kind", "index").get() == ("cpu", 2)
    run(first)
    assert Device.objects.values_list("kind", "index").get() == ("cpu", 2)


def test_what_the_last_row_of_a_file_says_of_a_device_holds_although_an_earlier_one_said_it_before(tmp_path):
    rows = [f"{1715960307000 + 1000 * n},a,X-1,{driver},5\n" for n, driver in enumerate(("1.0", "2.0", "1.0"))]
    run(write(tmp_path, "time_ms,host,uuid,driver_version,watts\n" + "".join(rows)))

    assert Device.objects.get().driver_version == "1.0"


def test_a_host_without_samples_of_late_links_to_its_last_hour_as_the_page_was_asked_for(tmp_path):
    run(write(tmp_path, "time_ms,host,uuid,watts\n1715960307000,a,X-1,5\n"))

    page = signed_in().get("/hosts/a/?range=6h&device=X-1").content.decode()

    assert 'href="?range=6h&amp;device=X-1&amp;from=1715956707001&amp;to=1715960307001"' in page


def test_an_index_that_nobody_told_is_a_dash_and_no_number(tmp_path):
    run(write(tmp_path, "time_ms,host,uuid,watts\n1715960307000,a,X-1,5\n1715960307000,a,X-2,6\n"))
    viewer = signed_in()

    assert {device.title for device in Device.objects.all()} == {"GPU —"}
    assert "GPU —" in viewer.get("/hosts/a/").content.decode()
    assert "GPU —" in viewer.get("/devices/X-1/").content.decode()
    assert [each["index"] for each in viewer.get("/api/v1/devices").json()["items"]] == [None, None]
    asked = {"metric": "power_draw_watts", "start": 1715960306000, "end": 1715960309000}
    file = b"".join(viewer.get("/api/v1/devices/X-1/export", asked).streaming_content)
    assert b"1715960307000,a,nvidia,,X-1,5" in file


def test_a_row_that_names_no_device_it_could_be_is_told_by_its_line(tmp_path):
    text = "time_ms,host,kind,watts\n1715960307000,a,node,5\n1715960308000,a,abacus,6\n"
    _, faults = run(write(tmp_path, text))
    assert "log.csv, line 3: kind: 'abacus' is none of" in faults


def test_two_gpus_in_a_log_without_an_index_are_told(tmp_path):
    text = "timestamp,power.draw [W]\n2024/05/17 15:38:27.100,100\n2024/05/17 15:38:27.100,200\n"
    _, faults = run(write(tmp_path, text), "--host", "a")
    assert "does the file lack a column index or uuid" in faults


def test_shifted_to_now_the_newest_sample_is_now(tmp_path):
    run(write(tmp_path, "time_ms,host,watts\n1715960307000,a,5\n1715960308000,a,6\n"), "--shift-to-now")
    times = [at for at, _ in watts()]
    assert times[1] - times[0] == 1000
    assert abs(times[1] / 1000 - datetime.now(UTC).timestamp()) < 30


def test_recorded_hosts_are_not_silent_and_do_not_age(tmp_path):
    run(write(tmp_path, "time_ms,host,watts\n1715960307000,a,5\n"))
    retire(datetime.now(UTC) + timedelta(days=4000), 10)

    (host,) = fleet_state(datetime.now(UTC)).hosts
    assert host.health == "ok"
    assert watts() == [(1715960307000, 5.0)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--column", "power_draw_watts"], "expected HEADER=metric"),
        (["--timezone", "Mars/Olympus"], "no such time zone"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(tmp_path, arguments, words):
    with pytest.raises(CommandError, match=words):
        run(write(tmp_path, "time_ms,host,watts\n1715960307000,a,5\n"), *arguments)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CommandError, match=r"none\.csv: cannot be read"):
        run(tmp_path / "none.csv")


@pytest.mark.parametrize("is_compacted", [False, True])
@pytest.mark.parametrize(("begins", "ends"), [(0, 400), (590, 610), (600, 1100)])
def test_a_dense_file_between_slow_samples_counts_no_growth_twice(tmp_path, is_compacted, begins, ends):
    start, now = 1_715_961_600_000, datetime.now(UTC)
    for number, seconds in enumerate((range(0, 7200, 600), range(begins, ends))):
        lines = "".join(f"{start + 1000 * second},a,{100 * second}\n" for second in seconds)
        run(write(tmp_path, "time_ms,host,energy_joules_total\n" + lines, f"{number}.csv"))
        if is_compacted:
            compact.compact(now, 60)
        rollups.roll_up(60)

    host = Host.objects.get()
    grew = rolled.of_hosts([host.pk], 3600, start, start + 7_200_000)[host.pk]
    assert grew.values[grew.keys.fields == Field.INCREASE].sum() <= 660_000_000  # mJ: that of the slow samples alone
    assert verify.host(host, start - 3_600_000, start + 10_800_000, now).differences == []
