"""Template tags of the design system: icons, states, times, quantities, sparklines. `{% load ui %}`.

Formats by way of fleet/units.py; knows no app's models.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import zip_longest
from typing import Any, Protocol

from django import template
from django.http import QueryDict
from django.template import Context
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from fleet import units
from fleet.pages import sparkline
from fleet.pages import stylesheet as stylesheets
from fleet.pages.sorting import Sorting

register = template.Library()

_KEPT = 64  # pieces that stand in each row of a long table are made once
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")
_SHAPES = {"silent": "stale"}  # a health whose shape has another name
_HEALTH_WORDS = {"ok": "healthy", "warn": "warning", "crit": "critical", "silent": "silent"}


class Readings(Protocol):
    """What `reading` shows: telemetry's DeviceState."""

    @property
    def values(self) -> Mapping[str, float]: ...
    def why_absent(self, metric: str) -> str: ...


@register.simple_tag
def stylesheet() -> str:
    """The address of the pages' one stylesheet."""
    return reverse("stylesheet", args=[stylesheets.stylesheet().digest])


@register.simple_tag
def icon(name: str, size: str = "") -> SafeString:
    return format_html('<svg class="i {}" aria-hidden="true"><use href="#i-{}"/></svg>', size, name)


@register.simple_tag
@lru_cache(maxsize=_KEPT)
def mark(name: str) -> SafeString:
    """The shape of a state: ok, warn, crit, stale, run, idle; a health's name is understood."""
    return format_html('<svg aria-hidden="true" width="12" height="12"><use href="#s-{}"/></svg>', _shape(name))


@register.simple_tag
def status(name: str, words: str) -> SafeString:
    return format_html('<span class="st {}">{}{}</span>', _shape(name), mark(name), words)


@register.simple_tag
def pill(name: str, words: str) -> SafeString:
    return format_html('<span class="pill {}">{}<span>{}</span></span>', _shape(name), mark(name), words)


@register.simple_tag
@lru_cache(maxsize=_KEPT)
def health(name: str) -> SafeString:
    return status(name, _HEALTH_WORDS[name])


def _shape(name: str) -> str:
    return _SHAPES.get(name, name)


@register.simple_tag
def ago(moment: datetime | None) -> SafeString:
    """The age of a moment, kept up to date by the shell; its UTC time where scripts do not run."""
    return _time(moment, "ago")


@register.simple_tag
def at(moment: datetime | None) -> SafeString:
    """A moment in the viewer's zone, by way of the shell; in UTC where scripts do not run."""
    return _time(moment, "at")


def _time(moment: datetime | None, form: str) -> SafeString:
    if moment is None:
        return format_html('<span class="faint">{}</span>', units.UNKNOWN)
    words = units.utc(moment)
    iso = moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return format_html('<time datetime="{}" data-f="{}" title="{}">{}</time>', iso, form, words, words)


@register.filter
def in_cluster(cluster: str | None) -> str:
    """`No run{{ cluster|in_cluster }}.` → "No run in atlas."; nothing where the page speaks of all."""
    return "" if cluster is None else f" in {cluster}" if cluster else " without a cluster"


@register.filter
def timed(text: str) -> SafeString:
    """`{{ event.text|timed }}`: a sentence, its moments (as units.utc writes them) in the viewer's zone, as `at` shows one."""
    words, moments = _MOMENT.split(text), _MOMENT.findall(text)
    return format_html_join("", "{}{}", zip_longest(words, map(_moment, moments), fillvalue=""))


def _moment(words: str) -> str:
    """What only looks like a moment, in an agent's words, stays as it is."""
    try:
        return _time(datetime.strptime(words, "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC), "second")
    except ValueError:
        return words


@register.filter
def quantity(value: float | None, unit: str) -> SafeString:
    """`{{ x|quantity:"watts" }}` → the number and its unit; "—" for None."""
    return _quantity(value, unit)


@register.filter
def duration(seconds: float | None) -> str:
    return units.duration(seconds)


@register.filter
def signed(value: float | None) -> str:
    return units.signed(value)


@register.filter
def signed_percent(share: float | None) -> SafeString:
    """`{{ -0.022|signed_percent }}` → "−2.2 %"."""
    if share is None:
        return format_html("{}", units.UNKNOWN)
    return format_html('{}<span class="unit">%</span>', units.signed(share * 100))


@register.filter
def count(value: float | None) -> str:
    return units.count(value)


@register.simple_tag
def reading(state: Readings, metric: str, unit: str) -> SafeString:
    """The reading of a device, or "—" with the reason why there is none."""
    if metric in state.values:
        return _quantity(state.values[metric], unit)
    return absent(state.why_absent(metric))


@register.simple_tag
def absent(reason: str) -> SafeString:
    """What stands where a value is unknown."""
    return format_html('<abbr class="faint" title="{}">{}</abbr>', reason, units.UNKNOWN)


def _quantity(value: float | None, unit: str) -> SafeString:
    shown = units.quantity(value, unit)
    return SafeString(shown.number + _unit(shown.unit))  # of numbers nothing is to be escaped


@lru_cache(maxsize=_KEPT)
def _unit(unit: str) -> str:
    return format_html('<span class="unit">{}</span>', unit) if unit else ""


@register.simple_tag
def bar(ratio: float | None, series: str = "s1") -> SafeString:
    """A bar in a table cell, for a share; an empty one where the share is unknown."""
    return _bar(0 if ratio is None else round(min(1.0, max(0.0, ratio)) * 100), series)


@lru_cache(maxsize=1024)
def _bar(percent: int, series: str) -> SafeString:
    return format_html(
        '<svg class="c-{}" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect width="{}" height="6"/></svg>',
        series,
        percent,
    )


@register.filter
def words(text: str) -> list[str]:
    """`{% for name in "host state"|words %}`."""
    return text.split()


@register.filter
def pairs(text: str) -> list[list[str]]:
    """`{% for key, words in "power Power,seen Last sample"|pairs %}`."""
    return [part.split(" ", 1) for part in text.split(",")]


@register.filter
def thousandth(text: str) -> float:
    """`{% widthratio part whole 1000 as n %}{% bar n|thousandth %}`: the share of a whole."""
    return int(text or 0) / 1000


@register.filter(name="of")
def of_key(mapping: Mapping[Any, Any], key: Any) -> Any:
    """`{{ columns|of:host.pk }}` → the value of that key; None where there is none."""
    return mapping.get(key)


@register.simple_tag(takes_context=True)
def heading(context: Context, key: str, words: str, *, num: bool = False, flips: bool = False) -> SafeString:
    """The head of a column by which a table is sorted on the server (fleet/pages/sorting.py); the context holds `sorting`.

    `num` aligns figures right, the greatest of which come first; `flips` begins with the greatest without it.
    """
    now: Sorting = context["sorting"]
    is_now = now.key == key
    asked = Sorting(key, not now.is_descending if is_now else num or flips)
    query: QueryDict = context["request"].GET.copy()
    query["sort"] = asked.text
    query.pop("page", None)
    state = f' aria-sort="{"descending" if now.is_descending else "ascending"}"' if is_now else ""
    return format_html(
        '<th{}{}><a href="?{}">{}</a></th>',
        SafeString(' class="num"' if num else ""),
        SafeString(state),
        query.urlencode(),
        words,
    )


@register.simple_tag(takes_context=True)
def csv(context: Context, of: str, address: str = "", *, table: str = "", window: bool = False) -> SafeString:
    """The link to the file of a table or chart: of the address that answers with it, else of this one's `table`.

    `of` says of what, for screen readers. With `window` the file is of the part of the time that is zoomed to (shell.js).
    """
    path, _, text = (address or context["request"].get_full_path()).partition("?")
    query = QueryDict(text, mutable=True)
    query["format"] = "csv"
    if table:
        query["table"] = table
    query.pop("page", None)
    return format_html(
        '<a class="btn tiny" href="{}?{}" aria-label="CSV: {}"{} download>CSV</a>',
        path,
        query.urlencode(),
        of,
        SafeString(" data-window-link") if window else "",
    )


@register.simple_tag(name="sparkline")
def sparkline_tag(
    values: Sequence[float | None] = (),
    series: str = "s1",
    low: float | None = None,
    high: float | None = None,
    key: str = "",
) -> SafeString:
    """A sparkline; with a `key` its paths are filled, and kept, by the page's chart data (static/js/chart.js)."""
    line, area = sparkline.paths(values, low, high)
    return format_html(
        '<svg class="spark c-{}" viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true"{}>'
        '<path class="a" d="{}"/><path class="l" d="{}"/></svg>',
        series,
        sparkline.WIDTH,
        sparkline.HEIGHT,
        format_html(' data-spark="{}" data-kept', key) if key else "",
        area,
        line,
    )
