"""NVIDIA's XID errors: name, what to do, how grave. Called by health, ingest and the exposition; pure, knows no store.

Source: NVIDIA's XID catalogue, https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html (Ampere and newer): names as
there, actions from its column "Resolution Bucket (Immediate Action)". Where that says to ignore what wears a board out (63, 92,
157), or leaves the action open (162 to 172), the row here says to watch it.
"""

from dataclasses import dataclass
from enum import Enum

from fleet.models import Severity


class Action(Enum):
    """What to do first: its words, and how grave an XID is that asks for it."""

    NOTHING = ("nothing: the GPU remains healthy", Severity.INFO)
    APPLICATION = (
        "restart the application; if it comes back, look for the fault there first (compute-sanitizer)", Severity.INFO,
    )  # fmt: skip
    WATCH = ("nothing now; plan a GPU reset, and have the board checked if it comes back", Severity.WARNING)
    RESTART_THEN_RESET = ("restart the application that it hit; reset the GPU when convenient", Severity.WARNING)
    UPDATE = ("update driver and firmware to versions that fit each other", Severity.WARNING)
    RESET = (
        "drain the host, let go of the driver and reset the GPU; call the vendor if it comes back",
        Severity.CRITICAL,
    )
    LINK = (
        "drain the host and reset the GPUs at both ends of the link; if it comes back, have the link checked", Severity.CRITICAL,
    )  # fmt: skip
    RESTART = ("restart the virtual machine or the host", Severity.CRITICAL)
    POWER_CYCLE = ("drain the host and power-cycle it; call the vendor if it comes back", Severity.CRITICAL)
    CABLES = ("check the power cables of the board", Severity.CRITICAL)
    RECOVERY = ("see the recovery action that the driver names, and the XID before this one", Severity.INFO)

    def __init__(self, words: str, severity: Severity) -> None:
        self.words = words
        self.severity = severity


@dataclass(frozen=True, slots=True)
class Xid:
    """One row of the catalogue. `meaning` is "" where the name says it all."""

    code: int
    name: str
    action: Action
    meaning: str = ""

    @property
    def severity(self) -> Severity:
        return self.action.severity


_A = Action
_SOFTWARE = "A program's fault as a rule: an access out of bounds, an illegal instruction."
_MEMORY = "Memory gave back what was not written to it, and could not be corrected."
_GSP = "The GPU's own system processor did not answer, or failed."

XIDS: tuple[Xid, ...] = (
    Xid(8, "GPU stopped processing", _A.APPLICATION),
    Xid(11, "Invalid or corrupted push buffer stream", _A.APPLICATION),
    Xid(13, "Graphics Engine Exception", _A.APPLICATION, _SOFTWARE),
    Xid(14, "Injected error", _A.NOTHING),
    Xid(25, "Invalid or illegal push buffer stream", _A.APPLICATION),
    Xid(31, "GPU memory page fault", _A.APPLICATION, "A program used an address that it does not have."),
    Xid(32, "Invalid or corrupted push buffer stream", _A.APPLICATION, "Often a poor PCIe connection."),
    Xid(37, "Driver firmware error", _A.NOTHING),
    Xid(38, "Driver firmware error", _A.NOTHING),
    *(Xid(code, "Copy Engine Exception", _A.APPLICATION) for code in (39, 40, 41)),
    Xid(43, "GPU stopped processing", _A.NOTHING, "A program ended by a fault of its own."),
    Xid(44, "Graphics Engine fault during context switch", _A.NOTHING),
    Xid(45, "Preemptive cleanup, due to previous errors", _A.NOTHING, "A program was ended: by a person, or after another XID."),
    Xid(46, "GPU stopped processing", _A.RESET),
    Xid(48, "Double Bit ECC Error", _A.RESET, _MEMORY),
    Xid(54, "Auxiliary power is not connected to the GPU board", _A.CABLES),
    Xid(60, "Video processor exception", _A.APPLICATION),
    Xid(62, "Internal micro-controller halt", _A.RESET),
    Xid(63, "GPU memory remapping event", _A.WATCH, "A memory row was marked to be replaced at the next reset."),
    Xid(64, "GPU memory remapping failure", _A.RESET, "A memory row could not be replaced."),
    Xid(66, "Illegal access by driver", _A.NOTHING),
    Xid(67, "Illegal access by driver", _A.NOTHING),
    Xid(68, "NVDEC0 Exception", _A.APPLICATION),
    Xid(69, "Graphics Engine class error", _A.APPLICATION, _SOFTWARE),
    *(Xid(67 + n, f"CE{n}: Unknown Error", _A.APPLICATION) for n in (3, 4, 5)),
    Xid(74, "NVLINK Error", _A.LINK, "A link to another GPU or a switch failed, at this end or the other."),
    *(Xid(69 + n, f"CE{n}: Unknown Error", _A.APPLICATION) for n in (6, 7, 8)),
    Xid(78, "vGPU Start Error", _A.UPDATE),
    Xid(79, "GPU has fallen off the bus", _A.POWER_CYCLE, "The driver cannot reach the GPU over PCIe any more."),
    Xid(80, "Corrupted data sent to GPU", _A.APPLICATION),
    Xid(82, "NVJPG0 Error", _A.APPLICATION),
    *(Xid(82 + n, f"NVDEC{n} Error", _A.APPLICATION) for n in (1, 2)),
    Xid(85, "CE9: Unknown Error", _A.APPLICATION),
    Xid(86, "OFA Exception", _A.APPLICATION),
    *(Xid(85 + n, f"NVDEC{n} Error", _A.APPLICATION) for n in (3, 4)),
    Xid(92, "High single-bit ECC error rate", _A.WATCH, "Memory errors are corrected, but there are many."),
    Xid(93, "Non-fatal violation of provisioned InfoROM wear limit", _A.NOTHING),
    Xid(94, "Contained memory error", _A.RESTART_THEN_RESET, f"{_MEMORY} It hit one program only."),
    Xid(95, "Uncontained memory error", _A.RESET, f"{_MEMORY} Every program on the GPU may be hit."),
    *(Xid(91 + n, f"NVDEC{n} Error", _A.APPLICATION) for n in (5, 6, 7)),
    *(Xid(98 + n, f"NVJPG{n} Error", _A.APPLICATION) for n in range(1, 8)),
    Xid(106, "SMBPBI Test Message", _A.NOTHING),
    Xid(107, "SMBPBI Test Message Silent", _A.NOTHING),
    Xid(109, "Context Switch Timeout Error", _A.RESET),
    Xid(110, "Security Fault Error", _A.RESET),
    Xid(119, "GSP RPC Timeout", _A.RESET, _GSP),
    Xid(120, "GSP Error", _A.RESET, _GSP),
    Xid(121, "C2C Error", _A.NOTHING, "Errors on the link to the CPU were corrected; a reset trains it again."),
    *(Xid(116 + n, f"CE{n}: Unknown Error", _A.APPLICATION) for n in range(10, 20)),
    Xid(136, "Link Training Failed", _A.LINK),
    Xid(137, "NVLink Privilege Error", _A.APPLICATION, "A program used an address of another GPU that it does not have."),
    Xid(139, "OFA1 Error", _A.APPLICATION),
    Xid(140, "ECC Unrecovered Error", _A.RESET, _MEMORY),
    Xid(141, "CUDA Fast Path Error", _A.NOTHING),
    Xid(142, "NVENC3 Error", _A.WATCH),
    Xid(143, "GPU Initialization Error", _A.RESET),
    Xid(144, "NVLINK: SAW Error", _A.LINK),
    Xid(145, "NVLINK: RLW Error", _A.LINK),
    Xid(146, "NVLINK: TLW Error", _A.LINK),
    Xid(147, "NVLINK: TREX Error", _A.LINK),
    Xid(148, "NVLINK: NVLPW_CTRL Error", _A.LINK),
    Xid(149, "NVLINK: NETIR Error", _A.LINK),
    Xid(150, "NVLINK: MSE Error", _A.LINK),
    Xid(151, "Key rotation Error", _A.RESTART),
    Xid(152, "DLA SMMU Error", _A.NOTHING),
    Xid(153, "DLA timeout Error", _A.NOTHING),
    Xid(154, "GPU Recovery Action Changed", _A.RECOVERY),
    Xid(155, "NVLINK: SW Defined Error", _A.LINK, "Also written when a link is taken down on purpose."),
    Xid(156, "Resource Retirement Event", _A.RESET, "A part of the chip was marked to be replaced by a spare one."),
    Xid(157, "Resource Retirement Failure", _A.WATCH, "No spare part of the chip is left."),
    Xid(158, "GPU Fatal Timeout", _A.RESET),
    Xid(159, "CHI Non-Data Error", _A.WATCH),
    Xid(160, "Channel Retirement Event", _A.NOTHING),
    Xid(161, "Channel Retirement Failure", _A.WATCH),
    Xid(162, "Power smoothing capability reengaged", _A.NOTHING),
    Xid(163, "Power smoothing capability disengaged", _A.WATCH),
    Xid(164, "Power smoothing low lifetime reached", _A.WATCH),
    Xid(165, "Power smoothing lifetime exhausted", _A.WATCH),
    Xid(166, "Traffic before the link was configured for encryption", _A.WATCH),
    Xid(167, "PCIe fatal timeout", _A.WATCH),
    Xid(168, "Errors found in the write protected region", _A.WATCH, "Seen where ECC is off."),
    Xid(169, "Internal micro-controller halt", _A.WATCH),
    Xid(170, "Interrupt seen in confidential computing mode", _A.WATCH),
    Xid(171, "Uncorrectable DRAM error", _A.RESET, _MEMORY),
    Xid(172, "Uncorrectable SRAM error", _A.RESET, _MEMORY),
)  # fmt: skip

_BY_CODE = {xid.code: xid for xid in XIDS}


def of_code(code: int) -> Xid:
    """Return the row of a code; one that the catalogue does not have is to be watched."""
    return _BY_CODE.get(code) or Xid(code, "Unknown XID", Action.WATCH)


def name(code: int) -> str:
    """Return the name that stands beside the code, such as "GPU has fallen off the bus"; 0 is no error."""
    return "No Error" if code == 0 else of_code(code).name
