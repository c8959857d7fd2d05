"""Telling people of alerts by mail, through a real mail server on this machine."""

from datetime import timedelta
from email import message_from_bytes

import pytest
from aiosmtpd.controller import Controller

from fleet.access.audit import Actor
from fleet.environment import mail
from fleet.environment.env import Environment
from fleet.inventory.removal import remove_host
from fleet.models import Event
from telemetry.models import Delivery, NotificationTarget
from telemetry.notify.deliver import deliver
from tests.factories import make_host
from tests.ports import free_port
from tests.telemetry.told import NOW, alert, target

pytestmark = pytest.mark.django_db


@pytest.fixture
def mailbox(settings):
    """A mail server; what it took, as messages."""

    class Taking:
        taken: list = []

        async def handle_DATA(self, server, session, envelope):  # noqa: N802 — aiosmtpd's name
            self.taken.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
            return "250 OK"

    port = free_port()
    controller = Controller(Taking(), hostname="127.0.0.1", port=port)
    controller.start()
    url = Environment(
        {"STEPWATT_SMTP_URL": f"smtp://127.0.0.1:{port}?starttls=off", "STEPWATT_MAIL_FROM": "a@b.example"}
    )
    for name, value in mail.read(url).items():
        setattr(settings, name, value)
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    yield Taking.taken
    controller.stop()


def test_mail_arrives_with_what_to_do_next(mailbox):
    NotificationTarget.objects.create(name="mail", kind="email", address="a@x.example, b@x.example")
    alert(host=make_host("gpu-a01"))

    deliver(NOW)

    [(to, message)] = mailbox
    assert to == ["a@x.example", "b@x.example"]
    assert message["Subject"] == "[Stepwatt] critical: gpu-a01: no sample for 60 s"
    assert "next: look at its agent" in message.get_payload(decode=True).decode()


@pytest.mark.parametrize("address", ["a@b@c.example", "a\n@x.example"])
def test_an_address_that_no_mail_can_be_sent_to_fails_the_delivery(mailbox, address):
    NotificationTarget.objects.create(name="mail", kind="email", address=address), alert()

    assert deliver(NOW) == 0
    assert Delivery.objects.get().error


def test_a_text_of_several_lines_has_a_subject_of_one(mailbox):
    NotificationTarget.objects.create(name="mail", kind="email", address="a@x.example"), alert()
    Event.objects.update(text="a model's name\r\nBcc: all@x.example")

    deliver(NOW)

    [(to, message)] = mailbox
    assert (to, message["Bcc"]) == (["a@x.example"], None)


def test_a_mail_server_that_is_away_fails_the_delivery(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    NotificationTarget.objects.create(name="mail", kind="email", address="a@x.example"), alert()

    assert deliver(NOW) == 0
    assert "mail server" in Delivery.objects.get().error


def test_a_mail_names_the_removed_host(mailbox):
    host = make_host("gpu-a01")
    target("ops@b.example", kind="email")
    alert(host=host)
    deliver(NOW)

    remove_host(host, Actor("ada"), NOW)
    deliver(NOW + timedelta(minutes=1))

    assert [message["Subject"] for _, message in mailbox] == [
        "[Stepwatt] critical: gpu-a01: no sample for 60 s",
        "[Stepwatt] resolved: gpu-a01: no sample for 60 s",
    ]
