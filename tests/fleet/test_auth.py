"""Roles, bearer tokens and the first admin."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone

from fleet.access import auth
from fleet.models import ApiToken, Role
from tests.people import person, script

pytestmark = pytest.mark.django_db

HOSTS = "/api/v1/hosts"


def request_of(user):
    request = RequestFactory().get("/somewhere/", REMOTE_ADDR="192.0.2.7")
    request.user = user
    return request


def test_a_user_in_no_group_is_a_viewer():
    request = request_of(User.objects.create_user("ada"))

    assert auth.role_of(request) is Role.VIEWER


def test_a_role_includes_the_ones_before_it():
    request = request_of(person(Role.OPERATOR))

    assert [auth.has_role(request, role) for role in Role] == [True, True, False]


def test_the_highest_of_several_groups_counts():
    user = person(Role.OPERATOR)
    user.groups.add(Group.objects.get_or_create(name="admin")[0])

    assert auth.role_of(request_of(user)) is Role.ADMIN


def test_a_superuser_is_an_admin_without_any_group():
    assert auth.role_of(request_of(User.objects.create_superuser("root"))) is Role.ADMIN


def test_nobody_has_no_role():
    request = request_of(AnonymousUser())

    assert auth.role_of(request) is None
    assert not auth.has_role(request, Role.VIEWER)


def test_the_role_of_a_user_costs_one_query_a_request(django_assert_num_queries):
    request = request_of(person(Role.OPERATOR))

    with django_assert_num_queries(1):
        auth.has_role(request, Role.VIEWER)
        auth.has_role(request, Role.ADMIN)


@pytest.fixture
def guarded():
    return auth.require_role(Role.OPERATOR)(lambda request: HttpResponse("in"))


def test_a_guarded_page_lets_the_role_in(guarded):
    assert guarded(request_of(person(Role.ADMIN))).content == b"in"


def test_a_guarded_page_sends_strangers_to_sign_in_and_back(guarded):
    response = guarded(request_of(AnonymousUser()))

    assert (response.status_code, response.url) == (302, "/login/?next=/somewhere/")


def test_a_guarded_page_forbids_a_lesser_role(guarded):
    with pytest.raises(PermissionDenied):
        guarded(request_of(person(Role.VIEWER)))


def test_a_programs_view_answers_a_stranger_with_401_and_no_redirect():
    guarded = auth.require_role_of_machine(Role.VIEWER)(lambda request: HttpResponse("in"))

    response = guarded(request_of(AnonymousUser()))

    assert (response.status_code, response["WWW-Authenticate"]) == (401, 'Bearer realm="stepwatt"')
    assert guarded.login_required is False


def test_the_actor_is_the_user_with_the_address():
    assert auth.actor_of(request_of(person(Role.OPERATOR))) == auth.Actor("operator", "192.0.2.7")


def test_only_the_digest_of_a_token_is_stored():
    raw = auth.create_token("grafana", Role.VIEWER)

    stored = ApiToken.objects.values().get()
    assert raw.startswith("swt_")
    assert raw not in str(stored)
    assert len(stored["digest"]) == 64


def test_a_token_name_is_used_once():
    auth.create_token("grafana", Role.VIEWER)

    with pytest.raises(auth.TokenRefused, match="already exists"):
        auth.create_token("grafana", Role.ADMIN)


def test_a_token_opens_the_api():
    assert script().get(HOSTS).status_code == 200


def test_a_token_does_not_open_the_pages():
    response = script(Role.ADMIN).get("/admin/")

    assert response.status_code == 302


@pytest.mark.parametrize("header", ["Bearer swt_wrong", "Bearer ", "bearer x y"])
def test_a_wrong_token_is_refused_at_once(header):
    response = Client(headers={"Authorization": header}).get("/healthz")

    assert response.status_code == 401
    assert response.json()["error"]["code"] == "unauthenticated"


def test_a_revoked_token_is_refused():
    client = script()
    ApiToken.objects.update(revoked_at=timezone.now())

    assert client.get(HOSTS).status_code == 401


def test_a_wrong_token_is_refused_even_from_a_signed_in_browser():
    client = Client(headers={"Authorization": "Bearer swt_wrong"})
    client.force_login(person(Role.ADMIN))

    assert client.get(HOSTS).status_code == 401


def test_the_use_of_a_token_is_noted_once_a_minute(django_assert_num_queries):
    client = script()
    client.get(HOSTS)
    first = ApiToken.objects.get().last_used_at
    client.get(HOSTS)
    assert ApiToken.objects.get().last_used_at == first

    ApiToken.objects.update(last_used_at=first - timedelta(minutes=2))
    client.get(HOSTS)

    assert ApiToken.objects.get().last_used_at >= first


def test_the_first_admin_gets_a_password_that_opens_the_door():
    password = auth.create_first_admin()

    assert Client().login(username="admin", password=password)
    assert User.objects.get().is_superuser


def test_there_is_no_second_first_admin():
    User.objects.create_superuser("root")

    assert auth.create_first_admin() is None
    assert User.objects.count() == 1


def test_a_user_named_admin_who_is_none_is_an_error_and_not_silence():
    User.objects.create_user("admin")

    with pytest.raises(IntegrityError):
        auth.create_first_admin()
