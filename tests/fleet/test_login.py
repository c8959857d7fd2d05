"""Signing in, and its throttle."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from fleet.access import throttle
from fleet.models import LoginAttempt, Role
from tests.people import PASSWORD, person

pytestmark = pytest.mark.django_db

T0 = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HERE, THERE = "192.0.2.7", "192.0.2.8"


def sign_in(client=None, *, name="viewer", password=PASSWORD, address=HERE, **more):
    form = {"username": name, "password": password, **more}
    return (client or Client()).post("/login/", form, REMOTE_ADDR=address)


def fail(times, **kwargs):
    for _ in range(times):
        response = sign_in(password="wrong", **kwargs)
    return response


def errors(response):
    return list(response.context["form"].non_field_errors())


def test_signing_in_leads_to_the_page_that_was_asked_for():
    person()

    response = Client().post("/login/?next=/hosts/", {"username": "viewer", "password": PASSWORD})

    assert (response.status_code, response.url) == (302, "/hosts/")


def test_a_foreign_address_to_go_on_to_is_not_followed():
    person()

    response = Client().post("/login/?next=https://example.org/", {"username": "viewer", "password": PASSWORD})

    assert response.url == "/"


def test_who_is_signed_in_does_not_see_the_form():
    client = Client()
    client.force_login(person())

    assert client.get("/login/").url == "/"


def test_a_session_ends_with_the_browser():
    person()
    client = Client()
    sign_in(client)

    assert client.cookies["sessionid"]["max-age"] == ""


def test_staying_signed_in_keeps_the_session_for_14_days():
    person()
    client = Client()
    sign_in(client, stay_signed_in="on")

    assert client.cookies["sessionid"]["max-age"] == 14 * 86_400


def test_the_form_is_held_to_csrf():
    person()

    assert sign_in(Client(enforce_csrf_checks=True)).status_code == 403


def test_a_wrong_password_says_how_many_tries_are_left():
    person()

    assert errors(fail(1)) == ["User name or password is wrong. 4 tries left."]
    assert errors(fail(3)) == ["User name or password is wrong. 1 try left."]


def test_an_unknown_name_is_answered_like_a_wrong_password():
    person()

    assert errors(fail(2)) == errors(fail(2, name="nobody"))


def test_an_inactive_user_is_answered_like_a_wrong_password():
    person()
    User.objects.update(is_active=False)

    assert errors(sign_in()) == ["User name or password is wrong. 4 tries left."]


def test_after_five_failures_even_the_right_password_waits():
    person()
    fail(5)

    response = sign_in()

    assert response.status_code == 429
    assert errors(response) == ["Too many failed tries. Try again in 15 minutes."]


def test_the_wait_does_not_touch_the_same_name_elsewhere():
    person()
    fail(5)

    assert sign_in(address=THERE).status_code == 302


def test_many_addresses_that_go_for_one_name_are_stopped():
    person()
    for number in range(10):
        fail(5, address=f"198.51.100.{number}")

    assert sign_in(address=THERE).status_code == 429


def test_an_origin_that_is_no_address_is_no_error():
    person()

    assert sign_in(address="unknown").status_code == 302


def test_another_spelling_of_the_name_is_the_same_name():
    person()
    fail(5, name="Viewer ")

    assert sign_in().status_code == 429


def test_success_forgets_the_failures():
    person()
    fail(4)
    sign_in()

    assert errors(fail(1)) == ["User name or password is wrong. 4 tries left."]


def test_success_of_one_does_not_forget_the_failures_of_others_at_the_address():
    person()
    fail(2, name="somebody")
    sign_in()

    assert LoginAttempt.objects.count() == 2


def test_an_empty_password_is_no_try():
    sign_in(password="")

    assert not LoginAttempt.objects.exists()


def test_twenty_failures_close_an_address_whatever_the_names():
    for number in range(20):
        throttle.begin(f"user{number}", HERE, T0)

    assert throttle.begin("another", HERE, T0).wait == throttle.WINDOW
    assert throttle.begin("another", THERE, T0).wait is None


def test_all_addresses_of_one_network_are_one_address_to_it():
    for number in range(throttle.TRIES_PER_ADDRESS):
        throttle.begin(f"user{number}", f"2001:db8:1:2::{number + 1:x}", T0)
        throttle.join_failed(f"2001:db8:1:2::{number + 1:x}", T0)

    assert throttle.begin("another", "2001:db8:1:2:ffff::1", T0).wait == throttle.WINDOW
    assert throttle.join_wait("2001:db8:1:2:ffff::1", T0) == throttle.WINDOW
    for elsewhere in ("2001:db8:1:3::1", "::ffff:192.0.2.1", HERE, None):
        assert throttle.begin("another", elsewhere, T0).wait is None
        assert throttle.join_wait(elsewhere, T0) is None


def test_the_wait_ends_when_the_first_failure_is_fifteen_minutes_old():
    for minute in range(5):
        throttle.begin("ada", HERE, T0 + timedelta(minutes=minute))

    refused = throttle.begin("ada", HERE, T0 + timedelta(minutes=10))
    again = throttle.begin("ada", HERE, T0 + timedelta(minutes=15))

    assert (refused.wait, refused.wait_minutes) == (timedelta(minutes=5), 5)
    assert (again.wait, again.tries_left) == (None, 0)


def test_refused_tries_do_not_lengthen_the_wait():
    for _ in range(5):
        throttle.begin("ada", HERE, T0)
    for minute in range(1, 15):
        throttle.begin("ada", HERE, T0 + timedelta(minutes=minute))

    assert throttle.begin("ada", HERE, T0 + timedelta(minutes=15)).wait is None


def test_old_tries_are_removed():
    throttle.begin("ada", HERE, T0)
    throttle.begin("bob", THERE, T0 + throttle.WINDOW)

    assert [attempt.username for attempt in LoginAttempt.objects.all()] == ["bob"]


def test_the_admin_pages_have_no_sign_in_of_their_own():
    response = Client().get("/admin/login/?next=/admin/auth/")

    assert (response.status_code, response.url) == (302, "/login/?next=/admin/auth/")


def test_the_admin_pages_are_closed_to_those_who_are_not_staff():
    client = Client()
    client.force_login(person(Role.OPERATOR))

    assert client.post("/admin/login/", {"username": "x", "password": "y"}).status_code == 403
