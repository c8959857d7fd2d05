"""The mail server's settings."""

import pytest

from fleet.environment import mail
from fleet.environment.env import Environment, EnvironmentInvalid


def read(url):
    return mail.read(Environment({"STEPWATT_SMTP_URL": url}))


def test_without_a_mail_server_there_is_no_host():
    assert read("")["EMAIL_HOST"] == ""


def test_smtp_is_upgraded_to_tls():
    found = read("smtp://us%40er:p%2Fw@mail.example")

    assert (found["EMAIL_HOST_USER"], found["EMAIL_HOST_PASSWORD"], found["EMAIL_PORT"]) == ("us@er", "p/w", 587)
    assert (found["EMAIL_USE_TLS"], found["EMAIL_USE_SSL"]) == (True, False)


def test_smtps_is_tls_from_the_start():
    found = read("smtps://mail.example")

    assert (found["EMAIL_PORT"], found["EMAIL_USE_TLS"], found["EMAIL_USE_SSL"]) == (465, False, True)


def test_a_server_on_this_machine_may_do_without():
    assert read("smtp://127.0.0.1:25?starttls=off")["EMAIL_USE_TLS"] is False


@pytest.mark.parametrize("url", ["http://x", "smtp://", "smtp://h:port", "smtp://h?starttls=no", "smtp://h?tls=off"])
def test_a_url_that_cannot_be_used_names_the_setting(url):
    with pytest.raises(EnvironmentInvalid, match="STEPWATT_SMTP_URL"):
        read(url)
