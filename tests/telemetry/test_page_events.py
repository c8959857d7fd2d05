"""The events page at work: words, order and CSV by the address; resolving, silences, what stands beside an alert."""

import csv
import io
import re
from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.models import AuditEntry, Event, Host, Role
from telemetry.models import NotificationTarget, Silence
from telemetry.notify import due
from tests.people import script, signed_in
from tests.telemetry.test_api_events import fire

pytestmark = pytest.mark.django_db


def shown(query: str = "", role: Role = Role.VIEWER) -> str:
    answer = signed_in(role).get(f"/events/{query}")
    assert answer.status_code == 200
    return answer.content.decode()


def where(query: str = "") -> list[str]:
    return re.findall(r'<tr data-severity.*?href="/hosts/([\w-]+)/"', shown(query), re.DOTALL)


@pytest.fixture
def two():
    fire("device_lost", "zeta")
    return fire("hot_memory", "alpha", memory_temperature_celsius=99.0)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?q=zeta", ["zeta"]),
        ("?q=hot+memory", ["alpha"]),
        ("?q=hot+zeta", []),
        ("?sort=where", ["alpha", "zeta"]),
        ("?sort=-where", ["zeta", "alpha"]),
    ],
)
def test_words_and_order_stand_in_the_address(two, query, expected):
    assert where(query) == expected


def test_the_link_of_a_notification_shows_its_alert_alone(two):
    assert where(f"?event={two.pk}") == ["alpha"]
    assert signed_in(Role.ADMIN).get("/events/?event=x").status_code == 400


def test_the_file_holds_what_the_filter_finds(two):
    rows = list(csv.DictReader(io.StringIO(shown("?rule=hot_memory&format=csv"))))

    assert [(row["host"], row["state"], row["rule"]) for row in rows] == [("alpha", "firing", "hot_memory")]
    assert "cooling" in rows[0]["action"]


def test_an_operator_resolves_an_alert_by_hand(two):
    client = signed_in(Role.OPERATOR)
    page = client.post(f"/events/{two.pk}/resolve/", headers={"HX-Request": "true"}).content.decode()

    assert 'data-alert="resolved"' in page
    assert "resolved: by operator" in page
    assert AuditEntry.objects.get(action="event.resolve").actor == "operator"
    again = client.post(f"/events/{two.pk}/resolve/", follow=True).content.decode()
    assert "Nothing was changed: this alert is resolved already" in again


def test_the_api_resolves_too(two):
    path = f"/api/v1/events/{two.pk}/resolve"

    assert script(Role.VIEWER).post(path).status_code == 403
    assert script(Role.OPERATOR).post(path).json()["state"] == "resolved"
    assert script(Role.ADMIN).post(path).status_code == 409
    assert Event.objects.filter(resolved_at=None, rule="hot_memory").count() == 0


@pytest.mark.parametrize("number", ["new", "0", "9" * 30, "9" * 5000])
def test_a_silence_about_no_alert_is_an_empty_form(two, number):
    answer = signed_in(Role.OPERATOR).get("/events/", {"silence": number})

    assert (answer.status_code, answer.context["about"], answer.context["asks_silence"]) == (200, None, True)


def test_a_silence_is_made_from_an_alert_and_nobody_is_told_of_it(two):
    NotificationTarget.objects.create(name="on call", kind="webhook", address="https://a.example/x")
    client = signed_in(Role.OPERATOR)
    assert 'value="alpha"' in client.get(f"/events/?silence={two.pk}").content.decode()

    client.post("/events/silences/", {"rule": "hot_memory", "host": "alpha", "comment": "new fan", "minutes": "60"})

    assert due.note_due(timezone.now()) == 1  # the other alert
    page = client.get("/events/?state=silenced").content.decode()
    assert "silenced until" in page
    assert "new fan" in page
    assert "zeta" not in page
    assert "Silenced 1" in page


def test_a_silence_ends_by_its_button(two):
    now = timezone.now()
    silence = Silence.objects.create(comment="x", created_by="a", starts_at=now, ends_at=now + timedelta(hours=1))
    client = signed_in(Role.OPERATOR)
    client.post(f"/events/silences/{silence.pk}/end/")

    assert Silence.objects.get().ends_at <= timezone.now()
    assert "had ended already" in client.post(f"/events/silences/{silence.pk}/end/", follow=True).content.decode()


@pytest.mark.parametrize(
    "change", [{"host": "nowhere"}, {"label": "rack"}, {"comment": " "}, {"minutes": "0"}, {"rule": "no_such"}]
)
def test_a_silence_that_cannot_be_is_refused_in_words(two, change):
    sent = {"rule": "", "host": "alpha", "label": "", "comment": "why", "minutes": "60"} | change
    answer = signed_in(Role.OPERATOR).post("/events/silences/", sent, follow=True)

    assert "Nothing is silenced" in answer.content.decode()
    assert not Silence.objects.exists()


@pytest.mark.parametrize("path", ["/events/silences/", "/events/silences/1/end/", "/events/1/resolve/"])
def test_viewers_may_do_none_of_it(path):
    assert signed_in().post(path).status_code == 403


def test_its_queries_do_not_grow_with_its_rows(two, django_assert_max_num_queries):
    client = signed_in(Role.OPERATOR)
    for number in range(8):
        fire("device_lost", f"host-{number}")
    with django_assert_max_num_queries(24):
        client.get("/events/")


def test_the_counts_of_the_states_follow_what_is_done_in_the_list(two):
    client = signed_in(Role.OPERATOR)
    alert = Event.objects.get(rule="device_lost")

    page = client.post(f"/events/{alert.pk}/acknowledge/?state=firing", headers={"HX-Request": "true"}).content.decode()

    chips = re.sub(r"<[^>]+>", " ", page[page.index('id="event-states"') :])
    assert 'hx-swap-oob="true"' in page
    assert re.search(r"Firing 1\s+Acknowledged 1", chips)


def test_the_events_of_a_cluster_are_those_of_its_hosts(two):
    Host.objects.filter(name="alpha").update(cluster="atlas")

    assert where("?cluster=atlas") == ["alpha"]
    page = signed_in(Role.OPERATOR).get("/events/?cluster=atlas").content.decode()
    assert 'href="/hosts/?cluster=atlas"' in page
    assert '<input type="hidden" name="cluster" value="atlas">' in page
    assert signed_in(Role.ADMIN).get("/events/?cluster=none").status_code == 404
