"""The runs that a simulated fleet trains: the first takes half of the training hosts, the next half of the rest, and so on.

Called by the simulated fleet. Shapes are those of published models: Llama 3 70B and 8B (arXiv 2407.21783, table 3), Mixtral
8x7B (arXiv 2401.04088, table 1), ViT-g/14 (arXiv 2106.04560, table 2; 224 pixels are 257 tokens).
"""

from telemetry.simulation.training import Plan

_LLAMA_70B = {"parameters": 70_553_706_496, "layers": 80, "width": 8192, "heads": 64, "sequence": 4096}
_LLAMA_8B = {"parameters": 8_030_261_248, "layers": 32, "width": 4096, "heads": 32, "sequence": 8192}
_EXPERT = 3 * 4096 * 14_336  # parameters of one expert in one layer
_MIXTRAL = {
    "parameters": 46_702_792_704,
    "layers": 32,
    "width": 4096,
    "heads": 32,
    "sequence": 4096,
    "routed_parameters": 32 * 8 * _EXPERT,
    "routed": 8,
    "chosen": 2,
}
_VIT_FLOPS = 257 * (6 * 1_011_000_000 + 12 * 40 * 1408 * 257.0)  # 6N + 12·L·d·T a token

PLANS = (
    Plan("llm-70b-pretrain", 10.64, 2048, 4096, "language", mfu=0.41, about={"model": _LLAMA_70B}),
    Plan("moe-47b-pretrain", 6.3, 1024, 4096, "language", loss_end=2.0, mfu=0.33, about={"model": _MIXTRAL}),
    Plan(
        "llm-8b-finetune", 2.4, 128, 8192, "assistants", loss_start=2.6, loss_end=1.3, mfu=0.45,
        about={"model": _LLAMA_8B},
    ),
    Plan(
        "vit-g-distill", 0.9, 4096, 257, "vision", loss_start=6.9, loss_end=1.1, validation_every=200,
        checkpoint_every=500, mfu=0.36, about={"flops_per_sample": _VIT_FLOPS},
    ),
)  # fmt: skip
