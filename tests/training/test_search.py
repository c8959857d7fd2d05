"""Search over hosts, devices, runs and jobs: the page, and the list below the field."""

import re

import pytest
from django.db.models import Value
from django.db.models.functions import Concat
from django.test import Client

from fleet.models import Origin, Role
from tests.factories import make_gpu_host
from tests.people import signed_in
from tests.training.reference_jobs import existing_job
from tests.training.runs import goes_on, make_run
from training.search import search

HTMX = {"HX-Request": "true"}


@pytest.fixture
def known(db):
    host = make_gpu_host("gpu-a01", 8, cluster="atlas", labels={"team": "vision"})
    make_run("llm-7b", 1, host=host)
    return existing_job(host)


def found(client: Client, text: str, **headers: str) -> list[str]:
    page = client.get("/search/", {"q": text}, headers=headers).content.decode()
    return re.findall(r'class="hit" href="([^"]+)"', page)


def test_each_kind_is_found_by_what_people_know_of_it(known):
    client, uuid = signed_in(), known.host.devices.first().uuid

    assert found(client, uuid) == [f"/devices/{uuid}/"]
    assert found(client, "team vision") == ["/hosts/gpu-a01/"]
    assert found(client, "llm")[0].startswith("/runs/")
    assert f"/reference/{known.pk}/" in found(client, str(known.pk))


@pytest.mark.django_db
def test_a_word_for_a_state_finds_what_is_in_it():
    host, silent = make_gpu_host("gpu-a01", 1), make_gpu_host("gpu-b01", 1, silent=True)
    make_gpu_host("old", 1, silent=True, origin=Origin.IMPORTED)
    ended, going = make_run("ended-one", 1, host=host), goes_on(make_run("other", 1, host=host))
    failed, queued = existing_job(host, state="failed"), existing_job(silent, state="queued")
    client = signed_in()

    assert found(client, "silent") == ["/hosts/gpu-b01/"]
    assert found(client, "running") == [f"/runs/{going.pk}/"]
    assert found(client, "ended") == [f"/runs/{ended.pk}/"]
    assert found(client, "Failed") == [f"/reference/{failed.pk}/"]
    assert found(client, "queued gpu-b01") == [f"/reference/{queued.pk}/"]
    assert found(client, "queued gpu-a01") == []


def test_a_device_is_found_first_by_what_it_is_called(known):
    seventh = known.host.devices.get(index=6)
    known.host.devices.update(uuid=Concat(Value("X-"), "uuid"))

    assert found(signed_in(), "a01 gpu 6")[0] == f"/devices/X-{seventh.uuid}/"


def test_devices_without_a_number_among_the_words_come_by_host_and_index(each_database):
    for name in ("gpu-b01", "gpu-a01"):
        make_gpu_host(name, 2)

    (devices,) = [section for section in search("gpu", 9) if section.name == "Devices"]

    assert [hit.title for hit in devices.hits] == ["gpu-a01 GPU 0", "gpu-a01 GPU 1", "gpu-b01 GPU 0", "gpu-b01 GPU 1"]


def test_a_device_without_an_index_is_not_found_by_any_word(known):
    known.host.devices.update(index=None)

    assert found(signed_in(), "nothing-of-it") == []


def test_every_word_must_fit(known):
    assert found(signed_in(), "gpu-a01 borealis") == []
    assert "Nothing has" in signed_in(Role.OPERATOR).get("/search/?q=borealis").content.decode()


def test_below_the_field_stand_the_first_of_each_kind_only(known):
    client = signed_in()

    assert len(found(client, "H100", **HTMX)) == 5
    assert len(found(client, "H100")) == 8


def test_its_queries_do_not_grow_with_what_is_found(known, django_assert_max_num_queries):
    client = signed_in()
    for number in range(2, 8):
        make_gpu_host(f"gpu-a{number:02}", 8)
    with django_assert_max_num_queries(6):
        found(client, "gpu", **HTMX)


def test_a_stranger_signs_in_first():
    assert Client().get("/search/?q=a").status_code == 302
