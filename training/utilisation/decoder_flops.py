"""How many FLOPs a token costs in training a decoder, by the published formulas, from what a loop tells of its model. No torch.

Three are in use and differ in which parameters they count, so that each answer names its own. All take a backward pass as two
forward passes, count no recomputation, and count attention as if it were not causal. Standard library only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from training.utilisation.flops import Flops

NANOGPT, TORCHTITAN, LLM_FOUNDRY = "nanogpt", "torchtitan", "llm-foundry"


class ShapeIncomplete(Exception):
    """The FLOPs cannot be counted; the text says what is missing or wrong."""


@dataclass(frozen=True, slots=True)
class Experts:
    """The parameters of a mixture of experts: of all routed experts together, of which `chosen` of `routed` serve a token."""

    routed_parameters: int
    routed: int
    chosen: int

    @property
    def idle_parameters(self) -> int:
        """Return the parameters that a token does not meet."""
        return self.routed_parameters - self.routed_parameters * self.chosen // self.routed


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder-only transformer. `parameters` are all of them, position embeddings apart.

    `embedding_parameters` are those of the token embedding; `is_tied` where the output uses them too. `key_width` and
    `value_width` are of one head, None where they are width / heads.
    """

    parameters: int
    layers: int
    width: int
    heads: int
    sequence: int
    embedding_parameters: int | None = None
    is_tied: bool = False
    key_width: int | None = None
    value_width: int | None = None
    experts: Experts | None = None

    @property
    def head_widths(self) -> int:
        """Return the width of a head's keys and of its values together."""
        of_head = self.width // self.heads
        return (self.key_width or of_head) + (self.value_width or of_head)

    @property
    def active_parameters(self) -> int:
        return self.parameters - (self.experts.idle_parameters if self.experts else 0)


def nanogpt(shape: Decoder) -> Flops:
    """Return 6N + 12·L·H·Q·T, N without position embeddings. Source: nanoGPT model.py, estimate_mfu, after PaLM, appendix B."""
    head = shape.width // shape.heads
    return _counted(
        shape, shape.parameters, 12 * shape.layers * shape.heads * head * shape.sequence,
        f"6N + 12·L·H·Q·T (nanoGPT, PaLM appendix B), H = {shape.heads}, Q = {head}, N without position embeddings",
    )  # fmt: skip


def torchtitan(shape: Decoder) -> Flops:
    """Return 6·(N − embedding, unless it is tied) + 6·L·H·(key + value widths)·T, of active parameters.

    Source: torchtitan models/utils.py, get_dense_model_nparams_and_flops and get_moe_model_nparams_and_flops; a tied
    embedding is the output too, and its product counts. Raises ShapeIncomplete.
    """
    if shape.embedding_parameters is None and not shape.is_tied:
        raise ShapeIncomplete("torchtitan's formula leaves out the embedding, whose parameters are not told")
    left_out = 0 if shape.is_tied else shape.embedding_parameters or 0
    words = "N with the tied embedding" if shape.is_tied else "N without embedding"
    return _counted(
        shape, shape.active_parameters - left_out, 6 * shape.layers * shape.heads * shape.head_widths * shape.sequence,
        f"6N + 6·L·H·(key + value width)·T (torchtitan), H = {shape.heads}, widths {shape.head_widths}, {words}",
    )  # fmt: skip


def llm_foundry(shape: Decoder) -> Flops:
    """Return 6N + 12·L·d·T, N with embeddings. Source: llm-foundry scripts/train/benchmarking/README.md."""
    return _counted(
        shape, shape.active_parameters, 12 * shape.layers * shape.width * shape.sequence,
        f"6N + 12·L·d·T (llm-foundry), d = {shape.width}, N with embeddings",
    )  # fmt: skip


def _counted(shape: Decoder, parameters: int, attention: int, method: str) -> Flops:
    active = " (active ones)" if shape.experts else ""
    numbers = f"N = {parameters:,} parameters{active}, L = {shape.layers}, T = {shape.sequence}"
    return Flops(6 * parameters + attention, f"{method}, {numbers}, FLOPs a token")


_FORMULAS = {NANOGPT: nanogpt, TORCHTITAN: torchtitan, LLM_FOUNDRY: llm_foundry}
_NEEDED = ("parameters", "layers", "width", "heads", "sequence")
_EXPERTS = tuple(each.name for each in fields(Experts))


def flops_per_token(told: Mapping[str, Any]) -> Flops:
    """Return the count for a model as a loop describes it: Decoder's fields by name, Experts' among them, and `formula`.

    Without `formula` it is torchtitan's where the embedding is told, else llm-foundry's. Raises ShapeIncomplete.
    """
    missing = [name for name in _NEEDED if name not in told]
    if missing:
        raise ShapeIncomplete(f"the loop does not tell its model's {', '.join(missing)}")
    numbers = {
        name: _number(told, name)
        for name in (*_NEEDED, "embedding_parameters", "key_width", "value_width")
        if name in told
    }
    experts = Experts(*(_number(told, name) for name in _EXPERTS)) if "routed_parameters" in told else None
    shape = Decoder(**numbers, is_tied=bool(told.get("is_tied")), experts=experts)
    if experts is not None and experts.chosen > experts.routed:
        raise ShapeIncomplete(f"{experts.chosen} experts are chosen of {experts.routed}")
    knows_embedding = shape.embedding_parameters is not None or shape.is_tied
    name = told.get("formula") or (TORCHTITAN if knows_embedding else LLM_FOUNDRY)
    if name not in _FORMULAS:
        raise ShapeIncomplete(f"formula {name!r} is none of {', '.join(_FORMULAS)}")
    return _FORMULAS[name](shape)


def _number(told: Mapping[str, Any], name: str) -> int:
    value = told.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < 1e18:
        raise ShapeIncomplete(f"the model's {name} is {value!r}: expected a number from 1 on")
    return int(value)
