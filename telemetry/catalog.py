"""The metric catalogue: one row per metric. Wire, store, exposition, API, chart labels and docs/metrics.md derive from it.

Adding a metric is one row here and one line in a backend. Ground floor: imports nothing of the project.
Sources: the NVML API reference, dcgm-exporter's default-counters.csv, and OpenTelemetry's semantic conventions for
hardware; the vendor's unit is converted to the base unit once, in the vendor's backend, and DCGM's unit is made from
the base unit once, by `dcgm_factor`.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    GAUGE = "gauge"  # a level: averaged over time
    COUNTER = "counter"  # only grows; a fall is a reset (driver reload, reboot)
    STATE = "state"  # a code or bit mask: never averaged


class AbsentReason(StrEnum):
    """Why a reading is missing. Missing is never zero: it is left out, and shown as "—" with this reason."""

    NOT_SUPPORTED = "not_supported"
    NO_PERMISSION = "no_permission"
    GPU_IS_LOST = "gpu_is_lost"
    RESET_REQUIRED = "reset_required"
    TIMEOUT = "timeout"
    RELEASED = "released"
    DRIVER_AWAY = "driver_away"
    NO_WORKLOAD = "no_workload"
    SCHEDULER_AWAY = "scheduler_away"
    UNKNOWN = "unknown"

    @property
    def sentence(self) -> str:
        return _REASON_SENTENCES[self]


_REASON_SENTENCES = {
    AbsentReason.NOT_SUPPORTED: "not offered by this device or its driver",
    AbsentReason.NO_PERMISSION: "the agent has no permission to read it",
    AbsentReason.GPU_IS_LOST: "the device fell off the bus",
    AbsentReason.RESET_REQUIRED: "the device must be reset",
    AbsentReason.TIMEOUT: "the driver call does not return",
    AbsentReason.RELEASED: "the agent has let go of the driver, as it was asked to",
    AbsentReason.DRIVER_AWAY: "the driver cannot be reached",
    AbsentReason.NO_WORKLOAD: "the device tells this only while a workload runs",
    AbsentReason.SCHEDULER_AWAY: "the scheduler that gives devices away on this host does not tell",
    AbsentReason.UNKNOWN: "the driver gave an answer that is not understood",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One quantity of a device, in base units.

    `number` names the metric on the wire, for ever: a number is never given twice. `resolution` is the smallest step that
    travels: values are sent as integers of that step, which is the vendor's own step, so that nothing is lost.
    `dcgm_factor` turns the base unit into that of the DCGM name. `source` is the vendor's call.
    `across` has statistics kept across the devices of each group (fleet, cluster, model, label).
    """

    number: int
    name: str
    kind: Kind
    unit: str
    label: str
    help: str
    resolution: float
    source: str
    dcgm_name: str = ""
    dcgm_factor: float = 1.0
    otel_name: str = ""
    across: bool = False


_MIB = 1 / 2**20
_G, _C, _S = Kind.GAUGE, Kind.COUNTER, Kind.STATE

METRICS: tuple[Metric, ...] = (
    Metric(1, "gpu_utilization_ratio", _G, "ratio", "Utilisation",
           "Share of time in which any kernel ran (CPU: share of time the cores were busy); not how full the device was.",
           1e-4, "nvmlDeviceGetUtilizationRates", "DCGM_FI_DEV_GPU_UTIL", 100, otel_name="hw.gpu.utilization", across=True),
    Metric(2, "memory_controller_utilization_ratio", _G, "ratio", "Memory controller",
           "Share of time in which device memory was being read or written; not the fraction in use.",
           1e-4, "nvmlDeviceGetUtilizationRates", "DCGM_FI_DEV_MEM_COPY_UTIL", 100),
    Metric(3, "encoder_utilization_ratio", _G, "ratio", "Encoder",
           "Share of time in which the video encoder was busy.",
           1e-4, "nvmlDeviceGetEncoderUtilization", "DCGM_FI_DEV_ENC_UTIL", 100, otel_name="hw.gpu.utilization"),
    Metric(4, "decoder_utilization_ratio", _G, "ratio", "Decoder",
           "Share of time in which the video decoder was busy.",
           1e-4, "nvmlDeviceGetDecoderUtilization", "DCGM_FI_DEV_DEC_UTIL", 100, otel_name="hw.gpu.utilization"),
    Metric(5, "memory_total_bytes", _G, "bytes", "Memory",
           "Memory of the device.",
           1, "nvmlDeviceGetMemoryInfo_v2", "DCGM_FI_DEV_FB_TOTAL", _MIB, otel_name="hw.gpu.memory.limit"),
    Metric(6, "memory_used_bytes", _G, "bytes", "Memory used",
           "Memory in use, without what the driver reserves.",
           1, "nvmlDeviceGetMemoryInfo_v2", "DCGM_FI_DEV_FB_USED", _MIB, otel_name="hw.gpu.memory.usage", across=True),
    Metric(7, "memory_free_bytes", _G, "bytes", "Memory free",
           "Memory free to allocate.",
           1, "nvmlDeviceGetMemoryInfo_v2", "DCGM_FI_DEV_FB_FREE", _MIB),
    Metric(8, "memory_reserved_bytes", _G, "bytes", "Memory reserved",
           "Memory reserved by the driver.",
           1, "nvmlDeviceGetMemoryInfo_v2", "DCGM_FI_DEV_FB_RESERVED", _MIB),
    Metric(9, "memory_used_ratio", _G, "ratio", "Memory in use",
           "Memory in use as a share of what can be allocated.",
           1e-4, "derived: used / (total - reserved)", "DCGM_FI_DEV_FB_USED_PERCENT",
           otel_name="hw.gpu.memory.utilization", across=True),
    Metric(10, "power_draw_watts", _G, "watts", "Power",
           "Power draw of the device (averaging window depends on the board; kind node: of the whole host).",
           1e-3, "NVML_FI_DEV_POWER_AVERAGE", "DCGM_FI_DEV_POWER_USAGE", otel_name="hw.power", across=True),
    Metric(11, "power_draw_instant_watts", _G, "watts", "Power, instantaneous",
           "Power draw at the moment of the reading, where the driver offers it beside the average.",
           1e-3, "NVML_FI_DEV_POWER_INSTANT", "DCGM_FI_DEV_POWER_USAGE_INSTANT"),
    Metric(12, "power_limit_watts", _G, "watts", "Power limit",
           "Enforced power limit.",
           1e-3, "nvmlDeviceGetEnforcedPowerLimit", "DCGM_FI_DEV_POWER_MGMT_LIMIT", otel_name="hw.power.limit"),
    Metric(13, "energy_joules_total", _C, "joules", "Energy",
           "Energy used since the driver was loaded.",
           1e-3, "NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 1000, otel_name="hw.energy"),
    Metric(14, "temperature_celsius", _G, "celsius", "Temperature",
           "Temperature of the chip.",
           0.1, "nvmlDeviceGetTemperature", "DCGM_FI_DEV_GPU_TEMP", otel_name="hw.temperature", across=True),
    Metric(15, "memory_temperature_celsius", _G, "celsius", "Memory temperature",
           "Temperature of the device memory.",
           0.1, "NVML_FI_DEV_MEMORY_TEMP", "DCGM_FI_DEV_MEMORY_TEMP", otel_name="hw.temperature", across=True),
    Metric(16, "sm_clock_hertz", _G, "hertz", "SM clock",
           "Clock of the streaming multiprocessors (CPU: mean core clock).",
           1000, "nvmlDeviceGetClockInfo", "DCGM_FI_DEV_SM_CLOCK", 1e-6, across=True),
    Metric(17, "sm_clock_max_hertz", _G, "hertz", "SM clock, maximum",
           "Highest clock that the device offers.",
           1000, "nvmlDeviceGetMaxClockInfo"),
    Metric(18, "memory_clock_hertz", _G, "hertz", "Memory clock",
           "Clock of the device memory.",
           1000, "nvmlDeviceGetClockInfo", "DCGM_FI_DEV_MEM_CLOCK", 1e-6),
    Metric(19, "clock_event_reasons", _S, "bitmask", "Clock event reasons",
           "Why the clock is below what was asked for (bit mask).",
           1, "nvmlDeviceGetCurrentClocksEventReasons", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"),
    Metric(20, "power_throttle_seconds_total", _C, "seconds", "Slowed by the power cap",
           "Time in which the power cap held the clocks down.",
           1e-6, "NVML_FI_DEV_PERF_POLICY_POWER", "DCGM_FI_DEV_POWER_VIOLATION", 1e9),
    Metric(21, "thermal_throttle_seconds_total", _C, "seconds", "Slowed by heat",
           "Time in which the driver held the clocks down because of heat.",
           1e-6, "NVML_FI_DEV_PERF_POLICY_THERMAL", "DCGM_FI_DEV_THERMAL_VIOLATION", 1e9),
    Metric(22, "pcie_tx_bytes_per_second", _G, "bytes_per_second", "PCIe sent",
           "Bytes that the device sends over PCIe.",
           1024, "NVML_GPM_METRIC_PCIE_TX_PER_SEC", "DCGM_FI_PROF_PCIE_TX_BYTES", otel_name="hw.gpu.io"),
    Metric(23, "pcie_rx_bytes_per_second", _G, "bytes_per_second", "PCIe received",
           "Bytes that the device receives over PCIe.",
           1024, "NVML_GPM_METRIC_PCIE_RX_PER_SEC", "DCGM_FI_PROF_PCIE_RX_BYTES", otel_name="hw.gpu.io"),
    Metric(24, "pcie_replay_total", _C, "replays", "PCIe replays",
           "PCIe packets sent again.",
           1, "nvmlDeviceGetPcieReplayCounter", "DCGM_FI_DEV_PCIE_REPLAY_COUNTER"),
    Metric(25, "pcie_link_generation", _S, "generation", "PCIe generation",
           "Current PCIe link generation.",
           1, "nvmlDeviceGetCurrPcieLinkGeneration", "DCGM_FI_DEV_PCIE_LINK_GEN"),
    Metric(26, "pcie_link_generation_max", _S, "generation", "PCIe generation, maximum",
           "Highest PCIe link generation of device and slot.",
           1, "nvmlDeviceGetMaxPcieLinkGeneration", "DCGM_FI_DEV_PCIE_MAX_LINK_GEN"),
    Metric(27, "pcie_link_width", _S, "lanes", "PCIe width",
           "Current PCIe link width.",
           1, "nvmlDeviceGetCurrPcieLinkWidth", "DCGM_FI_DEV_PCIE_LINK_WIDTH"),
    Metric(28, "pcie_link_width_max", _S, "lanes", "PCIe width, maximum",
           "Widest PCIe link of device and slot.",
           1, "nvmlDeviceGetMaxPcieLinkWidth", "DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH"),
    Metric(29, "nvlink_tx_bytes_per_second", _G, "bytes_per_second", "NVLink sent",
           "Bytes that the device sends over all its NVLinks.",
           1024, "NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC", "DCGM_FI_PROF_NVLINK_TX_BYTES"),
    Metric(30, "nvlink_rx_bytes_per_second", _G, "bytes_per_second", "NVLink received",
           "Bytes that the device receives over all its NVLinks.",
           1024, "NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC", "DCGM_FI_PROF_NVLINK_RX_BYTES"),
    Metric(31, "nvlink_bytes_per_second", _G, "bytes_per_second", "NVLink",
           "Bytes over all NVLinks in both directions, from the link counters.",
           1024, "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, _RX", "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", 1 / 1024e3),
    Metric(32, "nvlink_crc_flit_errors_total", _C, "errors", "NVLink flit CRC errors",
           "Flow-control units that arrived damaged over NVLink.",
           1, "nvmlDeviceGetNvLinkErrorCounter", "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL"),
    Metric(33, "nvlink_crc_data_errors_total", _C, "errors", "NVLink data CRC errors",
           "Data packets that arrived damaged over NVLink.",
           1, "nvmlDeviceGetNvLinkErrorCounter", "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL"),
    Metric(34, "nvlink_replay_errors_total", _C, "errors", "NVLink replays",
           "Transmissions repeated over NVLink.",
           1, "nvmlDeviceGetNvLinkErrorCounter", "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL"),
    Metric(35, "nvlink_recovery_errors_total", _C, "errors", "NVLink recoveries",
           "Times that an NVLink had to be trained again.",
           1, "nvmlDeviceGetNvLinkErrorCounter", "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL"),
    Metric(36, "nvlink_errors_total", _C, "errors", "NVLink errors",
           "All NVLink errors: CRC, replays and recoveries; of NVLink 5 damaged and discarded packets, and recoveries.",
           1, "derived: sum of the four NVLink error counters; of NVLink 5 RCV_ERRORS, XMIT_DISCARDS, LINK_RECOVERY_EVENTS"),
    Metric(37, "ecc_corrected_total", _C, "errors", "ECC corrected",
           "Corrected memory errors since the driver was loaded.",
           1, "NVML_FI_DEV_ECC_SBE_VOL_TOTAL", "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", otel_name="hw.errors"),
    Metric(38, "ecc_uncorrected_total", _C, "errors", "ECC uncorrected",
           "Uncorrected memory errors since the driver was loaded.",
           1, "NVML_FI_DEV_ECC_DBE_VOL_TOTAL", "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", otel_name="hw.errors"),
    Metric(39, "remapped_rows_corrected_total", _C, "rows", "Rows remapped, corrected",
           "Memory rows replaced after corrected errors.",
           1, "NVML_FI_DEV_REMAPPED_COR", "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS"),
    Metric(40, "remapped_rows_uncorrected_total", _C, "rows", "Rows remapped, uncorrected",
           "Memory rows replaced after uncorrected errors.",
           1, "NVML_FI_DEV_REMAPPED_UNC", "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS"),
    Metric(41, "row_remap_pending", _S, "flag", "Row remap pending",
           "1 where a memory row is to be replaced at the next reset.",
           1, "NVML_FI_DEV_REMAPPED_PENDING", "DCGM_FI_DEV_ROW_REMAP_PENDING"),
    Metric(42, "row_remap_failure", _S, "flag", "Row remap failed",
           "1 where a memory row could not be replaced: the board is to be replaced.",
           1, "NVML_FI_DEV_REMAPPED_FAILURE", "DCGM_FI_DEV_ROW_REMAP_FAILURE"),
    Metric(43, "xid_last", _S, "code", "Last XID",
           "Code of the last XID error since the agent began to listen, 0 before the first.",
           1, "nvmlEventSetWait: NVML_EVENT_TYPE_XID_CRITICAL_ERROR", "DCGM_FI_DEV_XID_ERRORS"),
    Metric(44, "xid_errors_total", _C, "errors", "XID errors",
           "XID errors since the agent began to listen.",
           1, "nvmlEventSetWait: NVML_EVENT_TYPE_XID_CRITICAL_ERROR"),
    Metric(45, "recovery_action", _S, "code", "Recovery action",
           "What the driver wants: 0 nothing, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset, 5 IMEX, 6 bus reset, 7 reboot.",
           1, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION", otel_name="hw.status"),
    Metric(46, "graphics_engine_active_ratio", _G, "ratio", "Graphics engine active",
           "Share of time in which the graphics or compute engine was active.",
           1e-4, "NVML_GPM_METRIC_GRAPHICS_UTIL", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"),
    Metric(47, "sm_active_ratio", _G, "ratio", "SMs active",
           "Share of time in which a streaming multiprocessor had at least one warp, mean over all of them.",
           1e-4, "NVML_GPM_METRIC_SM_UTIL", "DCGM_FI_PROF_SM_ACTIVE", across=True),
    Metric(48, "sm_occupancy_ratio", _G, "ratio", "SM occupancy",
           "Resident warps as a share of the most that fit.",
           1e-4, "NVML_GPM_METRIC_SM_OCCUPANCY", "DCGM_FI_PROF_SM_OCCUPANCY"),
    Metric(49, "tensor_active_ratio", _G, "ratio", "Tensor pipe active",
           "Share of cycles in which the tensor pipe was active.",
           1e-4, "NVML_GPM_METRIC_ANY_TENSOR_UTIL", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", across=True),
    Metric(50, "dram_active_ratio", _G, "ratio", "Memory bandwidth used",
           "Share of cycles in which device memory was sending or receiving.",
           1e-4, "NVML_GPM_METRIC_DRAM_BW_UTIL", "DCGM_FI_PROF_DRAM_ACTIVE", across=True),
    Metric(51, "fp64_active_ratio", _G, "ratio", "FP64 pipe active",
           "Share of cycles in which the FP64 pipe was active.",
           1e-4, "NVML_GPM_METRIC_FP64_UTIL", "DCGM_FI_PROF_PIPE_FP64_ACTIVE"),
    Metric(52, "fp32_active_ratio", _G, "ratio", "FP32 pipe active",
           "Share of cycles in which the FP32 pipe was active.",
           1e-4, "NVML_GPM_METRIC_FP32_UTIL", "DCGM_FI_PROF_PIPE_FP32_ACTIVE"),
    Metric(53, "fp16_active_ratio", _G, "ratio", "FP16 pipe active",
           "Share of cycles in which the FP16 pipe was active.",
           1e-4, "NVML_GPM_METRIC_FP16_UTIL", "DCGM_FI_PROF_PIPE_FP16_ACTIVE"),
    Metric(54, "fan_speed_ratio", _G, "ratio", "Fan",
           "Fan speed as a share of its maximum.",
           1e-4, "nvmlDeviceGetFanSpeed", "DCGM_FI_DEV_FAN_SPEED", 100, otel_name="hw.fan.speed_ratio"),
    Metric(55, "host_cpu_utilization_ratio", _G, "ratio", "Host CPU",
           "Share of time in which the host's cores were busy.",
           1e-4, "psutil: cpu_times"),
    Metric(56, "host_memory_total_bytes", _G, "bytes", "Host memory",
           "Memory of the host.",
           1, "psutil: virtual_memory"),
    Metric(57, "host_memory_used_bytes", _G, "bytes", "Host memory used",
           "Memory of the host that is not available to a new program.",
           1, "psutil: virtual_memory"),
    Metric(58, "host_cpu_pressure_ratio", _G, "ratio", "CPU pressure",
           "Share of the last 10 s in which some task waited for a core.",
           1e-4, "/proc/pressure/cpu: some avg10"),
    Metric(59, "host_memory_pressure_ratio", _G, "ratio", "Memory pressure",
           "Share of the last 10 s in which some task waited for memory.",
           1e-4, "/proc/pressure/memory: some avg10"),
    Metric(60, "host_io_pressure_ratio", _G, "ratio", "I/O pressure",
           "Share of the last 10 s in which some task waited for input or output.",
           1e-4, "/proc/pressure/io: some avg10"),
    Metric(61, "agent_cpu_seconds_total", _C, "seconds", "Agent CPU",
           "CPU time that the agent has used.",
           1e-4, "getrusage"),
    Metric(62, "agent_resident_bytes", _G, "bytes", "Agent memory",
           "Resident memory of the agent.",
           1024, "/proc/self/statm"),
    Metric(63, "agent_tick_lateness_seconds", _G, "seconds", "Agent lateness",
           "How late the agent's latest tick since the one before began.",
           1e-5, "the agent's own clock"),
    Metric(64, "agent_batches_sent_total", _C, "batches", "Batches sent",
           "Batches that the broker has taken from the agent since its start.",
           1, "the agent's own count"),
    Metric(65, "agent_batches_spooled", _G, "batches", "Batches waiting",
           "Batches that wait in the agent's spool until the server has stored them.",
           1, "the agent's own count"),
    Metric(66, "agent_batches_dropped_total", _C, "batches", "Batches dropped",
           "Batches that the agent gave up since its start, its spool being full or they too old.",
           1, "the agent's own count"),
    Metric(67, "agent_step_frames_refused_total", _C, "frames", "Step frames refused",
           "Datagrams on the step socket that were no step timing.",
           1, "the agent's own count"),
    Metric(68, "vgpu_licensed", _S, "flag", "vGPU licence",
           "1 where the vGPU software of a guest has its licence, 0 where not; absent where none is needed.",
           1, "nvmlDeviceGetGridLicensableFeatures_v4", "DCGM_FI_DEV_VGPU_LICENSE_STATUS"),
    Metric(69, "nvlink_rx_malformed_total", _C, "errors", "NVLink malformed packets",
           "Packets that arrived malformed over NVLink 5.",
           1, "NVML_FI_DEV_NVLINK_COUNT_MALFORMED_PACKET_ERRORS", "DCGM_FI_DEV_NVLINK_COUNT_RX_MALFORMED_PACKET_ERRORS"),
    Metric(70, "nvlink_rx_overruns_total", _C, "errors", "NVLink buffer overruns",
           "Packets that arrived over NVLink 5 and found no room.",
           1, "NVML_FI_DEV_NVLINK_COUNT_BUFFER_OVERRUN_ERRORS", "DCGM_FI_DEV_NVLINK_COUNT_RX_BUFFER_OVERRUN_ERRORS"),
    Metric(71, "nvlink_rx_errors_total", _C, "errors", "NVLink damaged packets",
           "Packets that arrived with errors over NVLink 5.",
           1, "NVML_FI_DEV_NVLINK_COUNT_RCV_ERRORS", "DCGM_FI_DEV_NVLINK_COUNT_RX_ERRORS"),
    Metric(72, "nvlink_rx_remote_errors_total", _C, "errors", "NVLink packets marked bad",
           "Packets that the far end of an NVLink 5 had marked as bad.",
           1, "NVML_FI_DEV_NVLINK_COUNT_RCV_REMOTE_ERRORS", "DCGM_FI_DEV_NVLINK_COUNT_RX_REMOTE_ERRORS"),
    Metric(73, "nvlink_rx_general_errors_total", _C, "errors", "NVLink header mismatches",
           "Packets that arrived over NVLink 5 with a header that does not fit.",
           1, "NVML_FI_DEV_NVLINK_COUNT_RCV_GENERAL_ERRORS", "DCGM_FI_DEV_NVLINK_COUNT_RX_GENERAL_ERRORS"),
    Metric(74, "nvlink_integrity_errors_total", _C, "errors", "NVLink integrity errors",
           "Times that the local errors of an NVLink 5 went over their threshold.",
           1, "NVML_FI_DEV_NVLINK_COUNT_LOCAL_LINK_INTEGRITY_ERRORS",
           "DCGM_FI_DEV_NVLINK_COUNT_LOCAL_LINK_INTEGRITY_ERRORS"),
    Metric(75, "nvlink_tx_discards_total", _C, "errors", "NVLink packets discarded",
           "Packets with errors that were not sent over NVLink 5.",
           1, "NVML_FI_DEV_NVLINK_COUNT_XMIT_DISCARDS", "DCGM_FI_DEV_NVLINK_COUNT_TX_DISCARDS"),
    Metric(76, "nvlink_recoveries_succeeded_total", _C, "errors", "NVLink recoveries, succeeded",
           "Times that an NVLink 5 broke and came back.",
           1, "NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_SUCCESSFUL_EVENTS",
           "DCGM_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_SUCCESSFUL_EVENTS"),
    Metric(77, "nvlink_recoveries_failed_total", _C, "errors", "NVLink recoveries, failed",
           "Times that an NVLink 5 broke and stayed down.",
           1, "NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS",
           "DCGM_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS"),
    Metric(78, "nvlink_recoveries_total", _C, "errors", "NVLink recoveries, all",
           "Times that an NVLink 5 broke, whether it came back or not.",
           1, "NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS", "DCGM_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS"),
    Metric(79, "nvlink_effective_errors_total", _C, "errors", "NVLink effective errors",
           "Errors in the packets of NVLink 5, those of all packets together.",
           1, "NVML_FI_DEV_NVLINK_COUNT_EFFECTIVE_ERRORS", "DCGM_FI_DEV_NVLINK_COUNT_EFFECTIVE_ERRORS"),
    Metric(80, "nvlink_symbol_errors_total", _C, "errors", "NVLink symbol errors",
           "Symbols that arrived damaged over NVLink 5.",
           1, "NVML_FI_DEV_NVLINK_COUNT_SYMBOL_ERRORS", "DCGM_FI_DEV_NVLINK_COUNT_RX_SYMBOL_ERRORS"),
    # Without DCGM's names: dcgm-exporter prints six decimals, in which every ratio of a working link is 0.
    Metric(81, "nvlink_effective_bit_error_ratio", _G, "ratio", "NVLink effective bit errors",
           "Effective errors of NVLink 5 per bit; what is below 1e-15 is 0.",
           1e-15, "NVML_FI_DEV_NVLINK_COUNT_EFFECTIVE_BER"),
    Metric(82, "nvlink_symbol_bit_error_ratio", _G, "ratio", "NVLink symbol bit errors",
           "Symbol errors of NVLink 5 per bit; what is below 1e-15 is 0.",
           1e-15, "NVML_FI_DEV_NVLINK_COUNT_SYMBOL_BER"),
    Metric(120, "agent_spool_bytes", _G, "bytes", "Agent spool",
           "Disk that the batches take which wait for the server to store them.",
           4096, "the agent's own count"),
    Metric(121, "agent_spool_failed", _S, "flag", "Agent spool failed",
           "1 while the agent's spool on the disk cannot be written and batches wait in memory, else 0.",
           1, "the agent's own state"),
    Metric(122, "host_clock_offset_seconds", _G, "seconds", "Clock offset",
           "What is to be added to the host's clock to have the server's: below 0 where the host is ahead.",
           1e-4, "the server's acknowledgements, as NTP does it"),
    Metric(123, "host_clock_error_seconds", _G, "seconds", "Clock offset's error",
           "By how much the clock offset may be wrong: half the way of a batch and its acknowledgement.",
           1e-4, "the server's acknowledgements, as NTP does it"),
    Metric(130, "allocation", _S, "code", "Allocation",
           "Who has the device: 0 nobody, 1 a process uses it, 2 a Slurm job, 3 a Kubernetes pod; absent where nobody can tell.",
           1, "kubelet: PodResourcesLister; Slurm: the prolog's files, a process's job; the device's processes"),
)  # fmt: skip

BY_NAME: dict[str, Metric] = {metric.name: metric for metric in METRICS}
BY_NUMBER: dict[int, Metric] = {metric.number: metric for metric in METRICS}
