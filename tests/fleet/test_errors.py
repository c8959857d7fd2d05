"""The pages for what went wrong."""

import logging

import pytest
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from fleet.views import errors
from tests.people import signed_in


@pytest.mark.django_db
def test_the_page_of_a_failure_needs_no_database():
    with CaptureQueriesContext(connection) as queries:
        page = errors.failed(RequestFactory().get("/"))
    assert (page.status_code, len(queries)) == (500, 0)


@pytest.mark.django_db
def test_a_path_that_no_page_has_is_named():
    page = signed_in().get("/no/<such>/page")
    assert page.status_code == 404
    assert "There is no page at /no/&lt;such&gt;/page." in page.content.decode()


@pytest.mark.django_db
def test_a_stranger_is_led_to_the_sign_in():
    assert 'href="/login/"' in Client().get("/no/such/page").content.decode()


@pytest.mark.django_db
def test_a_form_out_of_date_says_what_to_do():
    request = RequestFactory().post("/logout/")
    assert "reload the page" in errors.csrf_failure(request, reason="token missing").content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/settings/energy/rates/", "/settings/access/tokens/", "/reference/1/cancel/"])
def test_the_address_of_a_forms_target_is_a_page_when_it_is_opened(path):
    page = signed_in().get(path)

    assert (page.status_code, page.headers["Allow"]) == (405, "POST")
    assert "Open the page on which the form stands" in page.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/reference/99/", "no reference job at"),
        ("/reference/ladders/99/", "no ladder run at"),
        ("/hosts/x/", "no host named x"),
    ],
)
def test_what_is_missing_is_called_by_its_own_word(path, words):
    page = signed_in().get(path)

    assert page.status_code == 404
    assert f"There is {words}" in page.content.decode()


def test_a_request_that_is_refused_is_one_line_of_the_log_and_a_fault_has_its_traceback(caplog):
    def lines(status_code):
        caplog.clear()
        logging.getLogger("django.request").warning(
            "x", exc_info=ValueError("from"), extra={"status_code": status_code}
        )
        [record] = caplog.records
        return logging.Formatter().format(record).splitlines()

    assert lines(400) == ["x"]
    assert lines(500)[-1] == "ValueError: from"
