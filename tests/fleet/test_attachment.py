"""The names of files that are downloaded."""

import pytest

from fleet.web.attachment import attachment


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("llm-7b-12-steps.csv", 'attachment; filename="llm-7b-12-steps.csv"'),
        ('a"; x="\r\nSet-Cookie: y.csv', 'attachment; filename="a___x____Set-Cookie__y.csv"'),
        ("../../etc/passwd", 'attachment; filename=".._.._etc_passwd"'),
        ("größe.csv", "attachment; filename*=utf-8''gr%C3%B6%C3%9Fe.csv"),
    ],
)
def test_no_name_breaks_out_of_its_header(name, header):
    assert attachment(name) == {"Content-Disposition": header}
