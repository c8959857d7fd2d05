"""The launch form: choosing, refusing, and what it costs."""

import re

import pytest

from fleet.models import AuditEntry, Device, DeviceKind, Origin
from telemetry.models import LatestState
from tests.factories import make_gpu_host
from tests.training.pages import LAUNCH, PARAMS, finished, form, job_in, queries_of, text
from tests.training.reference_jobs import existing_job, ready_host
from training.models import JobState, ReferenceJob
from training.workloads.catalog import WORKLOADS

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("outbox")]


def test_a_launch_on_one_host_leads_to_its_job(operator):
    ready_host()

    response = operator.post(LAUNCH, form(steps="30"))

    job = ReferenceJob.objects.get()
    assert response.url == f"/reference/{job.pk}/"
    assert (job.workload, job.params, job.requested_by) == ("gpt-train", PARAMS | {"steps": 30}, "operator")
    assert AuditEntry.objects.get().action == "reference.launch"


def test_a_launch_on_several_hosts_leads_to_what_runs(operator):
    ready_host("a")
    ready_host("b")

    response = operator.post(LAUNCH, form(host=["a", "b"]))

    launch = ReferenceJob.objects.first().launch
    assert response.url == f"/reference/?view=launched&launch={launch}"
    assert ReferenceJob.objects.count() == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"host": []}, "choose at least one host"),
        ({"host": ["nobody"]}, "there is no host named"),
        ({"workload": "mine-coins"}, "is not one of resnet-train, vit-train, gpt-train"),
        ({"steps": "4"}, "4 is not between 5 and 100000"),
        ({"steps": "many"}, "is not a whole number"),
        ({"precision": "fp4"}, "is not one of auto, fp32, tf32, bf16, fp16"),
    ],
)
def test_a_wrong_launch_comes_back_with_the_reason(operator, change, words):
    ready_host()

    response = operator.post(LAUNCH, form(**change))

    assert response.status_code == 400
    assert words in text(response)
    assert not ReferenceJob.objects.exists()


@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_form_says_what_runs_on_which_size_of_device(operator, workload):
    page = text(operator.get(f"{LAUNCH}&part=settings&workload={workload}"))

    assert all(words in page for words in WORKLOADS[workload].sizes.values())
    assert f"{WORKLOADS[workload].sizes['cpu']} on a CPU" in page


def test_a_refused_launch_keeps_what_was_typed(operator):
    ready_host()

    page = operator.post(LAUNCH, form(steps="4", seed="77")).content.decode()

    assert 'value="77"' in page
    assert re.search(r'name="steps"[^>]*value="4"[^>]*aria-invalid="true"', page)
    assert re.search(r'name="host" value="a" checked', page)


def test_a_host_that_became_busy_is_a_conflict(operator):
    job_in(JobState.RUNNING)

    response = operator.post(LAUNCH, form())

    assert response.status_code == 409
    assert "a is busy with reference job" in text(response)


@pytest.mark.parametrize(
    ("fields", "state", "words"),
    [
        ({}, JobState.RUNNING, "running job"),
        ({"origin": Origin.IMPORTED}, None, "imported"),
    ],
)
def test_a_host_that_cannot_run_is_off_with_its_reason(operator, fields, state, words):
    host = ready_host("a", **fields)
    if state:
        existing_job(host, state)

    response = operator.get(f"{LAUNCH}&host=a")

    assert re.search(r'class="off" title="a [^"]+"><input[^>]*value="a" disabled', response.content.decode())
    assert words in text(response)


def test_a_simulated_host_can_be_chosen_and_is_marked_as_such(operator):
    ready_host("a", origin=Origin.SIMULATED)

    response = operator.get(f"{LAUNCH}&host=a")

    assert re.search(r'<input[^>]*value="a" checked', response.content.decode())
    assert '<span class="tag">simulated</span>' in response.content.decode()


def test_a_silent_host_can_be_chosen_and_is_told_to_wait(operator):
    ready_host("a", heard_at=None, last_seen_at=None)

    response = operator.get(f"{LAUNCH}&host=a")

    assert re.search(r'value="a" checked>', response.content.decode())
    assert "silent, would wait" in text(response)


def test_the_form_knows_how_long_the_last_run_took(operator):
    finished()

    assert "about 42 s, from its last run" in text(operator.get(f"{LAUNCH}&workload=gpt-train&host=a"))
    assert "not known yet" in text(operator.get(f"{LAUNCH}&workload=resnet-train&host=a"))


def test_the_device_that_is_shown_is_the_one_that_the_job_gets(operator):
    ready_host("a", DeviceKind.AMD, DeviceKind.CPU, DeviceKind.NVIDIA)

    shown = operator.get(f"{LAUNCH}&host=a").context["form"].devices[0]
    operator.post(LAUNCH, form())

    assert ReferenceJob.objects.get().device.uuid == shown.uuid


def test_a_host_that_the_link_names_must_exist(operator):
    response = operator.get(f"{LAUNCH}&host=nobody")

    assert response.status_code == 400
    assert "there is no host named" in text(response)


@pytest.mark.parametrize(("part", "words"), [("settings", "2. Settings"), ("before", "Asked for by")])
def test_a_part_of_the_form_comes_alone(operator, part, words):
    page = text(operator.get(f"{LAUNCH}&part={part}"))

    assert words in page
    assert "3. Hosts" not in page


def in_use(host):
    """Have the host tell that somebody else trains on its GPU."""
    processes = {"nvidia-a": {"at_ms": 1000, "processes": [{"pid": 7, "user": "bob", "command": "python train.py"}]}}
    LatestState.objects.create(host=host, at_ms=1000, devices={}, processes=processes)


def test_what_would_refuse_the_launch_stands_at_the_host_before_it_is_sent(operator):
    in_use(ready_host("a"))

    page = text(operator.get(f"{LAUNCH}&host=a"))

    assert "in use GPU 0: in use by python train.py 7 (bob)" in page
    assert "Refused unless forced a GPU 0: in use by python train.py 7 (bob)" in page


def test_what_refused_a_launch_stands_at_each_host_that_refused_it(operator):
    in_use(ready_host("a"))
    ready_host("b")

    response = operator.post(LAUNCH, form(host=["a", "b"], force_reason=""))

    assert response.status_code == 409
    rows = {row.host.name: row for row in response.context["form"].hosts}
    assert "in use by python train.py 7 (bob)" in rows["a"].refusal
    assert (rows["b"].refusal, rows["b"].is_chosen) == ("", True)


def test_a_force_with_a_reason_starts_it_all_the_same(operator):
    in_use(ready_host("a"))

    operator.post(LAUNCH, form(force_reason="it is idle"))

    assert ReferenceJob.objects.get().forced == "it is idle"


def test_a_selection_is_counted_while_it_is_typed_and_launched_as_it_was_counted(operator):
    for name, rack in (("a", "1"), ("b", "1"), ("c", "2")):
        ready_host(name, cluster="atlas", labels={"rack": rack})
    existing_job(ready_host("d", cluster="atlas"), JobState.RUNNING)
    asked = {"by": "selection", "cluster": "atlas"}

    counted = text(operator.get("/reference/", {"view": "launch", "part": "before", **asked}))
    assert "Selects 3 hosts , 3 jobs · 1 more fit and have a job: d" in counted
    assert "Run on 3 hosts" in counted
    operator.post(LAUNCH, form(host=["c"], **asked, labels="rack=1"))

    assert list(ReferenceJob.objects.exclude(host__name="d").values_list("host__name", flat=True).order_by("pk")) == [
        "a",
        "b",
    ]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"cluster": "nowhere"}, "no host fits that selection"),
        ({"labels": "rack"}, "expected key=value"),
        ({}, "give a cluster, labels or a part of the device model"),
    ],
)
def test_a_selection_that_means_nothing_is_refused_with_the_reason(operator, asked, words):
    ready_host("a", cluster="atlas")

    response = operator.post(LAUNCH, form(by="selection", **asked))

    assert response.status_code == 400
    assert words in text(response)
    assert not ReferenceJob.objects.exists()


def test_so_many_devices_of_a_host_are_taken(operator):
    host = ready_host("a")
    for index in (1, 2):
        Device.objects.create(host=host, uuid=f"gpu-{index}", kind=DeviceKind.NVIDIA, index=index)

    assert "Jobs 3" in text(operator.get(f"{LAUNCH}&host=a&per=device"))
    assert "is not between 1 and 64" in text(operator.post(LAUNCH, form(per="device", n_devices="0")))
    operator.post(LAUNCH, form(per="device", n_devices="2"))

    assert list(ReferenceJob.objects.order_by("pk").values_list("device__uuid", flat=True)) == ["nvidia-a", "gpu-1"]


def test_one_host_may_be_asked_for_one_of_its_devices(operator):
    host = ready_host("a")
    Device.objects.create(host=host, uuid="gpu-1", kind=DeviceKind.NVIDIA, index=1)

    assert 'value="gpu-1" selected' in operator.get(f"{LAUNCH}&host=a&device=gpu-1").content.decode()
    operator.post(LAUNCH, form(device="gpu-1"))

    assert ReferenceJob.objects.get().device.uuid == "gpu-1"


def test_the_host_as_a_whole_is_not_among_the_devices_that_are_offered(operator):
    ready_host("a", DeviceKind.CPU, DeviceKind.NODE)

    page = operator.get(f"{LAUNCH}&host=a").content.decode()

    assert "1 × model cpu" in page
    assert "model node" not in page
    assert "node-a" not in page


def test_the_picker_costs_the_same_number_of_queries_whatever_the_fleet(operator):
    for i in range(3):
        finished(host=ready_host(f"h{i}"))
    few = queries_of(operator)
    for i in range(3, 20):
        finished(host=ready_host(f"h{i}"))

    assert queries_of(operator) == few


@pytest.mark.parametrize(
    ("origin", "can_run"), [(Origin.REAL, True), (Origin.SIMULATED, True), (Origin.IMPORTED, False)]
)
def test_a_host_that_cannot_run_a_job_offers_none(operator, origin, can_run):
    make_gpu_host("node-01", 1, origin=origin)

    for path in ("/hosts/node-01/", "/reference/recent/?host=node-01"):
        assert ("view=launch" in operator.get(path).content.decode()) is can_run, path
