"""The catalogue's workloads that train nothing, as data: inference and micro benchmarks, each with its result checked."""

from training.workloads.params import common
from training.workloads.workload import Workload

_PRODUCTS = "2 × rows × columns × inner of each product of a pass"

CHECKED = (
    Workload(
        name="gpt-generate",
        module="gpt_generate",
        title="GPT generation",
        summary="Prompts are read and tokens generated one by one: prefill and decode rates, time to the first token.",
        stresses="Prefill: matrix multiplication. Decode: memory bandwidth, kernel launches.",
        about=(
            "Reads prompts of half the context and generates a quarter of it after each, with cached keys and values in memory "
            "of a fixed size, by the greatest logit. The weights are random by the seed, as nothing is downloaded: that is "
            "as fast or slow as trained ones. At the end the last batch is computed again without a cache and must agree."
        ),
        sample_unit="sequences",
        sizes={
            "large": "124 M parameters, 512 + 256 tokens, batch 16",
            "small": "14 M parameters, 256 + 128 tokens, batch 8",
            "cpu": "3.3 M parameters, 64 + 32 tokens, batch 4",
            "ci": "0.1 M parameters, 16 + 8 tokens, batch 2",
        },
        flops="2N a fed token, 4·L·H·Q·t for the t tokens that it sees, 2·V·width a generated token",
        params=common(30, "sequences"),
        is_training=False,
    ),
    Workload(
        name="resnet-infer",
        module="resnet_infer",
        title="ResNet inference",
        summary="Image classification without training: latency and throughput by batch.",
        stresses="Convolutions, kernel launches at small batches.",
        about=(
            "Classifies synthetic images that lie on the device, one batch of each size a step, each timed by itself. The "
            "weights are random by the seed. At the end an image's logits from every batch must agree with those computed "
            "alone in fp32."
        ),
        sample_unit="images",
        sizes={
            "large": "ResNet-50, batches of 1, 8, 32 and 128",
            "small": "ResNet-50, batches of 1, 8 and 32",
            "cpu": "ResNet-20, batches of 1, 4 and 16",
            "ci": "ResNet-8, batches of 1 and 2",
        },
        flops="2 × the forward pass's multiply-adds counted from the layers' shapes",
        params=common(60, "images"),
        is_training=False,
    ),
    Workload(
        name="gemm-sweep",
        module="gemm_sweep",
        title="Matrix products",
        summary="FLOP/s by dtype and shape, from thin to square.",
        stresses="Matrix units (tensor cores) and, in thin products, memory bandwidth.",
        about=(
            "Multiplies random matrices that lie on the device: each dtype that the device offers, or the one that precision "
            "names, in several shapes, each product timed by itself. At the end rows of each product are computed "
            "again in float64."
        ),
        sample_unit="passes",
        sizes={
            "large": "8192³, 4096³, 8192 × 14336 × 4096, 16 × 14336 × 4096",
            "small": "4096³, 2048³, 4096 × 4096 × 1024, 16 × 4096 × 4096",
            "cpu": "1024³, 512³, 512 × 2048 × 512, 16 × 2048 × 2048",
            "ci": "128³, 16 × 256 × 64",
        },
        flops=_PRODUCTS,
        params=common(60, "passes"),
        is_training=False,
    ),
    Workload(
        name="memory-bandwidth",
        module="memory_bandwidth",
        title="Memory bandwidth",
        summary="STREAM's copy, scale, add and triad over arrays that no cache holds.",
        stresses="The device's memory.",
        about=(
            "Runs STREAM's four loops over three arrays on the device, each timed by itself; bytes are counted as STREAM counts "
            "them. At the end every element must be what the same passes make of one. The ci size fits into caches."
        ),
        sample_unit="passes",
        sizes={
            "large": "2²⁸ elements an array",
            "small": "2²⁶ elements an array",
            "cpu": "2²⁵ elements an array",
            "ci": "2¹⁸ elements an array",
        },
        flops="4 an element and pass: none, 1, 1 and 2 of the four loops",
        params=common(60, "passes"),
        is_training=False,
    ),
    Workload(
        name="allreduce",
        module="allreduce",
        title="All-reduce",
        summary="Sums over all ranks by message size: what a distributed training does with its gradients.",
        stresses="The links between devices and hosts; alone on a CPU, its memory.",
        about=(
            "Sums messages of several sizes over all ranks of the launch, by NCCL on GPUs and gloo on CPUs, each timed by "
            "itself. Alone on a CPU a second rank is started beside the first. At the end every element must be the right sum."
        ),
        sample_unit="passes",
        sizes={
            "large": "2¹⁸, 2²² and 2²⁶ elements",
            "small": "2¹⁸, 2²² and 2²⁶ elements",
            "cpu": "2¹⁰, 2¹⁶ and 2²² elements",
            "ci": "2⁸ and 2¹² elements",
        },
        flops="ranks − 1 additions an element, over all ranks",
        needs="Several NVIDIA GPUs, or a CPU.",
        params=common(100, "passes", compiles=False),
        is_training=False,
        is_distributable=True,
    ),
)
