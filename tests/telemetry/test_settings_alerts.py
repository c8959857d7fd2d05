"""The settings of alerts: thresholds of the rules, targets of notifications, silences."""

from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from django.utils import timezone

from fleet.models import AuditEntry, Role
from telemetry.health import thresholds
from telemetry.models import NotificationTarget, RuleThreshold, Silence
from tests.factories import make_host
from tests.people import signed_in

pytestmark = pytest.mark.django_db
RULES, NOTIFICATIONS = "/settings/rules/", "/settings/notifications/"


def page(path: str, role: Role = Role.VIEWER) -> str:
    answer = signed_in(role).get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def words(answer) -> str:
    """Return the page that a deed leads to."""
    return answer.content.decode()


def test_every_rule_stands_there_with_its_limits_and_what_to_do():
    shown = page(RULES)

    assert 'id="rule-device_lost"' in shown
    assert "Not named by its host for, seconds" in shown
    assert "What to do: drain the host" in shown
    assert "Only admins change thresholds" in shown


def test_an_admins_threshold_is_what_the_rule_then_uses_and_stands_in_the_audit_log():
    client = signed_in(Role.ADMIN)
    client.post(f"{RULES}device_lost/", {"missing_seconds": "120", "for_seconds": "0", "clear_seconds": "60"})

    assert thresholds.in_force()["device_lost"]["missing_seconds"] == 120
    entry = AuditEntry.objects.get(action="rule.thresholds")
    assert entry.detail == {"from": {"missing_seconds": None}, "to": {"missing_seconds": 120.0}}
    assert ">changed<" in client.get(RULES).content.decode()


def test_an_empty_field_or_the_rules_own_value_lets_the_rules_own_hold_again():
    thresholds.set_value("device_lost", "missing_seconds", 120)
    thresholds.set_value("device_lost", "clear_seconds", 1)
    signed_in(Role.ADMIN).post(f"{RULES}device_lost/", {"missing_seconds": "", "clear_seconds": "60"})

    assert not RuleThreshold.objects.exists()
    assert thresholds.in_force()["device_lost"]["missing_seconds"] == 300


@pytest.mark.parametrize("text", ["7", "1e9", "nan", "many"])
def test_what_is_out_of_bounds_or_no_number_changes_nothing(text):
    sent = {"missing_seconds": text, "clear_seconds": "1"}
    answer = signed_in(Role.ADMIN).post(f"{RULES}device_lost/", sent, follow=True)

    assert "Nothing was changed" in words(answer)
    assert not RuleThreshold.objects.exists()


def test_the_power_budget_of_one_cluster_can_be_set():
    make_host("gpu-a01", cluster="atlas")
    client = signed_in(Role.ADMIN)
    name = next(
        n for n, rule in thresholds.rules.by_name().items() if any(t.by_cluster for t in rule.thresholds.values())
    )
    client.post(f"{RULES}{name}/", {"watts:atlas": "66000"})

    assert thresholds.in_force()[name]["watts:atlas"] == 66_000
    assert "atlas alone" in client.get(RULES).content.decode()


def test_a_cluster_that_no_host_can_have_gets_no_budget():
    name = next(n for n, rule in thresholds.rules.by_name().items() if "watts" in rule.thresholds)
    answer = signed_in(Role.ADMIN).post(f"{RULES}{name}/", {f"watts:{'a' * 64}": "66000"}, follow=True)

    assert "Nothing was changed" in words(answer)
    assert not RuleThreshold.objects.exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
@pytest.mark.parametrize(
    "path", [f"{RULES}device_lost/", f"{NOTIFICATIONS}new/", f"{NOTIFICATIONS}1/test/", "/settings/energy/price/"]
)
def test_only_admins_may_change_settings(role, path):
    assert signed_in(role).post(path).status_code == 403


def test_a_rule_that_there_is_not_is_said():
    assert signed_in(Role.ADMIN).post(f"{RULES}no_such_rule/").status_code == 404


@pytest.mark.parametrize(("role", "is_shown"), [(Role.ADMIN, True), (Role.OPERATOR, False)])
def test_only_admins_see_where_alerts_are_told(role, is_shown):
    NotificationTarget.objects.create(name="on call", kind="webhook", address="https://hooks.example/secret-path")

    assert ("secret-path" in page(NOTIFICATIONS, role)) is is_shown


class Receiver(HTTPServer):
    """A webhook's other end, which keeps what it was sent."""

    def __init__(self, status: int) -> None:
        self.bodies: list[bytes] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)
        Thread(target=self.serve_forever, daemon=True).start()


@pytest.mark.parametrize(("status", "said"), [(204, "The test arrived at on call"), (500, "The test did not arrive")])
def test_a_target_is_made_tried_out_and_deleted_by_buttons(status, said):
    client, receiver = signed_in(Role.ADMIN), Receiver(status)
    sent = {"name": "on call", "kind": "webhook", "severity": "warning", "secret": ""}
    client.post(f"{NOTIFICATIONS}new/", sent | {"address": f"http://127.0.0.1:{receiver.server_port}/x"})
    pk = NotificationTarget.objects.get().pk

    assert said in words(client.post(f"{NOTIFICATIONS}{pk}/test/", follow=True))
    assert receiver.bodies == [b'{"version": 1, "test": true, "alerts": []}']
    client.post(f"{NOTIFICATIONS}{pk}/delete/")
    receiver.shutdown()
    receiver.server_close()
    assert not NotificationTarget.objects.exists()
    assert [entry.action for entry in AuditEntry.objects.order_by("pk")] == [
        "notification-target.create", "notification-target.test", "notification-target.delete",
    ]  # fmt: skip


@pytest.mark.parametrize("change", [{"address": "ftp://x"}, {"name": ""}, {"kind": "pigeon"}, {"kind": "email"}])
def test_a_target_that_cannot_be_is_refused_in_words_and_keeps_what_was_typed(change):
    sent = {"name": "on call", "kind": "webhook", "severity": "warning", "address": "https://a.example/x"} | change
    answer = signed_in(Role.ADMIN).post(f"{NOTIFICATIONS}new/", sent)

    assert answer.status_code == 400
    assert 'role="alert"' in words(answer)
    assert f'value="{sent["address"]}"' in words(answer)


def test_it_shows_the_silences_that_hold():
    now = timezone.now()
    Silence.objects.create(comment="new switch", created_by="anna", starts_at=now, ends_at=now + timedelta(hours=1))

    assert "new switch" in page(NOTIFICATIONS)
