"""A NUL in an address or a body, which PostgreSQL could neither look for nor keep."""

import pytest

from fleet.models import Role
from tests.people import script, signed_in

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("address", ["/events/?host=a%00", "/hosts/a%00/", "/devices/a%00/", "/runs/?q=%00", "/?%00=1"])
def test_a_page_says_that_the_address_is_wrong(address):
    response = signed_in(Role.VIEWER).get(address)

    assert response.status_code == 400
    assert "holds a NUL character" in response.content.decode()


@pytest.mark.parametrize(("path", "field"), [("hosts/a%00", None), ("devices/a%00", None), ("runs?q=%00", "q")])
def test_the_api_says_so_in_its_own_shape(path, field):
    response = script(Role.VIEWER).get(f"/api/v1/{path}")

    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid")
    assert response.json()["error"].get("field") == field


def test_metrics_refuse_it_too():
    assert script(Role.VIEWER).get("/metrics?host=a%00").status_code == 400


@pytest.mark.parametrize(
    ("host", "words"), [(r"a\u0000", "the body holds a NUL character"), (r"a\\u0000", "there is no host named")]
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_a_body_that_holds_one_is_refused_and_one_that_only_looks_so_is_read(host, words, content_type):
    body = f'{{"workload": "gpt-train", "hosts": ["{host}"]}}'

    answer = script(Role.OPERATOR).post("/api/v1/reference/jobs", body, content_type=content_type)

    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_a_form_that_holds_one_is_refused():
    answer = signed_in(Role.OPERATOR).post("/reference/?view=launch", {"workload": "gpt-train", "host": "a\0"})

    assert answer.status_code == 400
    assert "host holds a NUL character" in answer.content.decode()
