"""Hosts are looked for by a part of their name, cluster, labels or device's model, on either database."""

from datetime import UTC, datetime

import pytest

from fleet.models import Host
from tests.factories import make_gpu_host
from training.jobs import picker
from training.jobs.selection import Selection
from training.workloads.catalog import find


@pytest.mark.parametrize("words", ["a01", "ATLAS", "team", "visi", "h100 atlas", "team=visi"])
def test_a_part_of_a_word_is_enough(each_database, monkeypatch, words):
    monkeypatch.setattr(picker, "LISTED", 1)
    make_gpu_host("gpu-a01", 1, cluster="atlas", labels={"team": "vision"})
    Host.objects.create(name="other")

    found = picker.offer(find("gpt-train"), Selection(), set(), {}, datetime.now(UTC), words=words)

    assert ([row.host.name for row in found.rows], found.n_hosts, found.n_more) == (["gpu-a01"], 2, 0)
