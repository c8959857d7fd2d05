"""Search over hosts, devices, runs and jobs: a page, and the list that drops down from the search field."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from fleet.inventory import clusters
from training import search as found

_QUICK, _ON_THE_PAGE = 5, 50


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    text = request.GET.get("q", "").strip()
    is_quick = request.htmx  # type: ignore[attr-defined]  # set by django-htmx's middleware
    cluster = clusters.of_query(request.GET)
    context = {
        "q": text,
        "sections": found.search(text, _QUICK if is_quick else _ON_THE_PAGE, cluster),
        "is_quick": is_quick,
        "cluster": cluster,
    }
    if is_quick:
        return render(request, "training/_found.html", context)
    return render(request, "training/search.html", context | {"clusters": clusters.every()})
