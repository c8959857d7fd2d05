"""`manage.py ladder`."""

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from fleet.models import Host
from tests.training.judging.judged import NOW, board
from tests.training.test_ladder_runs import end
from training.jobs import ladder_runs
from training.management.commands import ladder
from training.models import LadderRun, ReferenceJob

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("outbox")]


def climbs(monkeypatch, *, n_polls: int = 1_000) -> None:
    """While the command sleeps, beat takes the ladder on, and each process that runs ends."""
    turns = iter(range(n_polls))

    def sleep(seconds: float) -> None:
        minute = next(turns, None)
        if minute is None:
            raise KeyboardInterrupt
        for job in ReferenceJob.objects.filter(ended_at=None).select_related("ladder_process__ladder"):
            end(job, minute)
        now = NOW + timedelta(minutes=minute)
        Host.objects.update(heard_at=now)
        ladder_runs.follow(now)

    monkeypatch.setattr(ladder, "sleep", sleep)


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_it_waits_and_prints_k_of_each_rung_and_writes_what_the_api_answers(monkeypatch, capsys, tmp_path):
    board("a")
    climbs(monkeypatch)

    call_command(
        "ladder", "gpt-train", "--host", "a", "--blocks", "3", "--param", "seed=7", "--json", str(tmp_path / "k")
    )

    shown = capsys.readouterr().out
    begun = f"ladder {LadderRun.objects.get().pk}: gpt-train on a, 3 blocks of"
    assert f"{begun} fp32 eager, TF32, bf16, fused kernels, compile" in shown
    assert "2.50×" in shown
    told = json.loads((tmp_path / "k").read_text())
    assert [round(rung["steady"]["k"], 2) for rung in told["rungs"]] == [1.0, 1.25, 2.0, 2.22, 2.5]
    assert (told["state"], told["blocks"], len(told["jobs"])) == ("done", 3, 15)
    assert LadderRun.objects.get().params["seed"] == 7


def test_in_a_file_no_column_is_cut(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS")
    board("a")
    climbs(monkeypatch)

    call_command("ladder", "gpt-train", "--host", "a", "--blocks", "3", "--wait")

    shown = capsys.readouterr().out
    assert "k with compilation" in shown
    assert "…" not in shown


def test_without_waiting_it_only_begins(capsys):
    board("a")

    call_command("ladder", "resnet-train", "--host", "a")

    assert LadderRun.objects.get().requested_by.startswith("command:")
    assert "channels-last" in capsys.readouterr().out


def test_one_that_no_longer_waits_is_told_where_to_cancel(monkeypatch):
    board("a")
    climbs(monkeypatch, n_polls=2)

    with pytest.raises(CommandError, match="/reference/ladders/") as error:
        call_command("ladder", "gpt-train", "--host", "a", "--wait")
    assert error.value.returncode == 130


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gemm-sweep", "--host", "a"), "has no ladder"),
        (("gpt-train", "--host", "nobody"), "no host named"),
        (("gpt-train", "--host", "a", "--blocks", "0"), "not between 1 and"),
        (("gpt-train", "--host", "a", "--param", "steps"), "not written as NAME=VALUE"),
        (("gpt-train", "--host", "a", "--device", "GPU-none"), "no device GPU-none"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_started(arguments, words):
    board("a")

    with pytest.raises(CommandError, match=words):
        call_command("ladder", *arguments)
    assert not LadderRun.objects.exists()
