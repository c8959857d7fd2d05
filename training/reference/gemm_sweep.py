"""Matrix products by dtype and shape: which of them reach the device's peak. Called by the harness.

With precision auto each dtype that the device offers, else the one asked for. A pass is one product of each dtype and shape.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from training.reference.device import Device, use_tf32
from training.reference.micro import Micro
from training.reference.order import CannotRun
from training.utilisation.flops import Flops

_SHAPES = {  # (rows, columns, inner): a large square, a transformer's feed-forward layer, a thin one as in decoding
    "large": ((8192, 8192, 8192), (4096, 4096, 4096), (8192, 14336, 4096), (16, 14336, 4096)),
    "small": ((4096, 4096, 4096), (2048, 2048, 2048), (4096, 4096, 1024), (16, 4096, 4096)),
    "cpu": ((1024, 1024, 1024), (512, 512, 512), (512, 2048, 512), (16, 2048, 2048)),
    "ci": ((128, 128, 128), (16, 256, 64)),
}
_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Of what is multiplied, or of the result.
_EPSILON = {"fp32": 2.0**-23, "tf32": 2.0**-10, "bf16": 2.0**-7, "fp16": 2.0**-10}
_CHECKED_ROWS = 8


class Product(NamedTuple):
    """One product to time: `left` is `(rows, inner)`, `right` `(inner, columns)`."""

    name: str
    precision: str
    left: Tensor
    right: Tensor

    @property
    def flops(self) -> int:
        return 2 * self.left.shape[0] * self.left.shape[1] * self.right.shape[1]


def build(device: Device, params: Mapping[str, Any]) -> "GemmSweep":
    tier = device.tier(params["size"])
    precisions = device.offered if params["precision"] == "auto" else (device.precision,)
    return GemmSweep(device, list(_products(device, precisions, tier)), params)


def _products(device: Device, precisions: tuple[str, ...], tier: str) -> Iterator[Product]:
    for precision in precisions:
        for rows, columns, inner in _SHAPES[tier]:
            left = torch.randn(rows, inner, device=device.torch_device).to(_DTYPES[precision])
            right = torch.randn(inner, columns, device=device.torch_device).to(_DTYPES[precision])
            yield Product(f"{precision} {rows} × {columns} × {inner}", precision, left, right)


class GemmSweep(Micro):
    """Each step does every product `batch_size` times."""

    def __init__(self, device: Device, products: list[Product], params: Mapping[str, Any]) -> None:
        names = ", ".join(product.name for product in products)
        flops = Flops(
            sum(product.flops for product in products),
            f"2 × rows × columns × inner of each of the {len(products)} products of a pass",
        )
        data = f"normal random numbers by seed {params['seed']}, on the device; products: {names}"
        super().__init__(f"{len(products)} matrix products", params["batch_size"] or 1, flops, data)
        self._device, self._products = device, products
        self._multiply = device.compile(torch.matmul)
        self._results: list[Tensor] = []

    @torch.no_grad()
    def step(self) -> None:
        for _ in range(self.batch_size):
            self._results = [self._timed(product) for product in self._products]

    def _timed(self, product: Product) -> Tensor:
        use_tf32(on=product.precision == "tf32")
        began = time.perf_counter()
        result = self._multiply(product.left, product.right)
        self._device.synchronise()
        self._timings.add(product.name, time.perf_counter() - began)
        return result

    def check(self) -> str:
        """Compute some rows of each product again in float64. Sums of n rounded terms stray as the root of n."""
        for product, result in zip(self._products, self._results, strict=True):
            rows = slice(_CHECKED_ROWS)
            expected = product.left[rows].double() @ product.right.double()
            apart = ((result[rows].double() - expected).abs().max() / expected.abs().max()).item()
            allowed = 4 * _EPSILON[product.precision] * max(1.0, product.left.shape[1] ** 0.5 / 8)
            if not apart <= allowed:
                raise CannotRun(
                    f"{product.name}: a product is off by {apart:.3g} of its greatest value, more than rounding allows "
                    f"({allowed:.3g}), so the result is not to be trusted"
                )
        return f"{_CHECKED_ROWS} rows of each product computed again in float64: within rounding"

    def figures(self) -> dict[str, Any]:
        """Return the median FLOP/s of each product."""
        return {
            "gemm_flops_per_second": {
                product.name: product.flops / self._timings.median(product.name) for product in self._products
            }
        }
