from dataclasses import replace

import pytest

from training.utilisation import flops


def test_resnet_50_costs_its_published_4_09_gmacs():
    assert flops.resnet_forward_macs(flops.RESNET_50) / 1e9 == pytest.approx(4.09, abs=0.005)


def test_resnet_20_costs_its_published_40_8_mmacs():
    assert flops.resnet_forward_macs(flops.RESNET_20) / 1e6 == pytest.approx(40.8, abs=0.05)


def test_training_an_image_costs_three_forward_passes_of_two_flops_a_mac():
    counted = flops.resnet_training_flops_per_image(flops.RESNET_50)
    assert counted.count == 6 * flops.resnet_forward_macs(flops.RESNET_50)
    assert "3 × forward" in counted.method


def test_gpt_2s_parameters_are_those_that_nanogpt_counts():
    gpt_2 = replace(flops.GPT_124M, vocabulary=50_257)  # nanoGPT transformer_sizing.ipynb: 124,337,664 with positions
    assert gpt_2.parameters_without_positions + 1024 * 768 == 124_337_664


def test_gpt_2s_sequence_costs_what_nanogpt_counts():
    gpt_2 = replace(flops.GPT_124M, vocabulary=50_257)  # nanoGPT transformer_sizing.ipynb, palm_flops
    assert flops.gpt_training_flops_per_sequence(gpt_2).count == 875_062_886_400


def test_the_method_names_formula_and_numbers():
    method = flops.gpt_training_flops_per_token(flops.GPT_124M).method
    assert "6N + 12·L·H·Q·T" in method
    assert "123,587,328" in method
