"""Choosing hosts and devices by cluster, labels and model."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fleet.access.audit import Actor
from fleet.models import Device, DeviceKind, Host, Origin, Role
from tests.people import script, signed_in
from tests.training.pages import form, text
from tests.training.reference_jobs import existing_job, ready_host
from training.jobs.launch import launch
from training.jobs.selection import NothingSelected, Selection, select
from training.models import ReferenceJob

pytestmark = pytest.mark.django_db
JOBS = "/api/v1/reference/jobs"


@pytest.fixture(autouse=True)
def fleet() -> None:
    for name, cluster, labels, model in (
        ("a1", "atlas", {"rack": "1"}, "NVIDIA H100 80GB HBM3"),
        ("a2", "atlas", {"rack": "2"}, "NVIDIA H100 80GB HBM3"),
        ("b1", "borealis", {"rack": "1"}, "NVIDIA A100-SXM4-80GB"),
    ):
        host = ready_host(name, DeviceKind.CPU, cluster=cluster, labels=labels)
        for index in range(2):
            Device.objects.create(host=host, uuid=f"{name}-{index}", kind=DeviceKind.NVIDIA, index=index, model=model)


def chosen(**fields) -> list[str]:
    return [uuid for _, uuid in select(Selection(**fields)).wanted]


@pytest.mark.parametrize(
    ("fields", "uuids"),
    [
        ({"cluster": "atlas", "model": "h100"}, ["a1-0", "a2-0"]),
        ({"cluster": "atlas", "model": "h100", "per": "device"}, ["a1-0", "a1-1", "a2-0", "a2-1"]),
        ({"labels": {"rack": "1"}}, ["a1-0", "b1-0"]),
        ({"labels": {"rack": "1"}, "model": "A100"}, ["b1-0"]),
    ],
)
def test_it_takes_what_fits_all_that_is_asked(fields, uuids):
    assert chosen(**fields) == uuids


def test_a_busy_host_is_left_out_and_named():
    existing_job(Host.objects.get(name="a1"))

    found = select(Selection(model="H100"))

    assert (found.wanted, found.busy) == ([("a2", "a2-0")], ["a1"])


def test_simulated_hosts_are_not_selected():
    Host.objects.update(origin=Origin.SIMULATED)

    with pytest.raises(NothingSelected, match="no host fits"):
        select(Selection(model="H100"))


def test_the_form_starts_one_job_on_each_device_and_leads_to_the_launchs_own_page(outbox):
    client = signed_in(Role.OPERATOR)

    answer = client.post("/reference/?view=launch", form(host=["a1", "b1"], per="device"))

    jobs = list(ReferenceJob.objects.order_by("pk"))
    assert [job.device.uuid for job in jobs] == ["a1-0", "a1-1", "b1-0", "b1-1"]
    shown = text(client.get(answer.url))
    assert "gpt-train on 4 devices" in shown
    assert "queued 4" in shown


def test_a_launch_that_does_not_exist_has_no_page():
    assert signed_in(Role.VIEWER).get("/reference/?view=launched&launch=none").status_code == 404


def test_a_script_launches_one_job_for_each_device_of_a_selection(outbox):
    order = {"workload": "gpt-train", "cluster": "atlas", "model": "H100", "per": "device"}

    answer = script(Role.OPERATOR).post(JOBS, order, content_type="application/json")

    assert answer.status_code == 201
    assert [job["device"] for job in answer.json()["items"]] == ["a1-0", "a1-1", "a2-0", "a2-1"]
    assert len({job["launch"] for job in answer.json()["items"]}) == 1
    assert len(outbox.taken("a1")) == 2


@pytest.mark.parametrize(
    "fields", [{"cluster": "nowhere"}, {"cluster": "atlas", "hosts": ["a1"]}, {"labels": {"rack": "9"}}, {}]
)
def test_a_selection_that_selects_nothing_or_too_much_is_refused(fields):
    answer = script(Role.OPERATOR).post(JOBS, {"workload": "gpt-train", **fields}, content_type="application/json")

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "hosts")


def test_a_launch_on_many_hosts_asks_the_database_as_often_as_one_on_few(outbox):
    def n_queries(*names: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            launch("gpt-train", names, {}, actor=Actor("ada"))
        return len(captured)

    for number in range(12):
        ready_host(f"c{number:02}")

    assert n_queries(*(f"c{number:02}" for number in range(2, 12))) == n_queries("c00", "c01")
