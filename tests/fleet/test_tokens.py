"""`manage.py create_token`."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from fleet.models import ApiToken, AuditEntry

pytestmark = pytest.mark.django_db


def create(*arguments):
    out = StringIO()
    call_command("create_token", *arguments, stdout=out)
    return out.getvalue()


def test_it_prints_the_token_alone_and_the_token_works():
    token = create("ci", "--role", "viewer").removesuffix("\n")

    assert token.split() == [token]
    assert Client(headers={"Authorization": f"Bearer {token}"}).get("/api/v1/hosts").status_code == 200


def test_it_is_in_the_audit_log_without_the_token():
    token = create("ci", "--role", "operator").strip()

    entry = AuditEntry.objects.get()
    assert (entry.action, entry.subject, entry.detail) == ("token.create", "ci", {"role": "operator"})
    assert entry.actor.startswith("command:")
    assert token not in str(vars(entry))


def test_a_name_in_use_is_refused_and_changes_nothing():
    create("ci", "--role", "viewer")

    with pytest.raises(CommandError, match=r"no token made: .* already exists"):
        create("ci", "--role", "admin")
    assert ApiToken.objects.get().role == "viewer"


def test_an_empty_name_is_refused():
    with pytest.raises(CommandError, match="no token made"):
        create("", "--role", "viewer")


@pytest.mark.parametrize("arguments", [("ci", "--role", "root"), ("ci",)])
def test_a_role_that_is_none_is_refused(arguments):
    with pytest.raises(CommandError, match="--role"):
        create(*arguments)
