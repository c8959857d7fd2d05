"""Why a clock is below what was asked for: NVML's bits (nvmlClocksEventReason… in nvml.h) and their names. Pure."""

REASONS = {
    0x1: "GPU idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
    0x100: "display clocks",
}


def names(mask: int) -> list[str]:
    """Return the reasons in a bit mask by name; an unknown bit by its number."""
    bits = [1 << position for position in range(mask.bit_length()) if mask >> position & 1]
    return [REASONS.get(bit, f"reason {bit:#x}") for bit in bits]
