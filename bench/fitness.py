"""What speaks against a figure: the flags of the column ``validity``, each with its rule, its words and its remedy.

Every rule is judged from the columns of a row, so a run, ``info`` and a report say the same of the same state. A flag
that begins with ``unfit:`` says that the machine was not fit to measure; ``--strict`` then exits with 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.rule import (
    Rule,
    State,
    below,
    calibration_shift,
    column,
    count,
    cpu_share,
    held_back,
    held_back_words,
    listed,
    percent,
    unexplained_clock,
    unknown_state,
    unknown_words,
)
from bench.telemetry.reading import POWER_CAP_REASON, THROTTLE_REASONS
from bench.units import show_bytes

# The last is the default of intel_pstate and amd-pstate-epp in active mode; it does not hold the clock down under load.
GOVERNORS = ("performance", "powersave/performance", "powersave/balance_performance")


@dataclass(frozen=True)
class Finding:
    """A rule that fired on some state."""

    flag: str
    measured: str
    limit: str
    meaning: str
    remedy: str
    value: float  # the higher, the worse


def findings(state: State) -> list[Finding]:
    """The rules that fire, in their order."""
    found = []
    for rule in RULES.values():
        value = rule.value(state)
        if value is not None and value > rule.limit:
            measured = rule.show(state, value)
            found.append(Finding(rule.flag, measured, rule.show_limit, rule.meaning, rule.remedy, value))
    return found


def validity(state: State) -> list[str]:
    """The flags of a row: those that its columns raise, and those that it has and that its columns cannot judge."""
    raised = [one.flag for one in findings(state)]
    kept = [flag for flag in state["validity"] or () if flag not in RULES or RULES[flag].value(state) is None]
    return [*raised, *kept]


def markdown() -> str:
    """The rules as the table of ``docs/telemetry.md``."""
    lines = ["| flag | what it means | limit | what to do |", "| --- | --- | --- | --- |"]
    for rule in RULES.values():
        lines.append(f"| `{rule.flag}` | {rule.meaning} | {rule.show_limit or '–'} | {rule.remedy} |")
    return "\n".join(lines)


def is_unfit(flag: str) -> bool:
    return flag.startswith("unfit:")


RULES = {
    rule.flag: rule
    for rule in (
        Rule(
            "unfit:no-answer",
            "unfit",
            "the driver did not answer for the device",
            "look into the kernel's log, reset the GPU or restart the node",
            value=lambda state: None if state.get("device_error") is None else 1.0,
            show=lambda state, value: str(state["device_error"]),
            show_limit="answers",
        ),
        Rule(
            "unfit:xid",
            "unfit",
            "the driver reported critical errors (XID)",
            "look the number up in NVIDIA's XID catalogue; a GPU that repeats it is to be replaced",
            value=count("xids"),
            show=listed("xids"),
            show_limit="none",
        ),
        Rule(
            "unfit:ecc-uncorrected",
            "unfit",
            "the device's memory had errors that could not be corrected",
            "reset the GPU, run again, and have it replaced if they come back",
            value=column("ecc_uncorrected_delta"),
            show_limit="0",
        ),
        Rule(
            "unfit:row-remap-failed",
            "unfit",
            "the device has bad memory that it could not replace",
            "have the GPU replaced",
            value=column("row_remap_failed"),
            show=lambda state, value: "failed",
            show_limit="none failed",
        ),
        Rule(
            "unfit:row-remap-pending",
            "unfit",
            "bad memory waits for a reset to be replaced",
            "reset the GPU (nvidia-smi --gpu-reset, or restart the node), then measure",
            value=column("row_remap_pending"),
            show=lambda state, value: "pending",
            show_limit="none pending",
        ),
        Rule(
            "unfit:throttled",
            "unfit",
            "the device was slowed down by heat or a hardware brake",
            "look after cooling, dust, airflow and power cabling, and let it cool down",
            0.01,
            held_back("throttle_s", THROTTLE_REASONS),
            held_back_words("throttle_s", THROTTLE_REASONS),
            "1 % of the time",
        ),
        Rule(
            "unfit:too-hot",
            "unfit",
            "the device was about to slow down from heat",
            "look after cooling, dust and airflow of this device",
            -5.0,
            below("temperature_margin_c_min"),
            lambda state, value: f"{state['temperature_margin_c_min']:g} °C below its slowdown",
            "5 °C",
        ),
        Rule(
            "unfit:nvlink-down",
            "unfit",
            "NVLinks are not active",
            "look at nvidia-smi nvlink --status, the fabric manager and the baseboard",
            value=column("nvlinks_down"),
            show_limit="0",
        ),
        Rule(
            "unfit:pcie-width",
            "unfit",
            "the device uses fewer PCIe lanes than it could",
            "reseat the card or its riser, and look at the slot's wiring and the BIOS",
            value=below("pcie_width", "pcie_width_max"),
            show=lambda state, value: f"x{state['pcie_width']}",
            show_limit="all that device and slot have",
        ),
        Rule(
            "unfit:power-limit",
            "unfit",
            "the device's power limit is below the one it came with",
            "have it set back (nvidia-smi --power-limit), or state it with the result",
            1.0,
            below("power_limit_w", "power_limit_default_w"),
            lambda state, value: f"{state['power_limit_w']:g} of {state['power_limit_default_w']:g} W",
            "the default",
        ),
        Rule(
            "unfit:clocks-locked",
            "unfit",
            "someone holds the device's clocks below what it would choose",
            "have them released (nvidia-smi --reset-applications-clocks, --reset-gpu-clocks)",
            value=column("clocks_locked"),
            show=lambda state, value: "locked",
            show_limit="free",
        ),
        Rule(
            "unfit:shared-gpu",
            "unfit",
            "other processes were on the GPU",
            "end them, or measure when they are gone (nvidia-smi shows them)",
            value=column("foreign_gpu_processes"),
            show_limit="0",
        ),
        Rule(
            "unfit:calibration-shift",
            "unfit",
            "the calibration workload took another time after the pass than before",
            "let the machine settle, stop what else runs on it, and run again",
            0.05,
            calibration_shift,
            percent,
            "5 %",
        ),
        Rule(
            "unfit:steal",
            "unfit",
            "the hypervisor gave CPU time to others",
            "measure on a dedicated host, or ask for one without CPU overcommitment",
            0.01,
            cpu_share("steal_fraction"),
            percent,
            "1 %",
        ),
        Rule(
            "unfit:foreign-load",
            "unfit",
            "other processes used CPU time",
            "stop them, or measure when they are idle",
            0.05,
            cpu_share("foreign_cpu_fraction"),
            percent,
            "5 %",
        ),
        Rule(
            "unfit:cpu-quota",
            "unfit",
            "the container's CPU quota held threads back",
            "give it whole CPUs instead of a quota",
            0.01,
            column("cpu_quota_s"),
            lambda state, value: f"{value:.2f} s",
            "0.01 s",
        ),
        Rule(
            "unfit:swap",
            "unfit",
            "memory was swapped",
            "free memory, or measure what fits",
            float(1 << 20),
            column("swapped_bytes"),
            lambda state, value: show_bytes(int(value)),
            "1 MiB",
        ),
        Rule(
            "unfit:cpu-governor",
            "unfit",
            "the CPUs' frequency governor saves power",
            "have it set to performance (cpupower frequency-set --governor performance)",
            value=lambda state: float(state.get("cpu_governor") not in (None, *GOVERNORS)),
            show=lambda state, value: str(state["cpu_governor"]),
            show_limit="performance, or a preference for it",
        ),
        Rule(
            "unfit:debug-build",
            "unfit",
            "something slows this process down on purpose",
            "measure with release builds and without debugging settings",
            value=count("debug"),
            show=listed("debug"),
            show_limit="nothing",
        ),
        Rule(
            "state-unknown",
            "no state",
            "the GPU's state could not be read all the time",
            "give this user read access to NVML, and look why readings are missing; --telemetry-hz 0 reads nothing",
            value=lambda state: float(len(unknown_state(state))),
            show=unknown_words,
            show_limit="clock, temperature, throttling",
        ),
        Rule(
            "power-capped",
            "capped",
            "the power limit held the clocks back: the GPU's normal limit under full load",
            "compare with GPUs of the same power limit",
            0.01,
            held_back("power_cap_s", (POWER_CAP_REASON,)),
            held_back_words("power_cap_s", (POWER_CAP_REASON,)),
            "1 % of the time",
        ),
        Rule(
            "low-clock",
            "low clock",
            "the clock stayed far below its maximum and the driver names no reason: someone may have locked it",
            "have locked clocks released (nvidia-smi --reset-gpu-clocks), or state them with the result",
            0.15,
            unexplained_clock,
            lambda state, value: f"{state['sm_clock_mhz_mean']:.0f} of {state['sm_clock_max_mhz']:.0f} MHz",
            "85 % of the maximum",
        ),
        Rule(
            "ecc-corrected",
            "ecc",
            "the device's memory corrected errors",
            "watch whether they become more",
            value=column("ecc_corrected_delta"),
            show_limit="0",
        ),
        Rule(
            "output-differs",
            "other bits",
            "its output is not, bit by bit, that of another process or device on equal terms",
            "read output_difference; measure again, and have a device that repeats it replaced",
            value=lambda state: None if state.get("output_difference") is None else 1.0,
            show=lambda state, value: str(state["output_difference"]),
            show_limit="equal bits",
        ),
        Rule(
            "roof-too-low",
            "low roof",
            "the workload ran above its measured roof",
            "trust the value, not the fraction",
            # Roof and workload are measured one after the other; a hair above is noise, more is a roof found too low.
            1.02,
            column("fraction_of_roof"),
            percent,
            "102 %",
        ),
        Rule(
            "no-steady-state",
            "unsteady",
            "the warm-up ended at its limit, not at a steady state",
            "read the samples as they are",
        ),
        Rule(
            "mixed-environment",
            "mixed",
            "the run was resumed under another driver, library or device",
            "start a new run",
        ),
        Rule("cut-short", "cut short", "the budget ended sampling early", "give a larger --budget"),
        Rule(
            "unwatched",
            "unwatched",
            "another program measured it: its answers were not checked, nor its device watched",
            "trust it as far as that program",
        ),
        Rule(
            "no-samples",
            "no samples",
            "only figures of the samples were saved",
            "save them with --benchmark-json or --benchmark-save-data",
        ),
        Rule("simulated", "simulated", "the device is a script: the figure measures nothing", "measure a real device"),
    )
}
