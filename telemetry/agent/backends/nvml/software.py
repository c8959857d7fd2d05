"""Versions of the NVIDIA driver and of what comes with it. Called by backend.py at `open`."""

import logging

import pynvml

_log = logging.getLogger(__name__)


def driver_software() -> dict[str, str]:
    """Return the versions of `driver`, `cuda` (the newest that the driver runs) and `nvml`; what is not told is left out.

    Raises NVMLError where the driver does not tell its own.
    """
    versions = {"driver": pynvml.nvmlSystemGetDriverVersion()}
    try:
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
    except pynvml.NVMLError as error:
        # A container may be given NVML without libcuda: the devices are read all the same.
        _log.info("the CUDA version is not known: %s", error)
    else:
        versions["cuda"] = f"{cuda // 1000}.{cuda % 1000 // 10}"
    try:
        versions["nvml"] = pynvml.nvmlSystemGetNVMLVersion()
    except pynvml.NVMLError as error:
        _log.info("the version of the driver's library is not known: %s", error)
    return versions
