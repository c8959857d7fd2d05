"""What is open without signing in: what CONTRACT lists and nothing else, walked over every route that there is."""

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from tests.factories import make_gpu_host

OPEN = {"login/", "healthz", "readyz", "dist/", "dist/<str:name>"} | {"api/v1/"}  # the last says 404 to everyone
OPEN |= {"static/css/stepwatt-<str:digest>.css"}  # as all static files: the sign-in page is dressed, too
EXAMPLES = {
    "digest": "0a1b",
    "ladder_id": "1",
    "launch_id": "ab",
    "schedule_id": "1",
    "run_id": "1",
    "name": "gpu-a01",
    "uuid": "GPU-1",
    "pk": "1",
    "id": "1",
    "number": "1",
    "job_id": "1",
    "object_id": "1",
    "app_label": "auth",
    "content_type_id": "1",
    "url": "x",
}

pytestmark = pytest.mark.django_db


def routes(resolver=None, before=""):
    """Yield every route as a path with example values in its place-holders."""
    for pattern in (resolver or get_resolver()).url_patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, route)
        elif isinstance(pattern, URLPattern):
            yield route


def example(route: str) -> str:
    parts = route.replace("^", "").replace("$", "").split("<")
    return parts[0] + "".join(EXAMPLES[part.split(">")[0].split(":")[-1]] + part.split(">", 1)[1] for part in parts[1:])


def is_closed(response) -> bool:
    to_login = response.status_code == 302 and response.url.startswith(("/login/", "/admin/login/"))
    return to_login or response.status_code in {401, 403, 405}


def test_nothing_else_is_open_to_anonymous():
    make_gpu_host("gpu-a01")
    client = Client()
    paths = {route: f"/{example(route)}" for route in routes() if not route.startswith(("admin/", "^"))}
    assert len(paths) > 30

    opened = {route for route, path in paths.items() if not is_closed(client.get(path))}

    assert opened == OPEN
