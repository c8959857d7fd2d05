"""People and tokens for tests."""

from django.contrib.auth.models import Group, User
from django.test import Client

from fleet.access.auth import create_token
from fleet.models import Role

PASSWORD = "correct horse battery"


def person(role: Role = Role.VIEWER, name: str = "") -> User:
    """Return a user in the group of the role."""
    user = User.objects.create_user(name or role.value, password=PASSWORD)
    user.groups.add(Group.objects.get_or_create(name=role.value)[0])
    return user


def signed_in(role: Role = Role.VIEWER, **options: object) -> Client:
    """Return a browser in which somebody of the role is signed in."""
    client = Client(**options)
    client.force_login(person(role))
    return client


def script(role: Role = Role.VIEWER) -> Client:
    """Return a program with a token of the role; it is held to CSRF like any stranger."""
    return Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {create_token(f'script-{role}', role)}"})
