import pytest

from training.workloads import catalog
from training.workloads.catalog import WORKLOADS, validate
from training.workloads.params import ParamsInvalid


@pytest.mark.parametrize("name", WORKLOADS)
def test_it_completes_a_workload_with_its_defaults(name):
    workload, params = validate(name, {"seed": 7})
    assert params == {param.name: param.default for param in workload.params} | {"seed": 7}


@pytest.mark.parametrize("name", WORKLOADS)
def test_it_measures_at_least_thirty_steps_by_default(name):
    assert validate(name, {})[1]["steps"] >= 30


@pytest.mark.parametrize("name", WORKLOADS)
def test_its_own_defaults_are_valid(name):
    defaults = {param.name: param.default for param in WORKLOADS[name].params}
    assert validate(name, defaults)[1] == defaults


@pytest.mark.parametrize(
    ("workload", "params", "field", "words"),
    [
        ("mine-bitcoin", {}, "workload", "'mine-bitcoin' is not one of resnet-train, vit-train, gpt-train"),
        (["gpt-train"], {}, "workload", "is not one of"),
        ("gpt-train", {"stepz": 3}, "stepz", "has no such parameter"),
        ("gpt-train", {"steps": 4}, "steps", "4 is not between 5 and 100000"),
        ("gpt-train", {"steps": 100_001}, "steps", "is not between"),
        ("gpt-train", {"steps": "40"}, "steps", "'40' is not a whole number"),
        ("gpt-train", {"steps": 40.0}, "steps", "40.0 is not a whole number"),
        ("gpt-train", {"steps": True}, "steps", "True is not a whole number"),
        ("gpt-train", {"precision": "fp8"}, "precision", "'fp8' is not one of auto, fp32, tf32, bf16, fp16"),
        ("gpt-train", {"precision": 1}, "precision", "1 is not one of"),
    ],
)
def test_it_refuses_what_does_not_fit_and_names_the_field(workload, params, field, words):
    with pytest.raises(ParamsInvalid) as refusal:
        validate(workload, params)
    assert refusal.value.field == field
    assert words in refusal.value.message


def test_it_reads_what_a_person_typed_and_leaves_out_what_is_empty():
    texts = {"steps": " 50 ", "precision": "fp32", "seed": ""}
    assert catalog.read_texts("gpt-train", texts) == {"steps": 50, "precision": "fp32"}


def test_it_refuses_typed_text_that_is_no_number():
    with pytest.raises(ParamsInvalid, match="steps: 'many' is not a whole number"):
        catalog.read_texts("gpt-train", {"steps": "many"})
