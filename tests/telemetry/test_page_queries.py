"""How many queries each page costs: a fixed number, which tests/data/page_queries.json holds, whatever the size of the fleet.

A page that comes to cost more or fewer says so here; who wants it so writes the new number into the file. What reads rollups
takes one query more or fewer as the clock stands between their borders: of that the file holds the most.
"""

import json
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fleet.web import shared_answer
from tests.factories import make_gpu_host
from tests.people import signed_in

pytestmark = pytest.mark.django_db
BASELINE: dict[str, dict[str, int]] = json.loads((Path(__file__).parents[1] / "data" / "page_queries.json").read_text())
EXACTLY, AT_MOST = BASELINE["exactly"], BASELINE["at_most"]
FRAGMENT = {"HX-Request": "true"}


def queries_of(viewer, page: str, host) -> int:
    """Return what a page costs one who has looked at it before; "… fragment" is what its live part costs."""
    path = page.removesuffix(" fragment").format(host=host.name, device=host.devices.first().uuid)
    headers = FRAGMENT if page.endswith(" fragment") else {}
    viewer.get(path, headers=headers)
    shared_answer.forget()
    with CaptureQueriesContext(connection) as asked:
        answer = viewer.get(path, headers=headers)
    assert answer.status_code == 200, path
    return len(asked)


def test_every_page_costs_what_the_baseline_says_and_no_more_with_a_greater_fleet():
    viewer, host = signed_in(), make_gpu_host("gpu-a01", 8, cluster="atlas")
    for_one = {page: queries_of(viewer, page, host) for page in EXACTLY}
    for number in range(2, 8):
        make_gpu_host(f"gpu-a{number:02}", 8, cluster="atlas" if number % 2 else "borealis")
    for_seven = {page: queries_of(viewer, page, host) for page in EXACTLY}

    assert for_one == EXACTLY
    assert for_seven == EXACTLY
    beyond = {page: n for page, most in AT_MOST.items() if (n := queries_of(viewer, page, host)) > most}
    assert beyond == {}
