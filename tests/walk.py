"""What a browser and a script fetch, and what none of it may hold. For tests that walk over everything at once.

Pages and what they fetch are those whose queries are counted (tests/data/page_queries.json); beside them stands the API.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from django.test import Client

from fleet.models import Device, Host
from fleet.web import shared_answer

_COUNTED = json.loads((Path(__file__).parent / "data" / "page_queries.json").read_text())
# Fragments are parts of their pages; the others hardly show what a fleet told.
_SAME_FOR_ALL = re.compile(
    r"fragment|cluster=|/settings/.|/search/|\?view=|/ladders/|state=resolved|/runs/$|headlines|recent|matrix"
)
PAGES = (
    *(path for path in (*_COUNTED["exactly"], *_COUNTED["at_most"]) if not _SAME_FOR_ALL.search(path)),
    "/?range=30d", "/hosts/{host}/?range=7d", "/devices/{device}/?range=15m", "/devices/{device}/?range=30d",
    "/power/arrays/?range=7d&by=host", "/power/groups/?by=label:rack&range=7d", "/reference/hosts/{host}/", "/hosts/?format=csv",
    "/devices/{device}/arrays/?chart=power&metric=power_draw_watts&format=csv&range=24h",
)  # fmt: skip
_SPAN = "start={start}&end={end}"
_SERIES = f"metric=power_draw_watts&metric=energy_joules_total&metric=clock_event_reasons&{_SPAN}"
API = (
    "hosts", "devices", "fleet/summary", "fleet/map?metric=power_draw_watts", "events", "runs/energy", "prometheus/sd",
    "hosts/{host}", "devices/{device}",
    f"fleet/series?metric=gpu_utilization_ratio&{_SPAN}", f"fleet/series?metric=power_draw_watts&group_by=model&{_SPAN}",
    f"devices/{{device}}/series?{_SERIES}&points=2", f"devices/{{device}}/series?{_SERIES}",
    f"devices/{{device}}/export?{_SERIES}&resolution=15m", f"hosts/{{host}}/export?{_SERIES}&format=parquet",
    *(f"energy?{_SPAN}&group_by={by}&scope={scope}"
      for by, scope in (("host", "node"), ("device", "device"), ("model", "device"), ("day", "node"))),
    f"energy/idle?{_SPAN}&group_by=device",
)  # fmt: skip
FRAGMENT = " fragment"
_MOST = 5
# As figures: the words themselves stand in sentences such as "None recorded."
_NO_FIGURE = re.compile(
    r"(?<![\w-])(?:nan|NaN|None(?! (?:recorded|has run|yet)\b)|inf|Infinity|undefined|not finite)(?![\w-])|NaN"
    r"|\N{MINUS SIGN}0(?:\.0+)?(?![.\d])"
)
_ATTRIBUTE = re.compile(r'\s(?:data-v|aria-label|title|d|width|height|x|y|x1|x2|y1|y2|points)="([^"]*)"')
_FIGURE = re.compile(r'<script id="[^"]*" type="application/json">(.*?)</script>', re.DOTALL)


def paths(now_ms: int) -> Iterator[str]:
    """Yield what can be asked of the fleet that stands in the database; of its hosts and devices the first ones."""
    hosts = [{"host": quote(host.name)} for host in Host.objects.all()[:_MOST]]
    devices = [
        {"host": quote(d.host.name), "device": quote(d.uuid)} for d in Device.objects.select_related("host")[:_MOST]
    ]
    span = {"start": now_ms - 6 * 86_400_000, "end": now_ms}
    for path in (*PAGES, *(f"/api/v1/{each}" for each in API)):
        whose: list[dict[str, str]] = devices if "{device}" in path else hosts if "{host}" in path else [{}]
        yield from (path.format(**each, **span) for each in whose)


def flaws(client: Client, path: str) -> list[str]:
    """Fetch it and return what is wrong with the answer; a client that raises tells more of what fails."""
    shared_answer.forget()
    headers = {"HX-Request": "true"} if path.endswith(FRAGMENT) else {}
    answer = client.get(path.removesuffix(FRAGMENT), headers=headers)
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    if answer.status_code != 200:
        return [f"{path}: {answer.status_code} {content[:300]!r}"]
    kind, read = answer.headers["Content-Type"].partition(";")[0], _OF_KIND
    return [f"{path}: {flaw}" for flaw in read[kind](content.decode())] if kind in read else []


def _of_page(body: str) -> Iterator[str]:
    for figure in _FIGURE.findall(body):
        yield from _of_json(figure)
    shown = re.sub(r"<script.*?</script>", " ", body, flags=re.DOTALL)
    for told in (re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", shown)), *_ATTRIBUTE.findall(shown)):
        yield from _of_words(told)


def _of_words(told: str) -> Iterator[str]:
    for found in _NO_FIGURE.finditer(told):
        yield f"{found[0]!r} in {told[max(found.start() - 60, 0) : found.end() + 20]!r}"


def _of_json(body: str) -> Iterator[str]:
    try:
        json.loads(body, parse_constant=_refused)
    except ValueError as error:
        yield f"no JSON: {error}"


def _refused(constant: str) -> None:
    raise ValueError(constant)


_OF_KIND = {"text/html": _of_page, "application/json": _of_json, "text/csv": _of_words}
