"""Reading recorded files: headers, cells, times, devices. Nothing is stored here."""

import gzip
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.importers.recording import DeviceUnclear, device_of
from telemetry.importers.rows import Faults, FileUnusable, Row, read_rows, time_ms
from telemetry.importers.vocabulary import ValueUnreadable, read_header

LATEST_MS = 1_900_000_000_000


def header_of(text, **chosen):
    return read_header(text.split(","), chosen)


def rows_of(tmp_path, text, *, host="", columns=None, zone=UTC):
    path = tmp_path / "log.csv"
    path.write_text(text)
    faults = Faults()
    _, rows = read_rows(path, host=host, columns=columns or {}, zone=zone, latest_ms=LATEST_MS, faults=faults)
    return list(rows), faults


def test_canonical_columns_are_named_by_the_catalogue():
    header = header_of("time_ms,host,device,power_draw_watts,temperature_celsius")
    assert [(c.metric, c.factor) for c in header.metrics] == [("power_draw_watts", 1), ("temperature_celsius", 1)]


@pytest.mark.parametrize(
    ("column", "cell", "metric", "value"),
    [
        ("power.draw [W]", "612.34 W", "power_draw_watts", 612.34),
        ("power.draw [W]", "612.34", "power_draw_watts", 612.34),
        ("utilization.gpu [%]", "98 %", "gpu_utilization_ratio", 0.98),
        ("memory.used [MiB]", "40536 MiB", "memory_used_bytes", 40536 * 2**20),
        ("clocks.current.sm [MHz]", "1980 MHz", "sm_clock_hertz", 1.98e9),
        ("clocks_event_reasons.active", "0x0000000000000004", "clock_event_reasons", 4),
        ("pcie.link.width.current", "16", "pcie_link_width", 16),
        ("watts", "5572", "power_draw_watts", 5572),
        ("memory.used [GiB]", "12", "memory_used_bytes", 12 * 2**30),
        ("memory.used [MiB]", "12 GiB", "memory_used_bytes", 12 * 2**30),
        ("power.draw [mW]", "300000", "power_draw_watts", 300),
        ("power_draw_watts", "0.3 kW", "power_draw_watts", 300),
        ("gpu_utilization_ratio", "1 %", "gpu_utilization_ratio", 0.01),
    ],
)
def test_nvidia_smis_columns_are_read_in_base_units(column, cell, metric, value):
    (found,) = header_of(f"timestamp,{column}").metrics
    assert (found.metric, found.read(cell)) == (metric, pytest.approx(value))


@pytest.mark.parametrize("cell", ["", " ", "[N/A]", "N/A", "[Not Supported]", "[Unknown Error]", "nan"])
def test_what_is_absent_is_no_number(cell):
    assert header_of("timestamp,power.draw [W]").metrics[0].read(cell) is None


@pytest.mark.parametrize("cell", ["-1", "abc", "1e999", "12,5", "0xzz", "NaN W", "--"])
def test_a_cell_that_is_no_reading_is_refused(cell):
    with pytest.raises(ValueUnreadable, match=r"power\.draw"):
        header_of("timestamp,power.draw [W]").metrics[0].read(cell)


def test_a_percentage_in_a_ratio_column_is_refused_and_not_believed():
    with pytest.raises(ValueUnreadable, match="share from 0 to 1"):
        header_of("time_ms,gpu_utilization_ratio").metrics[0].read("97")


def test_the_unit_of_a_column_named_by_hand_counts():
    (found,) = header_of("time_ms,util [%]", **{"util [%]": "gpu_utilization_ratio"}).metrics
    assert found.read("2") == pytest.approx(0.02)


def test_a_unit_that_is_not_the_metrics_is_refused():
    with pytest.raises(ValueUnreadable, match="unit 'furlongs'"):
        header_of("timestamp,power.draw [furlongs]")
    with pytest.raises(ValueUnreadable, match="unit 'MiB'"):
        header_of("timestamp,power.draw [W]").metrics[0].read("300 MiB")


@given(cell=st.text(max_size=30))
def test_whatever_a_cell_holds_it_is_a_number_absent_or_refused(cell):
    column = header_of("timestamp,memory.used [MiB]").metrics[0]
    try:
        value = column.read(cell)
    except ValueUnreadable:
        return
    assert value is None or 0 <= value < 2**62


def test_a_column_can_be_named_by_hand():
    (found,) = header_of("time_ms,Board Power", **{"Board Power": "power_draw_watts"}).metrics
    assert found.metric == "power_draw_watts"


@pytest.mark.parametrize(
    ("columns", "chosen", "words"),
    [
        ("power_draw_watts", {}, "no column of times"),
        ("time_ms,colour", {}, "no column is a known metric"),
        ("time_ms,watts", {"watts": "wattage"}, "there is no metric 'wattage'"),
        ("time_ms,watts", {"power": "power_draw_watts"}, "the file has no column 'power'"),
    ],
)
def test_a_header_that_cannot_be_used_says_what_to_do(columns, chosen, words):
    with pytest.raises(ValueError, match=words):
        header_of(columns, **chosen)


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("time_ms", "1715960307185", 1715960307185),
        ("timestamp", "2024/05/17 15:38:27.185", 1715960307185),
        ("timestamp", "2024-05-17T15:38:27.185Z", 1715960307185),
        ("timestamp", "2024-05-17T17:38:27.185+02:00", 1715960307185),
    ],
)
def test_times_are_read_in_their_forms(name, words, expected):
    assert time_ms(words, name, UTC) == expected


def test_a_time_without_a_zone_is_of_the_zone_that_was_named():
    assert time_ms("2024/05/17 17:38:27.185", "timestamp", ZoneInfo("Europe/Berlin")) == 1715960307185


@pytest.mark.parametrize(
    ("name", "words"), [("time_ms", "1715960307"), ("time_ms", "soon"), ("timestamp", "17.5.2024")]
)
def test_a_time_that_is_none_is_refused(name, words):
    with pytest.raises(ValueUnreadable, match=name):
        time_ms(words, name, UTC)


def test_a_bad_row_is_told_by_file_and_line_and_does_not_stop_the_rest(tmp_path):
    rows, faults = rows_of(
        tmp_path, "time_ms,node,watts\n1715960307185,a,5\nsoon,a,6\n1715960307187,a\n1715960307188,a,7\n"
    )
    assert [row.values for row in rows] == [{"power_draw_watts": 5}, {"power_draw_watts": 7}]
    assert faults.count == 2
    assert "log.csv, line 3: time_ms: 'soon'" in faults.shown[0]


@pytest.mark.parametrize("spoilt", [b"1715960307186,a,\xff6", b"\0" * 200_000, b"17159603\xfe7186,a,6"])
def test_what_a_crash_leaves_in_a_log_is_one_bad_row(tmp_path, spoilt):
    path = tmp_path / "log.csv"
    path.write_bytes(b"time_ms,node,watts\n1715960307185,a,5\n" + spoilt + b"\n1715960307188,a,7\n")
    faults = Faults()

    _, rows = read_rows(path, host="", columns={}, zone=UTC, latest_ms=LATEST_MS, faults=faults)

    assert [row.values for row in rows] == [{"power_draw_watts": 5}, {"power_draw_watts": 7}]
    assert faults.count == 1
    assert "log.csv, line 3: " in faults.shown[0]


@pytest.mark.parametrize("spoilt", ['1715960307186,a,"6', '1715960307186,"a,6', '"1715960307186,a,6'])
def test_a_quote_that_nobody_closes_spoils_its_own_line_which_is_told_with_what_to_do(tmp_path, spoilt):
    good = "".join(f"{1715960307187 + n},a,{n}\n" for n in range(100))
    rows, faults = rows_of(tmp_path, f"time_ms,node,watts\n1715960307185,a,5\n{spoilt}\n{good}")

    assert len(rows) == 101
    assert faults.count == 1
    assert "log.csv, line 3: a quote" in faults.shown[0]
    assert "remove it" in faults.shown[0]


def test_quotes_that_are_closed_or_stand_within_a_cell_are_read(tmp_path):
    rows, faults = rows_of(
        tmp_path,
        'time_ms,node,uuid,name,power.draw [W]\n1715960307185,a,GPU-1,"A40, ""big""",5\n1715960307186,a,GPU-1,5" card,6\n',
    )
    assert [dict(row.device)["model"] for row in rows] == ['A40, "big"', '5" card']
    assert faults.count == 0


def test_the_header_of_a_second_run_in_the_same_file_is_no_bad_row(tmp_path):
    rows, faults = rows_of(tmp_path, 2 * "time_ms,node,watts\n1715960307185,a,5\n")
    assert (len(rows), faults.count) == (2, 0)


def test_a_second_run_with_other_columns_is_not_read_by_the_first_ones(tmp_path):
    text = "time_ms,node,watts\n1715960307185,a,5\ntime_ms,node,celsius,watts\n1715960307186,a,40,5\n"
    with pytest.raises(FileUnusable, match="line 3: other columns begin here"):
        rows_of(tmp_path, text)


def test_a_sample_from_the_future_is_a_bad_row(tmp_path):
    rows, faults = rows_of(tmp_path, f"time_ms,node,watts\n{LATEST_MS + 1},a,5\n")
    assert not rows
    assert "lies in the future" in faults.shown[0]


@pytest.mark.parametrize(("text", "words"), [("", "is empty"), ("time_ms,watts\n1,2\n", "--host")])
def test_a_file_that_cannot_be_used_is_refused(tmp_path, text, words):
    with pytest.raises(FileUnusable, match=words):
        rows_of(tmp_path, text)


@pytest.mark.parametrize(
    ("ending", "content"),
    [("xz", b"no archive"), ("gz", b"no archive"), ("gz", gzip.compress(b"time_ms,watts\n" * 99)[:12] + b"torn" * 9)],
    # An archive's own bytes tell the time, and would name the test otherwise in each process.
    ids=["xz", "gz", "gz-torn"],
)
def test_a_broken_archive_is_refused(tmp_path, ending, content):
    path = tmp_path / f"log.csv.{ending}"
    path.write_bytes(content)
    with pytest.raises(FileUnusable, match="cannot be read"):
        read_rows(path, host="a", columns={}, zone=UTC, latest_ms=LATEST_MS, faults=Faults())


def test_a_row_without_a_device_is_the_host_itself():
    named = device_of(Row(1, "a", (), {}), is_gpu_file=False)
    assert (named.info.kind, named.info.index, named.said) == ("node", 0, frozenset())


def test_a_row_of_nvidia_smi_without_a_device_is_the_first_gpu():
    assert device_of(Row(1, "a", (), {}), is_gpu_file=True).info.kind == "nvidia"


def test_an_index_names_the_same_device_in_every_file():
    first, again = (device_of(Row(1, "a", (("index", "3"),), {}), is_gpu_file=gpu).info for gpu in (True, False))
    assert (first.uuid, first.index) == (again.uuid, 3)


def test_a_uuid_in_the_device_column_is_the_devices_own():
    assert device_of(Row(1, "a", (("device", "GPU-1234"),), {}), is_gpu_file=False).info.uuid == "GPU-1234"


@pytest.mark.parametrize("kind", ["nvidia", "amd", "tpu", "cpu", "CPU", "node"])
def test_a_kind_that_a_row_tells_holds(kind):
    named = device_of(Row(1, "a", (("kind", kind), ("index", "0"), ("uuid", "X-1")), {}), is_gpu_file=False)
    assert (named.info.kind, named.said) == (kind.lower(), {"kind", "index"})


def test_a_kind_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(DeviceUnclear, match="'abacus' is none of nvidia, amd, tpu, cpu, node"):
        device_of(Row(1, "a", (("kind", "abacus"),), {}), is_gpu_file=False)


@pytest.mark.parametrize("index", ["²", "9" * 5000, "12345"])
def test_an_index_that_is_no_number_is_refused(index):
    with pytest.raises(DeviceUnclear):
        device_of(Row(1, "a", (("index", index),), {}), is_gpu_file=True)


def test_a_device_with_impossible_characters_is_refused():
    with pytest.raises(DeviceUnclear, match="uuid"):
        device_of(Row(1, "a", (("uuid", "GPU 1;--"),), {}), is_gpu_file=True)


def test_the_year_is_the_files(tmp_path):
    rows, _ = rows_of(tmp_path, "timestamp,power.draw [W]\n2024/05/17 15:38:27.185,300 W\n", host="a")
    assert datetime.fromtimestamp(rows[0].time_ms / 1000, UTC).year == 2024
