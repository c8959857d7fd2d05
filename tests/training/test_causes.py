"""What is laid to what: pure evidence, each cause by itself, and which of several comes first."""

from dataclasses import replace

import pytest

from training.runs.causes import HARDWARE_HEAT, POWER_CAP, SOFTWARE_HEAT, Evidence, Reading, causes

NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"
USUAL = Evidence(
    device="gpu-a01 GPU 3",
    gauges={
        "sm_clock_hertz": Reading(1.98e9, 1.98e9),
        "temperature_celsius": Reading(64, 64),
        "host_cpu_pressure_ratio": Reading(0.02, 0.02),
        "host_memory_pressure_ratio": Reading(0.0, 0.0),
        "host_io_pressure_ratio": Reading(0.01, 0.01),
        "host_cpu_utilization_ratio": Reading(0.4, 0.4),
        "pcie_link_width": Reading(16, 16),
    },
    growths={
        "pcie_replay_total": Reading(0, 0),
        "ecc_corrected_total": Reading(0, 0),
        "ecc_uncorrected_total": Reading(0, 0),
        "nvlink_errors_total": Reading(0, 0),
    },
    reasons={POWER_CAP: Reading(0.6, 0.6), HARDWARE_HEAT: Reading(0, 0)},
    xids=(),
    others=(),
    excess_seconds=2.0,
    data_excess_seconds=0.0,
)


def seen(*, gauges=None, growths=None, **fields):
    return replace(
        USUAL, gauges={**USUAL.gauges, **(gauges or {})}, growths={**USUAL.growths, **(growths or {})}, **fields
    )


def test_what_is_as_usual_is_no_cause():
    found = causes(USUAL)
    assert (found.likeliest, found.unseen, found.words) == (None, (), "no cause seen")


@pytest.mark.parametrize(
    ("evidence", "name", "words", "proof"),
    [
        (seen(data_excess_seconds=1.8), "data", "waited for data", "90% of the delay"),
        (seen(xids=(79,)), "xid", "XID 79", "XID 79 in this time"),
        (seen(growths={"ecc_uncorrected_total": Reading(2, 0)}), "ecc", "uncorrected memory errors", "2 more than before"),
        (seen(reasons={HARDWARE_HEAT: Reading(0.8, 0)}), "clock", "slowed: hardware thermal slowdown", "80% of the time"),
        (seen(reasons={SOFTWARE_HEAT: Reading(0.8, 0)}), "clock", "slowed: software thermal slowdown", "GPU 64 °C"),
        (seen(others=("python (eve)",)), "others", "another program on the device", "python (eve)"),
        (seen(gauges={"sm_clock_hertz": Reading(1.41e9, 1.98e9)}), "clock", "its clock fell", "1,410 MHz, before 1,980 MHz"),
        (seen(growths={"pcie_replay_total": Reading(40, 0)}), "link", "PCIe replays", "40 more than before"),
        (seen(gauges={"pcie_link_width": Reading(8, 16)}), "link", "a narrower or slower PCIe link", "lanes 8, before 16"),
        (seen(gauges={"host_memory_pressure_ratio": Reading(0.4, 0)}), "host", "the host short of memory", "40% of the time"),
        (seen(gauges={"host_cpu_pressure_ratio": Reading(0.5, 0.02)}), "host", "the host short of CPU", "time, before 2%"),
        (seen(gauges={"host_io_pressure_ratio": Reading(0.5, 0.02)}), "host", "the host's disks", "50% of the time"),
        (seen(gauges={"host_cpu_utilization_ratio": Reading(0.99, 0.4)}), "host", "the host's CPUs were all busy", "99%"),
    ],
)  # fmt: skip
def test_each_cause_is_named_with_what_was_seen_of_it(evidence, name, words, proof):
    found = causes(evidence).likeliest
    assert found.name == name
    assert words in found.words
    assert proof in found.evidence.replace(NARROW_SPACE, " ")
    assert found.device == "gpu-a01 GPU 3"


def test_a_power_cap_that_always_holds_is_no_cause_but_one_that_lowers_the_clock_is():
    assert causes(seen(reasons={POWER_CAP: Reading(1.0, 1.0)})).found == ()
    slowed = seen(reasons={POWER_CAP: Reading(0.9, 0.1)}, gauges={"sm_clock_hertz": Reading(1.4e9, 1.98e9)})
    assert causes(slowed).likeliest.words == "slowed by the power cap"


def test_of_several_the_one_that_proves_most_comes_first_and_none_is_lost():
    found = causes(
        seen(
            data_excess_seconds=1.9,
            reasons={HARDWARE_HEAT: Reading(0.8, 0.0)},
            growths={"pcie_replay_total": Reading(4, 0), "ecc_corrected_total": Reading(3, 0)},
        )
    )
    assert [each.name for each in found.found] == ["data", "clock", "link", "ecc"]


def test_a_program_of_the_users_own_fault_weighs_less_than_heat():
    found = causes(seen(xids=(31,), reasons={HARDWARE_HEAT: Reading(0.8, 0)}))
    assert [each.name for each in found.found] == ["clock", "xid"]


def test_what_could_not_be_looked_at_is_said():
    found = causes(Evidence())
    assert found.likeliest is None
    assert found.words.startswith("no cause seen (not known: clock event reasons, XIDs, other programs on the device")
    assert "memory errors" in found.unseen


def test_data_that_explains_a_small_part_of_the_delay_is_no_cause():
    assert causes(seen(data_excess_seconds=0.3)).found == ()
