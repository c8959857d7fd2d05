"""The events page and the API's events: newest first, filtered, page by page, for those who may see them."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from fleet.models import Event, EventKind, Origin, Severity
from tests.factories import make_device, make_host
from tests.people import script, signed_in

pytestmark = pytest.mark.django_db


def happen(text="something", *, hours_ago=0.0, kind=EventKind.XID, severity=Severity.CRITICAL, **fields):
    at = timezone.now() - timedelta(hours=hours_ago)
    times = {"first_at": at, "last_at": at}
    return Event.objects.create(kind=kind, severity=severity, text=text, **(times | fields))


@pytest.fixture
def log():
    """Four events: of a GPU, of its host, of a recorded host, and of no host."""
    gpu = make_device(make_host("gpu-a01"))
    happen("newest", host=gpu.host, device=gpu, code=79)
    happen("second", hours_ago=2, host=gpu.host, kind=EventKind.SOFTWARE_CHANGED, severity=Severity.INFO)
    happen("third", hours_ago=3, host=make_host("recorded", origin=Origin.IMPORTED))
    happen("oldest", hours_ago=50, kind=EventKind.FOREIGN_MESSAGE, severity=Severity.WARNING)
    return gpu


@pytest.fixture
def listed():
    client = script()

    def get(**query):
        answer = client.get("/api/v1/events", query)
        return answer.status_code, answer.json()

    return get


def rows(query=""):
    """Return the texts of the page's rows, in their order."""
    page = signed_in().get(f"/events/{query}").content.decode()
    return re.findall(r'<div class="two">([^<]+)', page)


def texts(answer):
    status, body = answer
    assert status == 200
    return [item["text"] for item in body["items"]]


FILTERS = [
    ({}, ["newest", "second", "third", "oldest"]),
    ({"host": "gpu-a01"}, ["newest", "second"]),
    ({"kind": "software_changed"}, ["second"]),
    ({"severity": "critical"}, ["newest", "third"]),
    ({"host": "gpu-a01", "severity": "warning"}, []),
]


@pytest.mark.parametrize(("query", "expected"), FILTERS)
def test_the_api_lists_events_newest_first_and_filtered(log, listed, query, expected):
    assert texts(listed(**query)) == expected


@pytest.mark.parametrize(("query", "expected"), FILTERS)
def test_the_page_shows_the_same_events(log, query, expected):
    assert rows("?" + "&".join(f"{name}={value}" for name, value in query.items())) == expected


def test_events_of_one_device_are_found_by_its_uuid(log, listed):
    assert texts(listed(device=log.uuid)) == rows(f"?device={log.uuid}") == ["newest"]


def test_events_of_a_span_are_those_that_happened_in_it(log, listed):
    now = timezone.now()
    start, end = (now - timedelta(hours=4)).isoformat(), (now - timedelta(hours=1)).isoformat()

    assert texts(listed(start=start, end=end)) == ["second", "third"]
    assert rows("?range=24h") == ["newest", "second", "third"]


def test_the_api_answers_page_by_page(log, listed):
    status, body = listed(limit=2, offset=1)

    assert (status, body["count"], [item["text"] for item in body["items"]]) == (200, 4, ["second", "third"])


def test_an_event_shows_all_that_is_known_of_it(log, listed):
    item = listed(device=log.uuid)[1]["items"][0]

    assert (item["host"], item["device"], item["code"], item["count"]) == ("gpu-a01", log.uuid, 79, 1)
    assert set(item) >= {"id", "kind", "severity", "detail", "first_at", "last_at"}


@pytest.mark.parametrize(
    ("query", "status", "code", "field"),
    [
        ({"host": "gpu-z99"}, 404, "not_found", "host"),
        ({"device": "GPU-0"}, 404, "not_found", "device"),
        ({"kind": "flood"}, 400, "invalid", "kind"),
        ({"severity": "bad"}, 400, "invalid", "severity"),
        ({"start": "yesterday"}, 400, "invalid", "start"),
        ({"start": "2000", "end": "1000"}, 400, "invalid", "start"),
        ({"limit": 1001}, 400, "invalid", "limit"),
        ({"hots": "gpu-a01"}, 400, "unknown_parameter", "hots"),
    ],
)
def test_a_bad_question_to_the_api_is_refused(listed, query, status, code, field):
    found, body = listed(**query)

    assert (found, body["error"]["code"], body["error"]["field"]) == (status, code, field)


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("host=gpu-z99", 404, "no host named gpu-z99"),
        ("device=GPU-0", 404, "no device GPU-0"),
        ("kind=flood", 400, "kind: expected one of"),
        ("severity=bad", 400, "severity: expected one of"),
        ("range=2h", 400, "range: expected one of"),
    ],
)
def test_a_bad_address_of_the_page_is_refused_in_words(query, status, words):
    page = signed_in().get(f"/events/?{query}")

    assert (page.status_code, words in page.content.decode()) == (status, True)


def test_the_page_is_turned_without_losing_its_filter(log):
    for number in range(51):
        happen(f"filler {number}", hours_ago=10, host=log.host)
    page = signed_in().get("/events/?host=gpu-a01").content.decode()

    assert "page 1 of 2" in page
    assert 'href="?host=gpu-a01&amp;page=2"' in page


def test_evidence_is_in_words_and_the_ingests_own_notes_are_not():
    detail = {"action": "power-cycle it", "sample_ms": 1_795_435_200_000, "notices": ["0" * 32]}
    happen("an XID", host=make_host(), detail=detail)
    page = signed_in().get("/events/").content.decode()

    assert "what to do: power-cycle it" in page
    assert '<small>sample: <time datetime="2026-11-23T12:00:00.000Z"' in page
    assert "0" * 32 not in page


def test_a_text_from_outside_is_shown_as_text():
    happen("<script>alert(1)</script>", detail={"host": "<b>x</b>"})
    page = signed_in().get("/events/").content.decode()

    assert "<script>alert" not in page
    assert "<b>x</b>" not in page


def test_events_of_hosts_that_are_not_real_are_marked(log):
    assert '<span class="tag">imported</span>' in signed_in().get("/events/").content.decode()


def test_an_empty_filter_leads_back(log):
    assert "No event fits this filter" in signed_in().get("/events/?kind=cloned_key").content.decode()


def test_an_empty_log_says_so():
    assert "Nothing has happened yet" in signed_in().get("/events/").content.decode()


@pytest.mark.parametrize("path", ["/events/", "/api/v1/events"])
def test_a_stranger_sees_no_event(log, path):
    answer = Client().get(path)

    assert answer.status_code in {302, 401}
    assert b"newest" not in answer.content


def test_the_list_costs_the_same_whatever_its_length(log, django_assert_num_queries):
    client = script()
    client.get("/api/v1/events")
    for number in range(20):
        happen(f"{number}", host=log.host, device=log)
    with django_assert_num_queries(3):  # the token, the rows with host and device, their number
        client.get("/api/v1/events")
