"""Published figures beside what a reference job measured."""

import csv
from pathlib import Path

import pytest

from fleet.models import Device
from tests.training.judging.judged import board, judged
from tests.training.pages import text
from training.jobs import published
from training.utilisation import hardware
from training.utilisation.mfu import RunDevice
from training.workloads.catalog import WORKLOADS

A100 = RunDevice("GPU-1", "NVIDIA A100-SXM4-80GB")
GPT = {
    "model": "GPT 124M", "precision": "bf16", "tokens_per_second": 109_226.7, "achieved_flops_per_second": 156e12,
    "step_seconds_median": 0.1,
}  # fmt: skip


def by_what(workload, result, device=A100):
    return {each.what: each for each in published.beside(workload, result, device)[0]}


def test_a_published_throughput_stands_beside_the_same_model_on_the_same_device():
    found = by_what("gpt-train", GPT)["GPT-2 124M in llm.c, per GPU of 8, 524,288 tokens a step"]

    assert found.share == pytest.approx(0.5, rel=1e-3)
    assert "run_gpt2_124M.sh" in found.source


@pytest.mark.parametrize("changes", [{"model": "GPT 14M"}, {"precision": "fp32"}])
def test_another_model_or_precision_has_none(changes):
    assert not any("llm.c" in what for what in by_what("gpt-train", GPT | changes))


def test_model_flops_stand_beside_the_dense_peak_of_their_precision():
    found = by_what("gpt-train", GPT)["model FLOPs beside the dense peak at bf16 (MFU)"]

    assert (found.value, found.share) == (312e12, 0.5)


def test_of_a_sweep_the_fastest_product_of_each_dtype_counts():
    rates = {"fp32 4096 × 4096 × 4096": 15e12, "fp32 16 × 8 × 8": 1e12, "bf16 8192 × 8192 × 8192": 280e12}

    found = by_what("gemm-sweep", {"gemm_flops_per_second": rates})

    assert found["fastest product at fp32 beside the dense peak"].measured == 15e12
    assert found["fastest product at bf16 beside the dense peak"].share == pytest.approx(280 / 312)


def test_of_the_memory_the_triad_counts():
    found = by_what("memory-bandwidth", {"loop_bytes_per_second": {"copy": 1.9e12, "triad": 1.7e12}})

    assert found["triad beside the memory's bandwidth"].share == pytest.approx(1.7e12 / 2.039e12, rel=0.01)


@pytest.mark.parametrize(
    ("workload", "device", "words"),
    [
        ("gpt-train", RunDevice("x", "A board"), "not in the hardware catalogue"),
        ("gpt-train", RunDevice("x", "NVIDIA A100-SXM4-80GB", None, "1g.10gb"), "is a part of"),
        ("allreduce", A100, "nothing is published of A100 SXM4 80GB for allreduce"),
    ],
)
def test_where_nothing_is_published_the_reason_is_told(workload, device, words):
    found, why_not = published.beside(workload, {}, device)

    assert found == []
    assert words in why_not


def test_each_row_names_a_workload_a_device_of_the_catalogue_and_its_source():
    with (Path(published.__file__).parent / "published.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    assert rows
    for row in rows:
        assert row["workload"] in WORKLOADS
        assert row["device"] in hardware.catalogue()
        assert float(row["value"]) > 0
        assert row["source"]


@pytest.mark.django_db
def test_they_stand_on_the_page_and_in_no_baseline(viewer):
    host = board("a")
    Device.objects.filter(host=host).update(model="NVIDIA A100-SXM4-80GB")
    verdict = judged(host, result=GPT)

    page = text(viewer.get(f"/reference/{verdict.job_id}/verdict/"))

    assert "Published, beside and never a baseline" in page
    assert "GPT-2 124M in llm.c" in page
    assert {row["n"] for row in verdict.screens} == {0}
