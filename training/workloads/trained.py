"""The catalogue's training workloads, as data: a model learns, and the job fails where its loss does not fall."""

from training.workloads.params import KERNELS, LAYOUT, common
from training.workloads.workload import Workload

TRAINING_FLOPS = "3 × the forward pass, which is 2 × its multiply-adds counted from the layers' shapes"
_GPT_FLOPS = "(6N + 12·L·H·Q·T) a token, N without position embeddings (nanoGPT)"
_GPT_SIZES = {
    "large": "124 M parameters, 1,024 tokens, batch 4 (8 from 22 GB of memory, 16 from 38 GB)",
    "small": "14 M parameters, 512 tokens, batch 16",
    "cpu": "3.3 M parameters, 128 tokens, batch 8",
    "ci": "0.1 M parameters, 32 tokens, batch 8",
}

TRAININGS = (
    Workload(
        name="resnet-train",
        module="resnet_train",
        title="ResNet training",
        summary="Image classification with convolutions: ResNet-50 on an accelerator, ResNet-20 on a CPU.",
        stresses="Convolutions, memory bandwidth (normalisation, activations), kernel launches.",
        about=(
            "Trains a residual network on synthetic images that lie on the device, so that neither disk nor data "
            "loading is measured. On an accelerator it is ResNet-50 with 224 × 224 images and 1,000 classes, on a CPU "
            "ResNet-20 with 32 × 32 images and 10 classes. SGD with momentum, plain PyTorch."
        ),
        sample_unit="images",
        sizes={
            "large": "ResNet-50, batch 64 (128 from 38 GB of memory)",
            "small": "ResNet-50, batch 16",
            "cpu": "ResNet-20, batch 64",
            "ci": "ResNet-8, batch 16",
        },
        flops=TRAINING_FLOPS,
        params=(*common(60, "images"), LAYOUT),
        is_distributable=True,
    ),
    Workload(
        name="vit-train",
        module="vit_train",
        title="Vision transformer training",
        summary="Image classification with attention: ViT-B/16 from 16 GB of device memory on.",
        stresses="Matrix multiplication of middling sizes, attention over few tokens, the optimiser's memory traffic.",
        about=(
            "Trains a vision transformer on synthetic images that lie on the device. On an accelerator it is ViT-B/16 or "
            "ViT-S/16 with 224 × 224 images and 1,000 classes, on a CPU a small one with 32 × 32 images. AdamW with clipped "
            "gradients, plain PyTorch with its fused attention."
        ),
        sample_unit="images",
        sizes={
            "large": "ViT-B/16, batch 64",
            "small": "ViT-S/16, batch 32",
            "cpu": "2.7 M parameters, 65 tokens, batch 16",
            "ci": "0.1 M parameters, 17 tokens, batch 16",
        },
        flops=TRAINING_FLOPS,
        params=(*common(30, "images"), KERNELS),
        is_distributable=True,
    ),
    Workload(
        name="gpt-train",
        module="gpt_train",
        title="GPT training",
        summary="A decoder-only transformer, its size by device: 124 M parameters from 16 GB of device memory on.",
        stresses="Matrix multiplication (tensor cores), attention, the optimiser's memory traffic.",
        about=(
            "Trains a GPT of nanoGPT's shape on a synthetic token language that lies on the device. On an accelerator "
            "of 16 GB and more it is the 124 M model with sequences of 1,024 tokens; below that, and on a CPU, a smaller "
            "one. AdamW, plain PyTorch with its fused attention."
        ),
        sample_unit="sequences",
        sizes=_GPT_SIZES,
        flops=_GPT_FLOPS,
        params=(*common(40, "sequences"), KERNELS),
        is_distributable=True,
    ),
    Workload(
        name="gpt-finetune",
        module="gpt_finetune",
        title="GPT fine-tuning",
        summary="All parameters of a GPT, with the loss of the answer only and clipped gradients.",
        stresses="Matrix multiplication (tensor cores), attention, the optimiser, a reduction over all gradients.",
        about=(
            "Fine-tunes all parameters of the GPT of gpt-train: the loss is of the second half of each sequence, gradients are "
            "clipped by their norm. The weights are random by the seed, as nothing is downloaded: that is as fast or slow as "
            "trained ones. AdamW, plain PyTorch with its fused attention."
        ),
        sample_unit="sequences",
        sizes=_GPT_SIZES,
        flops=_GPT_FLOPS,
        params=common(30, "sequences"),
        is_distributable=True,
    ),
    Workload(
        name="gpt-lora",
        module="gpt_lora",
        title="GPT fine-tuning by adapters",
        summary="A frozen GPT with trained low-rank adapters (LoRA) on each linear layer.",
        stresses="Matrix multiplication, many thin products, attention; hardly any memory traffic of the optimiser.",
        about=(
            "Fine-tunes adapters of rank 8 on each linear layer of the blocks of gpt-train's GPT, whose own weights stay as they "
            "are: random by the seed, as nothing is downloaded. The loss is of the second half of each sequence. AdamW, plain "
            "PyTorch with its fused attention."
        ),
        sample_unit="sequences",
        sizes=_GPT_SIZES,
        flops="(4N + 6A + 12·L·H·Q·T) a token: N frozen parameters without position embeddings, A of the adapters",
        params=common(30, "sequences"),
        is_distributable=True,
    ),
    Workload(
        name="conv1d-train",
        module="conv1d_train",
        title="Waveform training",
        summary="Sound classification with one-dimensional convolutions over raw waveforms, as in speech.",
        stresses="Long, narrow convolutions, memory bandwidth (normalisation, poolings), kernel launches.",
        about=(
            "Trains a convolutional network over raw waveforms (M18, M11 or M5 of arXiv 1610.00087) on synthetic tones in noise "
            "that lie on the device: 4 s at 8 kHz. Adam, plain PyTorch."
        ),
        sample_unit="waveforms",
        sizes={
            "large": "M18, batch 128",
            "small": "M11, batch 64",
            "cpu": "M5, batch 8",
            "ci": "M5 an eighth as wide, 1 s, batch 16",
        },
        flops=TRAINING_FLOPS,
        params=common(30, "waveforms"),
        is_distributable=True,
    ),
)
