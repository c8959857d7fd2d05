"""Copy, scale, add and triad over arrays that no cache holds, as in STREAM (McCalpin 1995). Called by the harness.

Bytes are counted as STREAM counts them: each array that a loop reads or writes, once.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from training.reference.device import Device
from training.reference.micro import Micro
from training.reference.order import CannotRun
from training.utilisation.flops import Flops

_ELEMENTS = {"large": 2**28, "small": 2**26, "cpu": 2**25, "ci": 2**18}
# With √2 − 1 the first array keeps its value from pass to pass: a + s·(s·c + c) + s·c with c = a.
_SCALAR = 2**0.5 - 1
_ARRAYS = {"copy": 2, "scale": 2, "add": 3, "triad": 3}  # read or written


def copy(a: Tensor, b: Tensor, c: Tensor) -> None:
    c.copy_(a)


def scale(a: Tensor, b: Tensor, c: Tensor) -> None:
    torch.mul(c, _SCALAR, out=b)


def add(a: Tensor, b: Tensor, c: Tensor) -> None:
    torch.add(a, b, out=c)


def triad(a: Tensor, b: Tensor, c: Tensor) -> None:
    torch.add(b, c, alpha=_SCALAR, out=a)


def build(device: Device, params: Mapping[str, Any]) -> "MemoryBandwidth":
    return MemoryBandwidth(device, _ELEMENTS[device.tier(params["size"])], params["batch_size"] or 1)


class MemoryBandwidth(Micro):
    """Each step does `batch_size` passes of the four loops."""

    def __init__(self, device: Device, elements: int, passes: int) -> None:
        array_bytes = elements * device.dtype.itemsize
        data = f"three arrays of {elements:,} elements, {array_bytes / 1e6:,.0f} MB each, on the device"
        flops = Flops(4 * elements, "STREAM's four loops: none, 1, 1 and 2 an element")
        super().__init__("STREAM's loops", passes, flops, data)
        self._device, self._array_bytes = device, array_bytes
        self._arrays = tuple(
            torch.full((elements,), value, dtype=device.dtype, device=device.torch_device) for value in (1.0, 2.0, 0.0)
        )
        self._loops: dict[str, Callable[..., None]] = {
            loop.__name__: device.compile(loop) for loop in (copy, scale, add, triad)
        }
        self._passes = 0

    @torch.no_grad()
    def step(self) -> None:
        for _ in range(self.batch_size):
            for name, loop in self._loops.items():
                began = time.perf_counter()
                loop(*self._arrays)
                self._device.synchronise()
                self._timings.add(name, time.perf_counter() - began)
            self._passes += 1

    def check(self) -> str:
        """Every element of an array is what the same passes make of one element, computed on the host in the same dtype."""
        expected = [torch.full((1,), value, dtype=self._device.dtype) for value in (1.0, 2.0, 0.0)]
        for _ in range(self._passes):
            for loop in (copy, scale, add, triad):
                loop(*expected)
        for array, value in zip(self._arrays, expected, strict=True):
            low, high, one = array.min().item(), array.max().item(), value.item()
            if low != high or not abs(low - one) <= 0.01 * abs(one):
                raise CannotRun(
                    f"an array holds {low:.6g} to {high:.6g} where every element should be {one:.6g}: memory or arithmetic "
                    "is at fault"
                )
        return f"all elements of three arrays after {self._passes} passes: equal, and what one element comes to"

    def figures(self) -> dict[str, Any]:
        """Return the median bytes per second of each loop."""
        return {
            "loop_bytes_per_second": {
                name: arrays * self._array_bytes / self._timings.median(name) for name, arrays in _ARRAYS.items()
            }
        }
