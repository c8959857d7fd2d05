"""MFU and FLOPs against published tables; each row's source is in tests/data/README.md."""

import csv
from pathlib import Path

import numpy as np
import pytest

from training.utilisation import ofu
from training.utilisation.decoder_flops import ShapeIncomplete, flops_per_token
from training.utilisation.flops import Flops
from training.utilisation.mfu import RunDevice, denominator, mfu
from training.utilisation.ofu import PipeSeries

DATA = Path(__file__).parent.parent / "data"
H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"
LLAMA_3_8B = {
    "parameters": 8_030_261_248, "embedding_parameters": 128_256 * 4096, "layers": 32, "width": 4096, "heads": 32,
    "sequence": 8192,
}  # fmt: skip


def rows(name):
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


def devices(model, n=8):
    return [RunDevice(f"GPU-{model}-{number}", model) for number in range(n)]


@pytest.mark.parametrize(
    "row", rows("published_mfu.csv"), ids=lambda row: f"{row['model']} {row['tokens_per_second_per_gpu']}"
)
def test_the_mfu_is_the_published_one(row):
    shape = {name: int(row[name]) for name in ("parameters", "layers", "width", "heads", "sequence")}
    n = int(row["gpus"])
    found = mfu(
        flops_per_token(shape | {"formula": row["formula"]}), float(row["tokens_per_second_per_gpu"]) * n,
        devices(row["gpu"], n), row["dtype"],
    )  # fmt: skip
    # The notebook's own percentage counts products one by one: 0.57 % less than the formula that it then compares.
    published = float(row["mfu_percent"]) * (1.0057 if row["formula"] == "nanogpt" else 1)
    assert 100 * found.ratio == pytest.approx(published, abs=0.06)


def test_torchtitans_formula_leaves_out_the_embedding_unless_it_is_tied():
    untied = flops_per_token(LLAMA_3_8B).count
    tied = flops_per_token(LLAMA_3_8B | {"is_tied": True}).count
    attention = 12 * 32 * 4096 * 8192
    assert untied == 6 * (8_030_261_248 - 128_256 * 4096) + attention
    assert tied == 6 * 8_030_261_248 + attention


def test_torchtitan_counts_keys_and_values_by_their_own_widths():
    wide = flops_per_token(LLAMA_3_8B | {"key_width": 192, "value_width": 128}).count
    assert wide - flops_per_token(LLAMA_3_8B).count == 6 * 32 * 32 * (192 - 128) * 8192


def test_of_a_mixture_of_experts_only_the_active_parameters_count():
    experts = {"routed_parameters": 6_400_000_000, "routed": 64, "chosen": 6}
    dense = flops_per_token(LLAMA_3_8B)
    found = flops_per_token(LLAMA_3_8B | experts)
    assert dense.count - found.count == 6 * 6_400_000_000 * 58 // 64
    assert "(active ones)" in found.method


def test_without_the_embedding_the_formula_is_the_one_that_needs_none():
    told = {name: value for name, value in LLAMA_3_8B.items() if name != "embedding_parameters"}
    assert "llm-foundry" in flops_per_token(told).method
    assert "torchtitan" in flops_per_token(LLAMA_3_8B).method


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"parameters": 1e9}, "layers, width, heads, sequence"),
        (LLAMA_3_8B | {"layers": 0}, "layers is 0"),
        (LLAMA_3_8B | {"layers": "many"}, "layers is 'many'"),
        (LLAMA_3_8B | {"formula": "guess"}, "formula 'guess'"),
        (LLAMA_3_8B | {"routed_parameters": 1e9, "routed": 4, "chosen": 5}, "5 experts are chosen of 4"),
        (LLAMA_3_8B | {"routed_parameters": 1e9}, "routed is None"),
    ],
)  # fmt: skip
def test_a_model_that_is_not_told_in_full_has_no_count(told, reason):
    with pytest.raises(ShapeIncomplete, match=reason):
        flops_per_token(told)


def test_different_devices_add_their_own_peaks():
    found = denominator(devices(H100, 8) + devices(A100, 4), "bf16")
    assert found.flops_per_second == pytest.approx(8 * 989.4e12 + 4 * 312e12)
    assert [(peak.name, peak.n_devices) for peak in found.peaks] == [("H100 SXM5 80GB", 8), ("A100 SXM4 80GB", 4)]


def test_a_device_that_two_ranks_share_counts_once():
    assert denominator(devices(H100, 1) * 2, "bf16").flops_per_second == 989.4e12


def test_one_unknown_device_leaves_no_mfu_and_its_reason():
    found = mfu(Flops(10**9, "given"), 1000, [*devices(H100), RunDevice("GPU-x", "NVIDIA X1")], "bf16")
    assert found.ratio is None
    assert found.reason == "NVIDIA X1 is not in the hardware catalogue"
    assert found.achieved_flops_per_second == 10**12


@pytest.mark.parametrize(
    "row", [r for r in rows("reference_throughput.csv") if "torchtitan" in r["source"]], ids=lambda r: r["gpu"]
)
def test_torchtitans_figures_on_boards_or_paths_without_a_known_peak_give_no_mfu(row):
    # Its H100s are of 96 GB with a lower clock, and its H200s compute in float8: the well-known 989 TFLOP/s would be wrong.
    model = "NVIDIA H200" if "H200" in row["gpu"] else "NVIDIA H100"
    found = mfu(
        flops_per_token(LLAMA_3_8B), float(row["value"]),
        [RunDevice("GPU-0", model, (97_871 if model == "NVIDIA H100" else 143_771) * 2**20)], row["precision"],
    )  # fmt: skip
    assert found.ratio is None
    assert ("quantised" if row["precision"] == "float8" else "none that the hardware catalogue knows") in found.reason


@pytest.mark.parametrize("dtype", ["fp8", "float8_e4m3fn", "mxfp8", "nvfp4", "int8"])
def test_a_quantised_path_has_no_mfu(dtype):
    assert "quantised" in mfu(Flops(1, "given"), 1.0, devices(H100), dtype).reason


@pytest.mark.parametrize("dtype", ["bf16", "torch.bfloat16", "bf16-mixed", "amp_bf16", "BFLOAT16"])
def test_frameworks_names_of_a_dtype_mean_one_peak(dtype):
    assert denominator(devices(H100, 1), dtype).flops_per_second == 989.4e12


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (mfu(None, 1.0, devices(H100), "bf16", "flops_per_sample is not told"), "flops_per_sample is not told"),
        (mfu(Flops(1, "given"), None, devices(H100), "bf16"), "no rate in this window"),
        (mfu(Flops(1, "given"), 1.0, devices(H100), ""), "the loop does not tell the dtype"),
        (mfu(Flops(1, "given"), 1.0, devices(H100), "posit"), "dtype 'posit' is not known"),
        (mfu(Flops(1, "given"), 1.0, [], "bf16"), "the devices of the run are not known"),
        (mfu(Flops(1, "given"), 1.0, devices("Tesla T4"), "bf16"), "no bf16 peak of T4"),
        (mfu(Flops(1, "given"), 1.0, [RunDevice("MIG-1", H100, None, "1g.10gb")], "bf16"), "1g.10gb is a part"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(found, reason):
    assert found.ratio is None
    assert reason in found.reason


def test_doubts_of_the_denominator_go_with_the_ratio():
    found = mfu(Flops(10**9, "given"), 1000, devices("AMD Instinct MI250X", 2), "bf16")
    assert found.ratio == pytest.approx(1e12 / 383e12)
    assert any("1/2 of the module's" in doubt for doubt in found.doubts)


def test_ofu_is_pipe_activity_times_the_clock_ratio_and_leaves_gaps_out():
    one = PipeSeries(np.array([0.5, np.nan, 0.7]), np.array([1.0e9, 1.0e9, 1.0e9]), np.array([2.0e9, 2.0e9, 2.0e9]))
    silent = PipeSeries(np.full(3, np.nan), np.full(3, 1.0e9), np.full(3, 2.0e9))
    found = ofu.ofu([one, silent])
    assert found.ratio == pytest.approx(0.3)
    assert (found.n_devices, found.of_devices) == (1, 2)
    assert ofu.ofu([silent]).ratio is None
    assert "GPM" in ofu.ofu([silent]).reason
