"""Which hosts a form asks for, by hand or by a selection, and how many jobs on each. Called by the pages with such a form."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from django.http import QueryDict

from training.launch import Wanted
from training.selection import NothingSelected, Selection, of_hosts, select

MOST_DEVICES = 64  # of one host
_PER = ("host", "device", "distributed")
_LABEL = re.compile(r"([^\s=,]+)=([^\s,]*)")
_BETWEEN = re.compile(r"[\s,]+")


@dataclass(frozen=True, slots=True)
class Asked:
    """What stands in the form. `errors` by field; what could not be read is left out of `selection`.

    `per` is the word of the form, `selection.per` what it means for the choice of devices; `device` is a UUID, for one host.
    """

    by: Literal["hand", "selection"]
    names: list[str]
    selection: Selection
    per: str = "host"
    labels: str = ""
    n_devices: str = ""
    device: str = ""
    errors: dict[str, str] = field(default_factory=dict)

    def wanted(self) -> list[Wanted]:
        """Return what to launch on. Raises NothingSelected where a selection fits no free host, or something is not readable."""
        if self.errors:
            raise NothingSelected("; ".join(self.errors.values()))
        if self.by == "selection":
            return select(self.selection).wanted
        if self.device and len(self.names) == 1 and self.selection.per == "host":
            return [(self.names[0], self.device)]
        return of_hosts(self.names, self.selection.per, self.selection.n_devices)


def read_asked(data: QueryDict, names: Sequence[str] | None = None) -> Asked:
    """Return what a query string or a POST asks for; without a word which way, a selection where one is given."""
    errors: dict[str, str] = {}
    labels, n_devices, per = (data.get(name, "").strip() for name in ("labels", "n_devices", "per"))
    selection = Selection(
        cluster=data.get("cluster", "").strip(),
        model=data.get("model", "").strip(),
        labels=_labels(labels, errors),
        per="device" if per in {"device", "distributed"} else "host",
        n_devices=_n_devices(n_devices, errors),
    )
    if per and per not in _PER:
        errors["per"] = f"{per!r} is not one of {', '.join(_PER)}"
    by = data.get("by", "hand" if selection.is_empty else "selection")
    if by == "selection" and selection.is_empty and not errors:
        errors["selection"] = "give a cluster, labels or a part of the device model"
    chosen = list(data.getlist("host") if names is None else names)
    return Asked(
        "selection" if by == "selection" else "hand", chosen, selection, per or "host", labels, n_devices,
        data.get("device", ""), errors,
    )  # fmt: skip


def _labels(text: str, errors: dict[str, str]) -> dict[str, str]:
    found = {}
    for part in filter(None, _BETWEEN.split(text)):
        label = _LABEL.fullmatch(part)
        if label is None:
            errors["labels"] = f"{part!r}: expected key=value, several with a comma between them"
            return {}
        found[label[1]] = label[2]
    return found


def _n_devices(text: str, errors: dict[str, str]) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST_DEVICES):
        errors["n_devices"] = f"{text!r} is not between 1 and {MOST_DEVICES}; empty means all"
        return 0
    return int(text)
