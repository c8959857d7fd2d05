"""Who asks the same in the same second gets the same answer, made once."""

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from fleet.web.shared_answer import MadeOnce, forget, shared


class Counting:
    """A view that answers with how often it was asked; `status` is that of its answers."""

    def __init__(self, status: int = 200) -> None:
        self.n, self.status = 0, status

    def __call__(self, _: HttpRequest) -> HttpResponse:
        self.n += 1
        return HttpResponse(str(self.n), status=self.status, content_type="text/plain")


def asked(view, address: str) -> bytes:
    return view(RequestFactory().get(address)).content


def test_an_address_is_answered_once_and_another_one_for_itself():
    view = shared(seconds=60)(Counting())
    assert [asked(view, "/map/"), asked(view, "/map/"), asked(view, "/map/?cluster=a")] == [b"1", b"1", b"2"]


@pytest.mark.parametrize(("seconds", "status"), [(0, 200), (60, 404)])
def test_what_is_over_or_has_failed_is_asked_anew(seconds: float, status: int):
    view = shared(seconds)(Counting(status))
    assert [asked(view, "/map/"), asked(view, "/map/")] == [b"1", b"2"]


def test_nothing_is_kept_after_it_was_forgotten():
    view = shared(seconds=60)(Counting())
    first = asked(view, "/map/")
    forget()
    assert (first, asked(view, "/map/")) == (b"1", b"2")


def test_a_file_keeps_its_name():
    def file(_: HttpRequest) -> HttpResponse:
        return HttpResponse(
            "a", headers={"Content-Type": "text/csv", "Content-Disposition": 'attachment; filename="a.csv"'}
        )

    view = shared(seconds=60)(file)
    view(RequestFactory().get("/a"))

    again = view(RequestFactory().get("/a"))
    assert (again["Content-Type"], again["Content-Disposition"]) == ("text/csv", 'attachment; filename="a.csv"')


def test_what_takes_long_is_made_once_in_its_time_and_anew_when_forgotten():
    made = []
    thing = MadeOnce(60, lambda: made.append(1) or len(made))

    assert [thing(), thing()] == [1, 1]
    forget()
    assert thing() == 2


def test_what_is_too_old_is_made_anew():
    made = []
    thing = MadeOnce(0, lambda: made.append(1) or len(made))

    assert [thing(), thing()] == [1, 2]
