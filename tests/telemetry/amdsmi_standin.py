"""A stand-in for ROCm's Python module amdsmi 7.0: the shapes of its real answers, "N/A" included, and its exceptions.

Shapes from amdsmi_interface.py of the package amdsmi 7.0.2 (MIT). `answers[device][call]` may be set to another answer or
to an error code.
"""

from enum import IntEnum


class AmdSmiException(Exception):
    pass


class AmdSmiLibraryException(AmdSmiException):
    def __init__(self, err_code):
        super().__init__(err_code)
        self.err_code = err_code


class AmdSmiTemperatureType(IntEnum):
    EDGE = 0
    HOTSPOT = 1
    VRAM = 2


class AmdSmiTemperatureMetric(IntEnum):
    CURRENT = 0


class AmdSmiClkType(IntEnum):
    SYS = 0
    GFX = 0
    MEM = 4


class StandIn:
    """An MI300X: no edge sensor, `current_socket_power` filled and the older members "N/A"."""

    AmdSmiException = AmdSmiException
    AmdSmiLibraryException = AmdSmiLibraryException
    AmdSmiTemperatureType = AmdSmiTemperatureType
    AmdSmiTemperatureMetric = AmdSmiTemperatureMetric
    AmdSmiClkType = AmdSmiClkType

    def __init__(self, n_devices=2):
        self.n_devices, self.is_init, self.init_error = n_devices, False, None
        self.answers = [self._defaults(number) for number in range(n_devices)]
        self.asked = []

    def amdsmi_init(self):
        if self.init_error is not None:
            raise AmdSmiLibraryException(self.init_error)
        self.is_init = True

    def amdsmi_shut_down(self):
        self.is_init = False

    def amdsmi_get_processor_handles(self):
        return list(range(self.n_devices))

    def amdsmi_get_temp_metric(self, handle, sensor, metric):
        return self._answer(handle, f"temperature.{sensor.name}")

    def amdsmi_get_clock_info(self, handle, kind):
        return self._answer(handle, "clock.MEM" if kind == AmdSmiClkType.MEM else "clock.GFX")

    def __getattr__(self, name):
        if not name.startswith("amdsmi_get_"):
            raise AttributeError(name)
        return lambda handle: self._answer(handle, name.removeprefix("amdsmi_get_"))

    def _answer(self, handle, call):
        self.asked.append((handle, call))
        if not self.is_init:
            raise AmdSmiLibraryException(32)
        answer = self.answers[handle][call]
        if isinstance(answer, AmdSmiLibraryException):
            raise answer
        return answer

    @staticmethod
    def _defaults(number):
        return {
            "gpu_asic_info": {"market_name": "AMD Instinct MI300X", "num_compute_units": 304, "asic_serial": "0x00AB"},
            "gpu_driver_info": {"driver_name": "amdgpu", "driver_version": "6.12.12", "driver_date": "N/A"},
            "gpu_device_bdf": f"0000:{number + 5:02x}:00.0",
            "gpu_device_uuid": f"{number:02x}ff74a1-0000-1000-80c3-7a2e61a3c8d4",
            "gpu_activity": {"gfx_activity": 97, "umc_activity": 41, "mm_activity": "N/A"},
            "power_info": {"socket_power": 612, "current_socket_power": 611, "average_socket_power": "N/A",
                           "gfx_voltage": 0, "soc_voltage": 0, "mem_voltage": 0, "power_limit": 750000000},
            "power_cap_info": {"power_cap": 750000000, "default_power_cap": 750000000, "dpm_cap": 0, "min_power_cap": 0,
                               "max_power_cap": 750000000},
            "energy_count": {"energy_accumulator": 100_000_000, "counter_resolution": 15.26, "timestamp": 1},
            "gpu_vram_usage": {"vram_total": 196592, "vram_used": 98296},
            "temperature.EDGE": AmdSmiLibraryException(2),
            "temperature.HOTSPOT": 71,
            "temperature.VRAM": 63,
            "clock.GFX": {"clk": 2100, "min_clk": 132, "max_clk": 2105, "clk_locked": False, "clk_deep_sleep": 0},
            "clock.MEM": {"clk": 1300, "min_clk": 900, "max_clk": 1300, "clk_locked": "N/A", "clk_deep_sleep": 0},
            "violation_status": {"active_prochot_thrm": False, "active_ppt_pwr": True, "active_socket_thrm": False,
                                 "active_vr_thrm": "N/A", "active_hbm_thrm": False},
            "gpu_total_ecc_count": {"correctable_count": 3, "uncorrectable_count": 0, "deferred_count": 0},
            "pcie_info": {"pcie_static": {"max_pcie_width": 16, "max_pcie_speed": 32000, "slot_type": "OAM"},
                          "pcie_metric": {"pcie_width": 16, "pcie_speed": 32000, "pcie_replay_count": 7}},
            "gpu_process_list": [{"name": "python3", "pid": 2**22 + 1, "mem": 4096, "cu_occupancy": 152,
                                  "engine_usage": {"gfx": 0, "enc": 0},
                                  "memory_usage": {"gtt_mem": 0, "cpu_mem": 0, "vram_mem": 2**30}}],
        }  # fmt: skip
