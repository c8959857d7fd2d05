"""What is sent to browsers is compressed where they understand it: pages, data, static files; nothing twice, nothing in vain."""

import gzip
import time
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.test import Client, RequestFactory

from fleet.web.compression import takes_gzip
from tests.people import signed_in

pytestmark = pytest.mark.django_db
GZIP = {"Accept-Encoding": "gzip, deflate, br"}
SCRIPT = "/static/vendor/htmx-2.0.11.min.js"


def body(answer) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def test_a_page_is_compressed_and_says_so():
    plain, packed = Client().get("/login/"), Client().get("/login/", headers=GZIP)
    assert (packed.headers["Content-Encoding"], packed.headers["Content-Length"]) == ("gzip", str(len(packed.content)))
    assert "Content-Encoding" not in plain.headers
    assert {"Accept-Encoding"} <= set(plain.headers["Vary"].split(", "))
    assert gzip.decompress(packed.content)[:15] == plain.content[:15] == b"<!doctype html>"


def test_a_static_file_is_the_same_when_unpacked_and_its_etag_weak():
    whole = Path(finders.find("vendor/htmx-2.0.11.min.js")).read_bytes()
    for _ in range(2):
        packed = Client().get(SCRIPT, headers=GZIP)
        assert gzip.decompress(body(packed)) == whole
        assert len(body(packed)) < len(whole) / 2
    assert body(Client().get(SCRIPT)) == whole


def test_the_pages_own_scripts_lose_their_comments_where_they_are_compressed():
    whole = body(Client().get("/static/js/turns.js"))
    packed = gzip.decompress(body(Client().get("/static/js/turns.js", headers=GZIP)))
    assert (b"/*" in whole, b"/*" in packed) == (True, False)
    assert b"export function takeTurns(seconds,ask){" in packed


def test_what_is_compressed_already_or_tiny_stays_as_it_is():
    assert "Content-Encoding" not in Client().get("/static/fonts/inter-latin-400-650.woff2", headers=GZIP).headers
    assert "Content-Encoding" not in Client().get("/healthz", headers=GZIP).headers


def test_who_has_the_answer_hears_so_by_the_weak_etag_too():
    viewer = signed_in()
    first = viewer.get("/reference/standing/", headers=GZIP)
    assert (
        viewer.get("/reference/standing/", headers={**GZIP, "If-None-Match": f"W/{first.headers['ETag']}"}).status_code
        == 304
    )


@pytest.mark.parametrize(
    ("accept", "takes"),
    [
        ("gzip", True), ("br, GZIP;q=0.5", True), ("*", True), ("deflate;q=1.0, *;q=0.1", True), ("gzip;q=1.000", True),
        ("", False), ("br", False), ("x-gzip", False), ("gzip;q=0", False), ("gzip ; q = 0.0, *", False), ("*;q=0", False),
        ("gzip;q=x", False), ("gzip;", True),
    ],
)  # fmt: skip
def test_what_is_taken_is_read_as_http_says(accept, takes):
    assert takes_gzip(RequestFactory().get("/", headers={"Accept-Encoding": accept})) is takes


def test_a_long_header_is_read_in_one_pass():
    """Read anew from each of its letters, as a pattern that is looked for would be, it took a minute of the server's time."""
    asked = RequestFactory().get("/", headers={"Accept-Encoding": "a" * 60_000 + " b"})
    begun = time.process_time()

    assert not takes_gzip(asked)
    assert time.process_time() - begun < 1
