"""The launch form of a fleet that is too large to be listed: what is looked for, chosen or refused is there."""

import re

import pytest

from fleet.models import Device, DeviceKind, Host, Origin
from tests.training.pages import LAUNCH, form, text
from tests.training.reference_jobs import existing_job
from training.jobs.picker import CHOSEN_LISTED, LISTED
from training.models import JobState, ReferenceJob

pytestmark = pytest.mark.django_db

N_HOSTS = LISTED + 50


@pytest.fixture(autouse=True)
def fleet(db):
    hosts = Host.objects.bulk_create(
        Host(name=f"gpu-{n:03}", origin=Origin.REAL, cluster="atlas", labels={"rack": f"r{n % 7}"})
        for n in range(N_HOSTS)
    )
    Device.objects.bulk_create(
        Device(host=host, uuid=f"GPU-{host.name}", index=0, kind=DeviceKind.NVIDIA, model="NVIDIA L4") for host in hosts
    )
    Device.objects.filter(host=hosts[-1]).update(model="NVIDIA H100 80GB HBM3")


def offered(operator, **asked):
    query = "".join(f"&{name}={value}" for name, value in asked.items())
    page = operator.get(f"{LAUNCH}&part=hosts&by=hand{query}").content.decode()
    return re.findall(r'name="host" value="([^"]+)"', page), page


def test_so_many_are_listed_and_the_others_counted(operator):
    names, page = offered(operator)

    assert names == [f"gpu-{n:03}" for n in range(LISTED)]
    assert f"And {N_HOSTS - LISTED} more" in page


@pytest.mark.parametrize("words", ["gpu-149", "H100", "h100 atlas", "149 r2", "149 rack", "149 rack=r2"])
def test_one_beyond_the_list_is_found_by_its_words(operator, words):
    names, page = offered(operator, q=words)

    assert names == ["gpu-149"]
    assert "more:" not in page


def test_thousands_of_others_are_counted_as_figures_are_elsewhere(operator):
    Host.objects.bulk_create(Host(name=f"gpu-b{n:04}", origin=Origin.REAL) for n in range(2000 - N_HOSTS + LISTED))

    assert "And 2,000 more" in offered(operator)[1]


def test_what_was_chosen_stays_while_one_looks_for_others(operator):
    names, page = offered(operator, q="H100", host="gpu-003")

    assert sorted(names) == ["gpu-003", "gpu-149"]
    assert 'value="gpu-003" checked' in page


def test_the_page_looks_for_hosts_by_asking_the_server(operator):
    page = operator.get(LAUNCH).content.decode()

    assert "part=hosts" in page
    assert f"0 of {N_HOSTS} chosen" in text(operator.get(LAUNCH))


def test_a_host_beyond_the_list_is_launched_on(operator):
    operator.post(LAUNCH, form(host="gpu-149"))

    assert ReferenceJob.objects.get().host.name == "gpu-149"


def test_a_selection_of_all_is_told_in_numbers_and_not_listed(operator):
    page = operator.get(f"{LAUNCH}&by=selection&cluster=atlas").content.decode()

    assert len(re.findall(r'name="host" value=', page)) == LISTED
    assert f"{N_HOSTS} selected" in page


def test_those_that_are_free_are_listed_before_the_busy_ones(operator):
    for host in Host.objects.order_by("name")[:LISTED]:
        existing_job(host, JobState.RUNNING)

    assert offered(operator)[0][: N_HOSTS - LISTED] == [f"gpu-{n:03}" for n in range(LISTED, N_HOSTS)]


def test_a_selection_of_all_reads_each_host_and_device_once(operator, django_assert_max_num_queries):
    with django_assert_max_num_queries(17) as asked:
        operator.get(f"{LAUNCH}&by=selection&cluster=atlas")

    read = [query["sql"] for query in asked.captured_queries]
    assert sum('"fleet_device"."uuid"' in sql for sql in read) == 1


def many(n: int, **asked) -> str:
    chosen = "".join(f"&host=gpu-{at:03}" for at in range(n))
    return f"{LAUNCH}&by=hand{chosen}{''.join(f'&{name}={value}' for name, value in asked.items())}"


def test_of_very_many_chosen_by_hand_the_first_are_listed_and_all_are_sent(operator):
    page = operator.get(many(120)).content.decode()

    assert len(re.findall(r'value="gpu-\d+" checked', page)) == CHOSEN_LISTED
    assert f"And {120 - CHOSEN_LISTED} more chosen" in page
    sent = re.findall(r'type="hidden" name="host" value="([^"]+)"', page)
    assert sent == [f"gpu-{at:03}" for at in range(CHOSEN_LISTED, 120)]
    assert f"120 of {N_HOSTS} chosen" in page


def test_one_of_very_many_chosen_is_found_by_its_words_and_may_be_left_out(operator):
    page = operator.get(many(120, q="gpu-119", part="hosts")).content.decode()

    assert 'value="gpu-119" checked' in page
    assert 'type="hidden" name="host" value="gpu-119"' not in page


def test_what_thousands_of_chosen_hosts_mean_is_told_and_nothing_is_started(operator):
    more = [Host(name=f"{'a' * 57}-{n:04}", origin=Origin.REAL) for n in range(1250)]  # of the longest names
    Device.objects.bulk_create(
        Device(host=host, uuid=host.name, index=0, kind=DeviceKind.NVIDIA, model="NVIDIA L4")
        for host in Host.objects.bulk_create(more)
    )

    answer = operator.post(f"{LAUNCH}&part=before", {"by": "hand", "host": [host.name for host in more]})

    assert answer.status_code == 200
    assert "1250 hosts" in text(answer).replace(",", "")
    assert not ReferenceJob.objects.exists()


def test_the_page_sends_the_chosen_hosts_in_no_address(operator):
    asked = re.findall(r'(hx-\w+)="(/reference/[^"]*part=\w+)"', operator.get(LAUNCH).content.decode())

    assert {name for name, _ in asked} == {"hx-post"}
    assert {address.rpartition("=")[2] for _, address in asked} == {"before", "hosts", "settings"}
