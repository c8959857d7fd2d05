"""`manage.py import_steps` with recorded logs, up to what is stored."""

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from fleet.models import Host, Origin
from tests.factories import make_host
from training.models import Run, StepChunk
from training.steps.columns import StepKind
from training.steps.store import read

DATA = Path(__file__).parent.parent / "data"
MLPERF = DATA / "mlperf_gpt3_64xh100" / "step_times.csv"
NANOGPT = DATA / "modded_nanogpt_8xh100" / "2024-11-10_UNetDoubleLr.head300.csv"

pytestmark = pytest.mark.django_db


def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    call_command("import_steps", *map(str, arguments), stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def stored():
    return read.steps(Run.objects.get())


def write(tmp_path, text):
    path = tmp_path / "steps.csv"
    path.write_text(text)
    return path


def test_the_recorded_steps_of_gpt_3_come_in_whole():
    told, _ = run(MLPERF, "--run", "gpt3-175b", "--host", "mlperf", "--column", "tokens_done=tokens:cumulative")

    assert told.startswith("360 steps of run gpt3-175b, 360 new; 0 bad rows")
    train, validation = (stored().of_kind(kind) for kind in (StepKind.TRAIN, StepKind.VALIDATION))
    assert (len(train), len(validation)) == (288, 72)
    assert (train.seconds[1], train.tokens[1]) == (10.365957260131836, 4_194_304)
    assert np.isnan(train.tokens[0])  # how far the count had come before the log began is not known
    assert Run.objects.get().host.origin == Origin.IMPORTED


def test_an_imported_run_tells_its_rank_and_is_over():
    run(MLPERF, "--run", "gpt3-175b", "--host", "mlperf", "--column", "tokens_done=tokens:cumulative")

    found = Run.objects.get()
    (rank,) = found.ranks.all()
    assert (rank.rank, rank.host.name, rank.n_steps, rank.n_lost) == (0, "mlperf", 288, 0)
    assert not found.is_running(found.last_step_at)
    assert found.started_at.timestamp() * 1000 == pytest.approx(stored().began_ms.min(), abs=1)


def test_the_same_file_again_changes_nothing():
    run(MLPERF, "--run", "gpt3-175b")
    before = list(StepChunk.objects.order_by("pk").values())
    told, _ = run(MLPERF, "--run", "gpt3-175b")
    assert "none new" in told
    assert list(StepChunk.objects.order_by("pk").values()) == before


def test_a_log_of_running_times_gets_its_times_from_the_durations():
    columns = ("train_time_ms=milliseconds:cumulative", "loss_kind=kind")
    arguments = [word for column in columns for word in ("--column", column)]
    told, _ = run(NANOGPT, "--run", "nanogpt", "--start", "2024-11-10T12:00:00Z", *arguments)

    first = stored()
    assert first.seconds[0] == pytest.approx(14.189)  # 14,600 ms less the 411 ms of the first row
    assert first.ended_ms[0] == round(datetime(2024, 11, 10, 12, tzinfo=UTC).timestamp() * 1000 + 14_189)
    assert "0 bad rows" not in told  # its timer begins anew after the warm-up


def test_phases_ranks_and_samples_are_kept(tmp_path):
    run(
        write(tmp_path, "time_ms,seconds,rank,step,samples,phase_data_seconds\n1715960307000,2,1,7,512,0.5\n"),
        "--run",
        "r",
    )
    steps = stored()
    assert [steps.rank, steps.number, steps.samples, steps.phases["data"]] == [[1], [7], [512], [0.5]]
    assert set(steps.phases) == {"data"}


def test_a_second_file_of_the_run_goes_on_where_the_first_ended(tmp_path):
    run(write(tmp_path, "time_ms,seconds\n1715960307000,2\n1715960309000,2\n"), "--run", "r")
    run(write(tmp_path, "time_ms,seconds\n1715960309000,2\n1715960311000,2\n"), "--run", "r")
    assert stored().number.tolist() == [0, 1, 2]
    assert stored().ended_ms.tolist() == [1715960307000, 1715960309000, 1715960311000]


def test_the_host_may_stand_in_the_file(tmp_path):
    run(write(tmp_path, "time_ms,seconds,host\n1715960307000,2,gpu-9\n"), "--run", "r")
    assert Run.objects.get().host.name == "gpu-9"


def test_a_bad_row_is_told_by_its_line_and_does_not_stop_the_rest(tmp_path):
    told, faults = run(
        write(tmp_path, "time_ms,seconds\n1715960307000,2\n1715960309000,-1\n1715960311000,2\n"), "--run", "r"
    )
    assert told.startswith("2 steps of run r, 2 new; 1 bad rows")
    assert "line 3: seconds: '-1'" in faults


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("", (), "is empty"),
        ("time_ms,loss\n1,2\n", (), "no column of durations"),
        ("seconds\n1\n", (), "--start TIME"),
        ("seconds\nx\n", ("--start", "2026-01-01"), "no row could be used"),
        ("seconds\n1\n", ("--start", "soon"), "expected ISO 8601"),
        ("time_ms,seconds\n1,1\n", ("--column", "a=seconds"), "the file has no column 'a'"),
        ("time_ms,seconds\n1,1\n", ("--column", "seconds=colour"), "expected HEADER=NAME"),
        ("time_ms,seconds\n1,1\n", ("--host", "a b"), "--host 'a b'"),
    ],
)
def test_what_cannot_be_used_is_named_and_changes_nothing(tmp_path, text, arguments, words):
    with pytest.raises(CommandError, match=words):
        run(write(tmp_path, text), "--run", "r", *arguments)
    assert not Host.objects.exists()
    assert not Run.objects.exists()


def test_steps_are_not_mixed_with_a_host_that_reports(tmp_path):
    make_host("gpu-a01")
    with pytest.raises(CommandError, match="host gpu-a01 is real"):
        run(write(tmp_path, "time_ms,seconds\n1715960307000,2\n"), "--run", "r", "--host", "gpu-a01")
    assert not Run.objects.exists()


def test_a_host_that_cannot_be_one_is_a_bad_row(tmp_path):
    text = "time_ms,seconds,host\n1715960307000,2,node a/1\n1715960309000,2,gpu-9\n"
    told, faults = run(write(tmp_path, text), "--run", "r")
    assert "1 bad rows" in told
    assert "line 2: host: 'node a/1'" in faults
    assert Run.objects.get().host.name == "gpu-9"


def test_steps_of_a_second_host_are_told_and_not_mixed_in(tmp_path):
    text = "time_ms,seconds,host\n1715960307000,2,a\n1715960307000,3,b\n"
    told, faults = run(write(tmp_path, text), "--run", "r")
    assert told.startswith("1 steps of run r, 1 new; 1 bad rows")
    assert "'b', after 'a'" in faults


@pytest.mark.parametrize("loss", ["inf", "-inf", "nan", "1e308"])
def test_a_step_that_diverged_is_a_step_without_a_loss(tmp_path, loss):
    told, _ = run(write(tmp_path, f"time_ms,seconds,loss\n1715960307000,2,{loss}\n"), "--run", "r")

    assert told.startswith("1 steps of run r, 1 new; 0 bad rows")
    assert np.isnan(stored().loss).all()


@pytest.mark.parametrize("step", ["²", "9" * 5000, "-1", "1.5"])
def test_a_step_number_that_is_none_is_a_bad_row(tmp_path, step):
    text = f"time_ms,seconds,step\n1715960307000,2,{step}\n1715960309000,2,7\n"
    assert "1 bad rows" in run(write(tmp_path, text), "--run", "r")[0]


@pytest.mark.parametrize("column", ["rank", "attempt"])
def test_more_ranks_or_starts_than_memory_is_taken_for_are_a_bad_row(tmp_path, column):
    text = f"time_ms,seconds,{column}\n1715960307000,2,2147483646\n1715960309000,2,7\n"
    assert "1 bad rows" in run(write(tmp_path, text), "--run", "r")[0]


def test_a_run_of_many_hosts_has_each_of_them_once():
    for name in ("n1", "n2", "n3"):
        make_host(name, origin=Origin.IMPORTED, cluster="eos")
    for _ in range(2):
        run(MLPERF, "--run", "gpt3-175b", "--host", "n2", "--cluster", "eos")

    ranks = Run.objects.get().ranks.order_by("rank").values_list("rank", "host__name", "n_steps")
    assert list(ranks) == [(0, "n2", 288), (1, "n1", 0), (2, "n3", 0)]


def test_a_cluster_that_has_no_imported_host_is_said():
    with pytest.raises(CommandError, match="no imported host is in it"):
        run(MLPERF, "--run", "gpt3-175b", "--cluster", "eos")
