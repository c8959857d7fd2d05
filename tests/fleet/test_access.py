"""Who may get in: tokens and sessions are seen and revoked on the access page."""

import re

import pytest
from django.test import Client

from fleet.models import ApiToken, AuditEntry, Role
from tests.people import PASSWORD, person, script, signed_in

pytestmark = pytest.mark.django_db
PATH = "/settings/access/"


def by_form(user, **headers: str) -> Client:
    """Sign in as a browser does."""
    client = Client(headers=headers)
    client.post("/login/", {"username": user.username, "password": PASSWORD})
    return client


def shown(client: Client) -> str:
    return client.get(PATH).content.decode()


def test_a_token_is_made_once_seen_and_works_until_it_is_revoked():
    admin = signed_in(Role.ADMIN)
    page = admin.post(f"{PATH}tokens/", {"name": "laptop", "role": "viewer"}).content.decode()
    raw = re.search(r"swt_[\w-]+", page)[0]
    program = Client(headers={"Authorization": f"Bearer {raw}"})

    assert program.get("/api/v1/hosts").status_code == 200
    assert raw not in shown(admin)
    admin.post(f"{PATH}tokens/{ApiToken.objects.get().pk}/revoke/")
    assert program.get("/api/v1/hosts").status_code == 401
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {"token.create", "token.revoke"}


@pytest.mark.parametrize("sent", [{"name": "", "role": "viewer"}, {"name": "x", "role": "king"}])
def test_a_token_that_cannot_be_is_refused_in_words(sent):
    answer = signed_in(Role.ADMIN).post(f"{PATH}tokens/", sent)

    assert (answer.status_code, 'role="alert"' in answer.content.decode()) == (400, True)
    assert not ApiToken.objects.exists()


def test_only_admins_see_and_change_tokens():
    script()
    operator = signed_in(Role.OPERATOR)

    assert "script-viewer" not in shown(operator)
    assert operator.post(f"{PATH}tokens/", {"name": "x", "role": "admin"}).status_code == 403
    assert operator.post(f"{PATH}tokens/{ApiToken.objects.get().pk}/revoke/").status_code == 403


def test_sessions_are_told_by_when_where_and_browser_and_never_by_their_key():
    user = person(Role.VIEWER, "ada")
    client = by_form(user, user_agent="Firefox on a train")
    page = shown(client)

    assert "Firefox on a train" in page
    assert "127.0.0.1" in page
    assert "this browser" in page
    assert client.cookies["sessionid"].value not in page


def test_one_signs_out_ones_own_other_browser_and_nobody_elses():
    ada, bob = person(Role.VIEWER, "ada"), person(Role.VIEWER, "bob")
    here, there, his = by_form(ada), by_form(ada, user_agent="Lost laptop"), by_form(bob, user_agent="Bob's")
    page = shown(here)
    other = re.search(r"Lost laptop.*?sessions/(\w+)/end/", page, re.DOTALL)[1]
    bobs = re.search(r"sessions/(\w+)/end/", shown(his))[1]

    assert "Bob&#x27;s" not in page
    assert here.post(f"{PATH}sessions/{bobs}/end/").status_code == 404
    here.post(f"{PATH}sessions/{other}/end/")
    assert there.get("/settings/").status_code == 302
    assert his.get("/settings/").status_code == here.get("/settings/").status_code == 200


def test_an_admin_signs_anybody_out():
    his, admin = by_form(person(Role.VIEWER, "bob"), user_agent="Bob's"), signed_in(Role.ADMIN)
    digest = re.search(r"Bob&#x27;s.*?sessions/(\w+)/end/", shown(admin), re.DOTALL)[1]
    admin.post(f"{PATH}sessions/{digest}/end/")

    assert his.get("/settings/").status_code == 302
    assert AuditEntry.objects.get(action="session.end").subject == "bob"


def test_a_stranger_sees_nothing():
    assert Client().get(PATH).status_code == 302
