"""The one stylesheet holds every component's rules, and browsers may keep it for ever."""

import re

import pytest
from django.conf import settings
from django.test import Client
from rcssmin import cssmin

from fleet.pages import stylesheet

pytestmark = pytest.mark.django_db


def test_every_components_file_is_in_it():
    there = {file.stem for file in (settings.BASE_DIR / "static" / "css").glob("*.css")}
    assert set(stylesheet.FILES) == there
    assert len(stylesheet.FILES) == len(there)


def test_a_stranger_gets_it_by_the_address_that_the_sign_in_page_names_and_no_other_version():
    (address,) = re.findall(r'href="(/static/css/stepwatt-[0-9a-f]+\.css)"', Client().get("/login/").content.decode())
    answer = Client().get(address)
    assert answer.headers["Content-Type"] == "text/css; charset=utf-8"
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.content.decode().startswith(cssmin((settings.BASE_DIR / "static/css/tokens.css").read_text()))
    assert Client().get("/static/css/stepwatt-000000000000.css").status_code == 404
