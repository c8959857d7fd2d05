"""`manage.py reference`."""

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from tests.training.reference_jobs import RESULT, ready_host
from training.management.commands import reference
from training.models import JobState, ReferenceJob

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _broker(outbox, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments):
    call_command("reference", *arguments)


@pytest.fixture
def the_host(monkeypatch):
    """What the host does to every job while the command sleeps, step by step."""

    def plays(*moves):
        left = iter(moves)

        def sleep(seconds):
            assert seconds == reference.POLL_SECONDS
            move = next(left)
            if isinstance(move, BaseException):
                raise move
            ReferenceJob.objects.update(**move)

        monkeypatch.setattr(reference, "sleep", sleep)

    return plays


DONE = {"state": JobState.DONE, "result": RESULT, "energy": {"mean_watts": 310.0}, "ended_at": timezone.now()}


def test_it_queues_a_job_on_each_host_by_the_same_service_as_the_button(capsys):
    ready_host("a")
    ready_host("b")

    run("gpt-train", "--host", "a", "--host", "b", "--param", "steps=30", "--param", "precision=fp32")

    jobs = list(ReferenceJob.objects.order_by("host__name"))
    assert [(job.host.name, job.params["steps"], job.params["precision"]) for job in jobs] == [
        ("a", 30, "fp32"),
        ("b", 30, "fp32"),
    ]
    assert f"job {jobs[0].pk}: gpt-train on a, queued." in capsys.readouterr().out


def test_the_audit_log_names_the_person_at_the_command_line():
    ready_host()

    run("gpt-train", "--host", "a")

    assert ReferenceJob.objects.get().requested_by.startswith("command:")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mine-coins", "--host", "a"), "'mine-coins' is not one of"),
        (("gpt-train", "--host", "nobody"), "no host named 'nobody'"),
        (("gpt-train", "--host", "a", "--param", "steps=1"), "not between 5 and"),
        (("gpt-train", "--host", "a", "--param", "steps=many"), "'many' is not a whole number"),
        (("gpt-train", "--host", "a", "--param", "colour=red"), "no such parameter"),
        (("gpt-train", "--host", "a", "--param", "steps"), "not written as NAME=VALUE"),
        (("gpt-train",), "--host"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_started(arguments, words):
    ready_host()

    with pytest.raises(CommandError, match=words):
        run(*arguments)
    assert not ReferenceJob.objects.exists()


def test_it_waits_for_the_end_and_prints_the_result(the_host, capsys):
    ready_host()
    the_host(
        {"state": JobState.STARTING},
        {"state": JobState.RUNNING, "stage": "measure", "step": 30, "total_steps": 60},
        DONE,
    )

    run("gpt-train", "--host", "a", "--wait")

    table = capsys.readouterr().out.splitlines()
    assert table[-1].split() == ["a", "done", "12.5", "320", "ms", "2.5", "310", "W", "4", "→", "3"]


def test_a_power_that_is_not_known_is_a_dash_with_its_reason(the_host, capsys):
    ready_host()
    the_host(DONE | {"energy": {"reason": "CPU 0 gave no power"}})

    run("gpt-train", "--host", "a", "--wait")

    out = capsys.readouterr().out
    assert "—" in out
    assert "a: no power: CPU 0 gave no power" in out


def test_the_energy_of_a_job_that_has_just_ended_is_waited_for(the_host, capsys):
    ready_host()
    now = timezone.now()
    the_host(DONE | {"energy": {}, "ended_at": now}, DONE | {"ended_at": now})

    run("gpt-train", "--host", "a", "--wait")

    assert "310 W" in capsys.readouterr().out


def test_the_energy_is_not_waited_for_for_ever(the_host, capsys):
    ready_host()
    the_host(DONE | {"energy": {}, "ended_at": timezone.now() - reference.ENERGY_PATIENCE})

    run("gpt-train", "--host", "a", "--wait")

    assert "its last samples have not arrived yet" in capsys.readouterr().out


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.LOST])
def test_a_job_that_does_not_finish_is_a_failure_with_its_reason(the_host, capsys, state):
    ready_host()
    the_host({"state": state, "reason": "no torch [on this host]"})

    with pytest.raises(CommandError, match="not every host finished"):
        run("gpt-train", "--host", "a", "--wait")
    assert "a: no torch [on this host]" in capsys.readouterr().out


def test_a_lost_job_is_waited_for_as_its_host_may_speak_again(the_host, capsys):
    ready_host()
    the_host({"state": JobState.LOST, "ended_at": timezone.now()}, DONE)

    run("gpt-train", "--host", "a", "--wait")

    assert "310 W" in capsys.readouterr().out


def test_a_lost_job_is_not_waited_for_for_ever(the_host):
    ready_host()
    the_host({"state": JobState.LOST, "ended_at": timezone.now() - reference.LOST_PATIENCE})

    with pytest.raises(CommandError, match="not every host finished"):
        run("gpt-train", "--host", "a", "--wait")


def test_a_figure_that_the_host_could_not_tell_is_a_dash(the_host, capsys):
    ready_host()
    the_host(DONE | {"result": RESULT | {"loss_end": None, "step_seconds_median": None}})

    run("gpt-train", "--host", "a", "--wait")

    assert capsys.readouterr().out.splitlines()[-1].split() == [
        "a",
        "done",
        "12.5",
        "—",
        "2.5",
        "310",
        "W",
        "4",
        "→",
        "—",
    ]


def test_one_host_of_two_that_fails_is_a_failure(monkeypatch, capsys):
    def end(seconds):
        ReferenceJob.objects.filter(host__name="a").update(**DONE)
        ReferenceJob.objects.filter(host__name="b").update(state=JobState.FAILED, reason="no torch")

    ready_host("a")
    ready_host("b")
    monkeypatch.setattr(reference, "sleep", end)

    with pytest.raises(CommandError, match="not every host finished"):
        run("gpt-train", "--host", "a", "--host", "b", "--wait")
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[-3:-1]] == [
        ["a", "done"],
        ["b", "failed"],
    ]


def test_interrupting_the_wait_leaves_the_job_and_says_how_to_cancel(the_host):
    ready_host()
    the_host({"state": JobState.RUNNING}, KeyboardInterrupt())

    with pytest.raises(CommandError, match=r"the job runs on. Cancel it on its page \(/reference/\d+/\)") as end:
        run("gpt-train", "--host", "a", "--wait")

    assert end.value.returncode == 130
    assert ReferenceJob.objects.get().state == JobState.RUNNING


def test_a_job_whose_host_is_removed_meanwhile_is_said_to_be_gone(monkeypatch):
    host = ready_host()
    monkeypatch.setattr(reference, "sleep", lambda seconds: host.delete())

    with pytest.raises(CommandError, match=r"job \d+ is known no more: its host was removed"):
        run("gpt-train", "--host", "a", "--wait")
