"""Whether others use a device, as its host told last: the cases in which the driver names nobody."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.access.audit import Actor
from fleet.models import Host
from telemetry.message.wire import NO_PID
from telemetry.models import LatestState
from tests.training.judging.judged import board, finished
from training.jobs import launch
from training.jobs.launch import LaunchRefused
from training.models import ReferenceJob

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("outbox")]
GIB = 2**30
HIDDEN = {"pid": NO_PID, "memory_bytes": 12 * GIB}
ELSEWHERE = {"pid": 777, "memory_bytes": 3 * GIB}
XORG = {"pid": 901, "command": "/usr/lib/xorg/Xorg :0", "user": "root", "memory_bytes": 300 * 2**20, "only_draws": True}
BLENDER = XORG | {"pid": 902, "command": "blender", "user": "eve"}
PYTHON = {"pid": 7, "command": "python train.py", "user": "bob", "memory_bytes": 5 * GIB}
OURS = {"pid": 7, "command": "python -P /opt/training/reference/start.py --parent 3", "memory_bytes": 40 * GIB}


def told(processes: list[dict[str, object]] | None, **values: float) -> Host:
    """Return a host of one board that has told this of it just now."""
    host = board("a")
    at_ms, uuid = int(timezone.now().timestamp() * 1000), host.devices.get().uuid
    users = {} if processes is None else {uuid: {"at_ms": at_ms, "processes": processes}}
    newest = {uuid: {"at_ms": at_ms, "read_ms": at_ms, "values": values, "absent": {}}}
    LatestState.objects.create(host=host, at_ms=at_ms, devices=newest, processes=users)
    return host


def start() -> list[ReferenceJob]:
    return launch.launch("gpt-train", ["a"], {}, actor=Actor("ada"))


@pytest.mark.parametrize(
    ("processes", "values", "words"),
    [
        ([HIDDEN], {}, r"in use by a process of another PID namespace with 12(\.0)?\WGiB"),
        ([ELSEWHERE], {}, r"in use by process 777, which the agent's /proc does not hold .* with 3(\.0\d?)?\WGiB"),
        (
            [],
            {"gpu_utilization_ratio": 0.37},
            r"37(\.0)?\W% busy, although no process is listed: perhaps of a container",
        ),
        ([], {"memory_used_bytes": 9.0 * GIB}, r"9(\.0\d?)?\WGiB of its memory in use, although no process is listed"),
        (
            None,
            {"memory_used_bytes": 9.0 * GIB, "gpu_utilization_ratio": 1.0},
            r"busy with 9\S*\WGiB of .* and its processes are not told",
        ),
    ],
)
def test_a_device_that_works_for_nobody_who_is_named_counts_as_busy(processes, values, words):
    told(processes, **values)

    with pytest.raises(LaunchRefused, match=words) as refused:
        start()

    assert refused.value.is_busy
    assert launch.launch("gpt-train", ["a"], {}, actor=Actor("ada"), force_reason="it is ours, in a container")


@pytest.mark.parametrize(
    ("processes", "values"),
    [
        ([], {"gpu_utilization_ratio": 0.09, "memory_used_bytes": 0.9 * GIB}),
        ([], {"memory_used_bytes": 1.5 * GIB, "memory_total_bytes": 80.0 * GIB}),
        ([OURS], {"gpu_utilization_ratio": 1.0, "memory_used_bytes": 40.0 * GIB}),
    ],
)
def test_what_the_driver_keeps_for_itself_and_what_is_ours_is_no_use_by_others(processes, values):
    told(processes, **values)

    assert start()


@pytest.mark.parametrize(
    ("processes", "values"),
    [
        ([XORG], {}),
        ([XORG | {"sm_ratio": 0.04}, BLENDER], {"gpu_utilization_ratio": 0.05}),
        ([{"pid": NO_PID, "memory_bytes": 2**28, "only_draws": True}], {}),
        ([XORG, OURS], {"gpu_utilization_ratio": 1.0, "memory_used_bytes": 40.0 * GIB}),
        ([XORG], {"memory_used_bytes": 1.2 * GIB}),
    ],
)
def test_a_display_server_at_rest_is_no_use_by_others(processes, values):
    told(processes, **values)

    assert start()


@pytest.mark.parametrize(
    ("processes", "values", "words"),
    [
        (
            [XORG, PYTHON],
            {},
            r"in use by python train.py 7 \(bob\); besides, \S+Xorg :0 901 \(root\), which only draws, with",
        ),
        (
            [BLENDER | {"memory_bytes": 3 * GIB}],
            {},
            r"in use by blender 902 \(eve\), which only draws, with 3(\.0\d?)?\WGiB",
        ),
        (
            [BLENDER | {"sm_ratio": 0.6}],
            {},
            r"blender 902 \(eve\), which only draws, with 300\S*\WMiB and 60% of the SMs",
        ),
        ([BLENDER | {"memory_bytes": None}], {}, r"in use by blender 902 \(eve\), which only draws,"),
        ([XORG | {"only_draws": False}], {}, r"in use by \S+Xorg :0 901 \(root\)"),
        ([XORG], {"gpu_utilization_ratio": 0.8}, r"80(\.0)?\W% busy, although all that is listed is \S+Xorg :0 901"),
        ([XORG], {"memory_used_bytes": 9.0 * GIB}, r"of its memory in use, although all that is listed is \S+Xorg"),
    ],
)
def test_what_draws_much_or_is_not_alone_is_and_the_words_say_what_was_seen(processes, values, words):
    told(processes, **values)

    with pytest.raises(LaunchRefused, match=words):
        start()


def test_the_form_names_a_display_server_and_lets_its_host_be_chosen(operator):
    told([XORG])

    page = operator.get("/reference/?view=launch&workload=gpt-train&host=a").content.decode()

    assert re.search(r"beside a job: GPU 0: \S+Xorg :0 901 \(root\), which only draws, with", page)
    assert "Refused unless forced" not in page


@pytest.mark.parametrize("processes", [[HIDDEN], []])
def test_what_a_job_of_ours_left_behind_a_moment_ago_is_nobody_elses(processes):
    host = told(processes, gpu_utilization_ratio=0.99)
    job = finished(host)
    ReferenceJob.objects.filter(pk=job.pk).update(ended_at=timezone.now() - timedelta(seconds=1))

    assert start()


@pytest.mark.parametrize("processes", [[HIDDEN], []])
def test_what_is_still_there_long_after_our_last_job_is(processes):
    host = told(processes, gpu_utilization_ratio=0.99)
    job = finished(host)
    ReferenceJob.objects.filter(pk=job.pk).update(ended_at=timezone.now() - timedelta(minutes=1))

    with pytest.raises(LaunchRefused):
        start()


def test_the_form_shows_it_before_it_is_sent(operator):
    told([], gpu_utilization_ratio=0.5)

    page = operator.get("/reference/?view=launch&workload=gpt-train&host=a").content.decode()

    assert "although no process is listed" in page
