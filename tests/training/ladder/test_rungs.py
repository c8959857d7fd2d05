"""Which rungs a ladder has, and in what order its processes run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.ladder.rungs import NoLadder, blocks, rungs, without_precision
from training.workloads.catalog import WORKLOADS, validate


@pytest.mark.parametrize(
    ("workload", "fourth"),
    [("resnet-train", "channels-last"), ("gpt-train", "fused kernels"), ("vit-train", "fused kernels")],
)
def test_the_rungs_are_those_of_what_the_model_is_made_of(workload, fourth):
    assert [rung.name for rung in rungs(WORKLOADS[workload])] == ["fp32 eager", "TF32", "bf16", fourth, "compile"]


@pytest.mark.parametrize("workload", ["resnet-train", "gpt-train", "vit-train"])
def test_every_rung_is_something_that_the_workload_takes(workload):
    for rung in rungs(WORKLOADS[workload]):
        validate(workload, rung.params)


def test_a_workload_without_techniques_has_no_ladder():
    with pytest.raises(NoLadder, match="neither a layout nor kernels"):
        rungs(WORKLOADS["gpt-lora"])


def test_without_bf16_the_rungs_above_are_climbed_in_fp32():
    found = without_precision(rungs(WORKLOADS["gpt-train"]), "bf16")

    assert [rung.params["precision"] for rung in found] == ["fp32", "tf32", "bf16", "fp32", "fp32"]


@given(n_rungs=st.integers(1, 6), n_blocks=st.integers(1, 10), seed=st.integers(0, 2**31))
def test_each_block_has_each_rung_once(n_rungs, n_blocks, seed):
    found = blocks(n_rungs, n_blocks, seed)

    assert len(found) == n_blocks
    assert all(sorted(block) == list(range(n_rungs)) for block in found)


def test_the_order_is_not_the_same_in_all_blocks():
    assert len({tuple(block) for block in blocks(5, 10, seed=3)}) > 1
