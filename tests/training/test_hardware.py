import pytest

from training.utilisation import hardware
from training.utilisation.hardware import catalogue, find

GIB = 2**30


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 SXM5 80GB"),
        ("NVIDIA H100 PCIe", "H100 PCIe 80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100 SXM4 40GB"),
        ("A100-SXM4-40GB", "A100 SXM4 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe 80GB"),
        ("Tesla V100-SXM2-16GB", "V100 SXM2 16GB"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA B300 SXM6 AC", "B300 SXM"),
        ("AMD Instinct MI300X", "MI300X"),
        ("AMD Instinct MI300X OAM", "MI300X"),
        ("TPU v5e", "TPU v5e"),
        ("TPU7x", "TPU v7x"),
    ],
)
def test_a_device_is_found_by_the_name_that_its_driver_gives(name, entry):
    assert find(name).hardware is catalogue()[entry]


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA A100-SXM-64GB",
        "Tesla V100-SXM3-32GB",
        "",
    ],
)
def test_a_name_that_only_begins_like_a_known_one_is_unknown(name):
    found = find(name)
    assert found.hardware is None
    assert "not in the hardware catalogue" in found.reason


def test_a_name_of_several_devices_is_told_as_ambiguous():
    found = find("NVIDIA H100")
    assert found.hardware is None
    assert found.reason == "NVIDIA H100 may be H100 PCIe 80GB, H100 SXM5 80GB or H100 NVL 94GB, which differ"


def test_memory_tells_versions_of_one_name_apart_where_it_can():
    assert find("Tesla V100-PCIE", 32_510 * 2**20).hardware is catalogue()["V100 PCIe 32GB"]
    assert find("NVIDIA H100", 95_830 * 2**20).hardware is catalogue()["H100 NVL 94GB"]
    assert "H100 PCIe 80GB or H100 SXM5 80GB" in find("NVIDIA H100", 81_559 * 2**20).reason


def test_an_h100_of_96_gb_which_the_catalogue_lacks_is_not_taken_for_another():
    found = find("NVIDIA H100", 97_871 * 2**20)
    assert found.hardware is None
    assert "95.6 GiB" in found.reason


def test_a_part_of_a_device_has_not_the_whole_ones_figures():
    found = find("NVIDIA H100 80GB HBM3", 9.75 * GIB)
    assert found.hardware is None
    assert "9.8 GiB" in found.reason


def test_memory_kept_for_ecc_does_not_hide_a_device():
    assert find("Tesla T4", 15_109 * 2**20).hardware is catalogue()["T4"]
    assert find("NVIDIA L4", 23_034 * 2**20).hardware is catalogue()["L4"]


def test_a_peak_that_sources_agree_on_names_them_and_no_doubt():
    peak = catalogue()["H100 SXM5 80GB"].peaks["bf16"]
    assert (peak.value, peak.sources, peak.doubts) == (989.4e12, ("LIT", "TT", "STAS"), ())
    assert "torchtitan" in peak.sentence


def test_a_cell_without_a_second_source_says_so():
    assert catalogue()["H100 NVL 94GB"].peaks["fp8"].doubts == ("no second source",)


def test_a_cell_on_which_sources_disagree_says_who_says_what():
    (doubt,) = (each for each in catalogue()["RTX 3090"].peaks["bf16"].doubts if "disagree" in each)
    assert doubt == "sources disagree: Lightning (fabric/utilities/throughput.py) says 35.6, the catalogue 71.2"


def test_every_cell_of_a_row_that_is_doubtful_throughout_is_marked():
    b100 = catalogue()["B100 SXM"]
    assert b100.peaks
    assert all(any("marked doubtful" in doubt for doubt in spec.doubts) for spec in b100.peaks.values())


def test_a_module_that_shows_as_two_devices_has_half_its_peak_each():
    mi250x = catalogue()["MI250X"]
    assert mi250x.peaks["bf16"].value == 191.5e12  # torchtitan's figure per device
    assert mi250x.memory_gib == 64
    assert "1/2 of the module's 383" in mi250x.peaks["bf16"].doubts[-1]


def test_what_is_not_published_is_absent_and_not_zero():
    v100 = catalogue()["V100 SXM2 16GB"]
    assert "bf16" not in v100.peaks
    assert catalogue()["GH200 96GB"].tdp_watts is None


def test_every_name_that_is_known_leads_into_the_catalogue():
    from training.utilisation import hardware_names

    entries = {entry for meant in hardware_names._MEANT.values() for entry in meant}
    assert entries == set(catalogue())
    assert set(hardware_names.DEVICES_IN_ONE) <= set(catalogue())


def test_every_figure_has_a_source_or_a_doubt():
    for device in catalogue().values():
        for spec in (*device.peaks.values(), device.tdp_watts, device.memory_bytes_per_second):
            assert spec is None or spec.sources or spec.doubts, device.name
            assert spec is None or set(spec.sources) <= set(hardware.SOURCES), device.name
