"""What drivers (NVML, amdsmi, the TPU backend) call the devices of the hardware catalogue: a name, and the entries it may mean.

Only whole names are known. A name that merely begins like one is another device (an RTX 4090 D is no RTX 4090), and a name that
several devices share is given with all of them. Called by hardware.py; standard library only.
"""

import re
from collections.abc import Sequence

_SPACES = re.compile(r"[\s_]+")
_BRANDS = ("nvidia ", "tesla ", "geforce ", "amd ", "instinct ")

_V100_PCIE = ("V100 PCIe 16GB", "V100 PCIe 32GB")
_V100_SXM2 = ("V100 SXM2 16GB", "V100 SXM2 32GB")
_A100_PCIE = ("A100 PCIe 40GB", "A100 PCIe 80GB")
_A100_SXM4 = ("A100 SXM4 40GB", "A100 SXM4 80GB")
_H100 = ("H100 PCIe 80GB", "H100 SXM5 80GB", "H100 NVL 94GB")
_GH200 = ("GH200 96GB", "GH200 144GB")

_MEANT: dict[str, tuple[str, ...]] = {
    "p100-pcie-16gb": ("P100 PCIe 16GB",),
    "p100-sxm2-16gb": ("P100 SXM2 16GB",),
    "p100": ("P100 PCIe 16GB", "P100 SXM2 16GB"),
    "v100-pcie-16gb": ("V100 PCIe 16GB",),
    "v100-pcie-32gb": ("V100 PCIe 32GB",),
    "v100-sxm2-16gb": ("V100 SXM2 16GB",),
    "v100-sxm2-32gb": ("V100 SXM2 32GB",),
    "v100s-pcie-32gb": ("V100S PCIe 32GB",),
    "v100-pcie": _V100_PCIE,
    "v100-sxm2": _V100_SXM2,
    "v100": _V100_PCIE + _V100_SXM2,
    "t4": ("T4",),
    "rtx 2080 ti": ("RTX 2080 Ti",),
    "rtx 3090": ("RTX 3090",),
    "rtx 4090": ("RTX 4090",),
    "rtx 5090": ("RTX 5090",),
    "rtx a6000": ("RTX A6000",),
    "quadro rtx 8000": ("Quadro RTX 8000",),
    "a10": ("A10",),
    "a10g": ("A10G",),
    "a30": ("A30",),
    "a40": ("A40",),
    "a100-pcie-40gb": ("A100 PCIe 40GB",),
    "a100 80gb pcie": ("A100 PCIe 80GB",),
    "a100-pcie-80gb": ("A100 PCIe 80GB",),
    "a100-sxm4-40gb": ("A100 SXM4 40GB",),
    "a100-sxm4-80gb": ("A100 SXM4 80GB",),
    "a100-sxm-80gb": ("A100 SXM4 80GB",),
    "a100 pcie": _A100_PCIE,
    "a100-pcie": _A100_PCIE,
    "a100-sxm4": _A100_SXM4,
    "a100": _A100_PCIE + _A100_SXM4,
    "l4": ("L4",),
    "l40": ("L40",),
    "l40s": ("L40S",),
    "rtx 6000 ada generation": ("RTX 6000 Ada",),
    "h100 pcie": ("H100 PCIe 80GB",),
    "h100 80gb hbm3": ("H100 SXM5 80GB",),
    "h100 nvl": ("H100 NVL 94GB",),
    "h100": _H100,
    "h200": ("H200 SXM5 141GB",),
    "h200 nvl": ("H200 NVL 141GB",),
    "h20": ("H20 96GB",),
    "gh200 480gb": _GH200[:1],
    "gh200 144g hbm3e": _GH200[1:],
    "gh200": _GH200,
    "b100": ("B100 SXM",),
    "b200": ("B200 SXM",),
    "gb200": ("GB200 (per GPU)",),
    "b300 sxm6 ac": ("B300 SXM",),
    "b300": ("B300 SXM",),
    "gb300": ("GB300 (per GPU)",),
    "rtx pro 6000 blackwell workstation edition": ("RTX PRO 6000 Blackwell WS",),
    "rtx pro 6000 blackwell": ("RTX PRO 6000 Blackwell WS",),
    "tpu v2": ("TPU v2",),
    "tpu v3": ("TPU v3",),
    "tpu v4": ("TPU v4",),
    "tpu v5e": ("TPU v5e",),
    "tpu v5p": ("TPU v5p",),
    "tpu v6e": ("TPU v6e",),
    "tpu7x": ("TPU v7x",),
    "tpu v7x": ("TPU v7x",),
    "mi100": ("MI100",),
    "mi210": ("MI210",),
    "mi250": ("MI250",),
    "mi250x": ("MI250X",),
    "mi250x / mi250": ("MI250", "MI250X"),
    "mi250x/mi250": ("MI250", "MI250X"),
    "mi300x": ("MI300X",),
    "mi300x oam": ("MI300X",),
    "mi325x": ("MI325X",),
    "mi325x oam": ("MI325X",),
    "mi350x": ("MI350X",),
    "mi350x oam": ("MI350X",),
    "mi355x": ("MI355X",),
    "mi355x oam": ("MI355X",),
}

DEVICES_IN_ONE = {"MI250": 2, "MI250X": 2, "TPU v2": 2, "TPU v3": 2, "TPU v7x": 2}
"""Modules that the driver or runtime shows as so many devices, while the catalogue speaks of the module.

Sources: torchtitan takes 191.5 TFLOP/s for an MI250X, half the module's 383; tpu-info's device.py for the cores of TPUs.
"""


def meant_by(name: str) -> Sequence[str]:
    """Return the catalogue's names of the devices that a driver may mean by this name; none where it is unknown."""
    plain = _SPACES.sub(" ", name).strip().lower()
    while brand := next((each for each in _BRANDS if plain.startswith(each)), ""):
        plain = plain.removeprefix(brand)
    return _MEANT.get(plain, ())
