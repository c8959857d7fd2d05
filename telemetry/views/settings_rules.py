"""The health rules with their thresholds: everybody sees them, admins change them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from fleet.access.auth import actor_of, has_role, require_role
from fleet.models import Host, Role
from fleet.web.csv_answer import csv_answer
from telemetry.health import rules, thresholds
from telemetry.health.rule import Rule, Threshold
from telemetry.health.thresholds import ThresholdInvalid
from telemetry.models import RuleThreshold

_MOST_CLUSTERS = 20


@dataclass(frozen=True, slots=True)
class Field:
    """A threshold of a rule, or of one cluster alone; `value` is what somebody has set, `own` the rule's, in base units."""

    name: str
    words: str
    threshold: Threshold
    value: float | None

    @property
    def own(self) -> float | None:
        return None if ":" in self.name else self.threshold.value

    @property
    def shown(self) -> str:
        """Return the number for an input field."""
        value = self.own if self.value is None else self.value
        return "" if value is None else f"{value:.15g}"


@dataclass(frozen=True, slots=True)
class Row:
    rule: Rule
    fields: list[Field]
    is_on: bool

    @property
    def is_changed(self) -> bool:
        return any(field.value is not None for field in self.fields)


@require_safe
def rules_page(request: HttpRequest) -> HttpResponse:
    chosen = request.GET.get("rule", "")
    if request.GET.get("format") == "csv":
        return _as_csv(_rows())
    is_admin = has_role(request, Role.ADMIN)
    context = {"rows": _rows(), "chosen": chosen, "may_change": is_admin}
    return render(request, "telemetry/settings_rules.html", context)


@require_POST
@require_role(Role.ADMIN)
def change(request: HttpRequest, name: str) -> HttpResponse:
    """Set the thresholds of a rule; an empty field, or the rule's own value, lets the rule's own hold again."""
    rule = rules.by_name().get(name)
    if rule is None:
        raise Http404(f"There is no rule named {name}.")
    try:
        is_changed = thresholds.change(name, _sent(rule, request.POST), actor_of(request))
    except ThresholdInvalid as error:
        messages.error(request, f"Nothing was changed: {error}.")
    else:
        messages.success(
            request,
            f"{rule.words}: the rule looks with the new thresholds from its next pass on."
            if is_changed
            else f"{rule.words}: nothing was changed.",
        )
    return redirect(f"{reverse('settings-rules')}?rule={name}#rule-{name}")


def _as_csv(rows: list[Row]) -> HttpResponse:
    columns = ("rule", "words", "severity", "is_on", "threshold", "unit", "value", "own_value", "low", "high")
    return csv_answer("health-rules", columns, (
        (row.rule.name, row.rule.words, row.rule.severity.value, row.is_on, field.name, field.threshold.unit,
         field.own if field.value is None else field.value, field.own, field.threshold.low, field.threshold.high)
        for row in rows for field in row.fields
    ))  # fmt: skip


def _sent(rule: Rule, post: QueryDict) -> dict[str, float | None]:
    """Return what was sent for the rule's thresholds. Raises ThresholdInvalid where one is no number."""
    found: dict[str, float | None] = {}
    for name, text in post.items():
        threshold = rule.thresholds.get(name.partition(":")[0])
        if threshold is None:
            continue
        text = str(text).strip()  # noqa: PLW2901 — the same text, without its blanks
        try:
            value = float(text) if text else None
        except ValueError:
            raise ThresholdInvalid(f"{threshold.words}: {text!r} is no number") from None
        found[name] = None if value == threshold.value and ":" not in name else value
    return found


def _rows() -> list[Row]:
    changed: dict[str, dict[str, float]] = {}
    for rule, name, value in RuleThreshold.objects.values_list("rule", "name", "value"):
        changed.setdefault(rule, {})[name] = value
    on = thresholds.in_force()
    clusters = list(Host.objects.exclude(cluster="").order_by("cluster").values_list("cluster", flat=True).distinct())
    every = sorted(rules.by_name().values(), key=lambda rule: rule.words)
    return [
        Row(rule, list(_fields(rule, changed.get(rule.name, {}), clusters[:_MOST_CLUSTERS])), rule.name in on)
        for rule in every
    ]


def _fields(rule: Rule, changed: Mapping[str, float], clusters: list[str]) -> Iterator[Field]:
    for name, threshold in rule.thresholds.items():
        yield Field(name, threshold.words, threshold, changed.get(name))
        for cluster in clusters if threshold.by_cluster else ():
            key = f"{name}:{cluster}"
            yield Field(key, f"{threshold.words}, {cluster} alone", threshold, changed.get(key))
