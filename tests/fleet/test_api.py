"""What holds for the HTTP API as a whole: one error shape, sign-in, CSRF, unknown parameters."""

import json

import pytest
from django.test import Client

from fleet.models import Role
from telemetry.newest import queries
from tests.people import script, signed_in

pytestmark = pytest.mark.django_db

HOSTS, JOBS = "/api/v1/hosts", "/api/v1/reference/jobs"


def check_error(response, status, code, field=None):
    assert response.headers["Content-Type"] == "application/json"
    answer = response.json()
    assert (response.status_code, answer["error"]["code"]) == (status, code)
    assert answer["error"]["message"]
    assert set(answer) == {"error"}
    assert answer["error"].get("field") == field


def test_the_openapi_description_names_every_path():
    answer = script().get("/api/v1/openapi.json").json()

    assert answer["info"] == {"title": "Stepwatt", "version": "1", "description": answer["info"]["description"]}
    assert "/api/v1/devices/{uuid}/series" in answer["paths"]
    assert "/api/v1/reference/jobs/{job_id}/cancel" in answer["paths"]


def test_there_is_no_page_that_loads_from_elsewhere():
    check_error(script().get("/api/v1/docs"), 404, "not_found")


ENDPOINTS = [
    ("get", "/api/v1/openapi.json"),
    ("get", HOSTS),
    ("get", "/api/v1/hosts/a"),
    ("get", "/api/v1/devices"),
    ("get", "/api/v1/devices/x"),
    ("get", "/api/v1/devices/x/series"),
    ("get", "/api/v1/devices/x/export"),
    ("get", "/api/v1/hosts/a/export"),
    ("get", "/api/v1/energy"),
    ("get", "/api/v1/energy/idle"),
    ("get", "/api/v1/silences"),
    ("post", "/api/v1/silences"),
    ("post", "/api/v1/silences/1/end"),
    ("get", "/api/v1/notification-targets"),
    ("post", "/api/v1/notification-targets"),
    ("delete", "/api/v1/notification-targets/1"),
    ("get", "/api/v1/deliveries"),
    ("get", "/api/v1/events"),
    ("post", "/api/v1/events/1/acknowledge"),
    ("post", "/api/v1/events/1/resolve"),
    ("post", "/api/v1/hosts/a/driver"),
    ("get", "/api/v1/fleet/summary"),
    ("get", "/api/v1/fleet/map"),
    ("get", "/api/v1/fleet/series"),
    ("get", "/api/v1/prometheus/sd"),
    ("get", "/api/v1/runs"),
    ("get", "/api/v1/runs/energy"),
    ("get", "/api/v1/runs/1"),
    ("get", "/api/v1/runs/1/steps"),
    ("get", "/api/v1/runs/1/ranks"),
    ("get", "/api/v1/reference/workloads"),
    ("get", "/api/v1/reference/results"),
    ("get", JOBS),
    ("post", JOBS),
    ("get", f"{JOBS}/1"),
    ("get", f"{JOBS}/1/log"),
    ("get", f"{JOBS}/1/steps"),
    ("post", f"{JOBS}/1/cancel"),
    ("get", f"{JOBS}/1/verdict"),
    ("post", f"{JOBS}/1/confirm"),
    ("get", "/api/v1/reference/verdicts"),
    ("get", "/api/v1/reference/baselines"),
    ("post", "/api/v1/reference/jobs/1/accept"),
    ("get", "/api/v1/reference/ladders"),
    ("get", "/api/v1/reference/ladders/1"),
    ("post", "/api/v1/reference/ladders"),
    ("post", "/api/v1/reference/ladders/1/cancel"),
    ("get", "/api/v1/reference/schedules"),
    ("post", "/api/v1/reference/schedules"),
    ("get", "/api/v1/reference/schedules/1"),
    ("put", "/api/v1/reference/schedules/1"),
    ("post", "/api/v1/reference/schedules/1/pause"),
    ("post", "/api/v1/reference/schedules/1/resume"),
    ("delete", "/api/v1/reference/schedules/1"),
]


OPEN = [("post", "/api/v1/join")]  # an agent that joins has nothing but its token: tests/fleet/test_api_join.py


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_a_stranger_is_answered_401(method, path):
    response = getattr(Client(enforce_csrf_checks=True), method)(path)

    check_error(response, 401, "unauthenticated")


def test_the_list_of_endpoints_above_is_complete():
    paths = script().get("/api/v1/openapi.json").json()["paths"]

    assert sum(len(methods) for methods in paths.values()) == len(ENDPOINTS) - 1 + len(OPEN)


@pytest.mark.parametrize(("method", "path"), [each for each in ENDPOINTS if each[0] == "post"])
@pytest.mark.parametrize("caller", [script, signed_in])
def test_a_viewer_changes_nothing(method, path, caller):
    response = caller(Role.VIEWER).post(path, {}, content_type="application/json")

    check_error(response, 403, "forbidden")


def test_a_browser_needs_a_csrf_token_to_change_something():
    client = signed_in(Role.OPERATOR, enforce_csrf_checks=True)

    check_error(client.post(JOBS, {}, content_type="application/json"), 403, "csrf_failed")


def test_a_browser_with_its_csrf_token_gets_through():
    client = signed_in(Role.OPERATOR, enforce_csrf_checks=True)
    client.cookies["csrftoken"] = "a" * 32

    response = client.post(JOBS, {}, content_type="application/json", headers={"X-CSRFToken": "a" * 32})

    check_error(response, 400, "invalid", "workload")


def test_a_token_needs_no_csrf_token():
    check_error(script(Role.OPERATOR).post(JOBS, {}, content_type="application/json"), 400, "invalid", "workload")


@pytest.mark.parametrize("path", ["", "nothing", "hosts/", "hosts/a/b", "reference/jobs/one", "reference/jobs/-1"])
def test_an_unknown_path_is_an_error_in_json(path):
    check_error(script().get(f"/api/v1/{path}"), 404, "not_found")


def test_an_unknown_path_is_an_error_in_json_for_other_methods_too():
    check_error(script().post("/api/v1/nothing"), 404, "not_found")


def test_a_wrong_method_is_an_error_that_names_the_right_one():
    response = script(Role.ADMIN).delete(HOSTS)

    check_error(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "GET"


@pytest.mark.parametrize("path", [HOSTS, "/api/v1/fleet/summary", "/api/v1/hosts/a", f"{JOBS}/1", JOBS])
def test_an_unknown_parameter_is_an_error(path):
    check_error(script().get(path, {"clutser": "a"}), 400, "unknown_parameter", "clutser")


def test_a_parameter_of_the_wrong_type_is_an_error():
    check_error(script().get(HOSTS, {"limit": "many"}), 400, "invalid", "limit")


def test_a_body_that_is_no_json_is_an_error():
    response = script(Role.OPERATOR).post(JOBS, "{not json", content_type="application/json")

    check_error(response, 400, "invalid", "body")


def test_a_body_that_is_too_large_is_an_error(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10

    response = script(Role.OPERATOR).post(JOBS, {"workload": "gpt-train"}, content_type="application/json")

    check_error(response, 413, "too_large")


def test_a_fault_of_our_own_is_logged_and_answered_without_details(monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise ZeroDivisionError("the secret")

    monkeypatch.setattr(queries, "fleet_state", fail)

    response = script().get(HOSTS)

    check_error(response, 500, "internal_error")
    assert "the secret" not in json.dumps(response.json())
    assert "ZeroDivisionError: the secret" in caplog.text


def test_half_a_character_is_an_error():
    plan = '{"name": "\\ud800", "workload": "gpt-train", "cluster": "atlas", "cron": "0 3 * * *"}'
    response = script(Role.OPERATOR).post("/api/v1/reference/schedules", plan, content_type="application/json")

    check_error(response, 400, "invalid", "body")


@pytest.mark.parametrize("path", ["verdict", "confirm", "accept"])
def test_a_number_that_no_database_has_room_for_is_that_of_nothing(path):
    client, url, body = script(Role.OPERATOR), f"{JOBS}/{'9' * 30}/{path}", {"reason": "repaired"}
    response = client.get(url) if path == "verdict" else client.post(url, body, content_type="application/json")

    check_error(response, 404, "not_found", "job_id")
