"""Small bench results, made up and in the shape that the benchmarks write, for tests of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["MACHINE", "counts", "handoff", "idle", "store", "sweep", "throughput"]

MACHINE = {
    "processor": "Test Processor <1>",
    "cpus": 2,
    "architecture": "x86_64",
    "kernel": "6.0",
    "python": "3.11.0",
    "packages": {"worldswitch": "0.1.0"},
}
EFFORT = {"runs": 2, "seconds": 5.0, "warm_up_seconds": 1.0, "discarded_rounds": 1}
Samples = list[dict[str, Any]]


def sample(configuration: str, metric: str, value: float, run: int = 1, unit: str = "1", **keys: Any) -> dict[str, Any]:
    """One sample as ``lab.bench.samples.Recorder`` writes it."""
    return {"configuration": configuration, "metric": metric, "unit": unit, "value": value, "run": run} | keys


def store(directory: Path, bench: str, samples: Samples, name: str = "", **head: Any) -> Path:
    """Writes a result file; ``head`` replaces what stands beside the samples."""
    path = directory / (name or f"{bench}.json")
    record = {"bench": bench, "settings": EFFORT, "machine": MACHINE, "complete": True, "samples": samples} | head
    path.write_text(json.dumps(record))
    return path


def throughput(link: str = "100mbit", profile: str = "paper", **mbps: float) -> Samples:
    """Two runs of each configuration (``v20`` stands for 2.0), both ways; 2.0 without idle time."""
    found = []
    for name, goodput in mbps.items():
        configuration = "2.0" if name == "v20" else name
        for direction in ("transmit", "receive"):
            keys = {"direction": direction, "link": link, "profile": profile}
            found += [sample(configuration, "goodput_mbps", goodput + run, run, "Mb/s", **keys) for run in (1, 2)]
            found.append(sample(configuration, "idle_share", 0.01 if name == "v20" else 0.4, **keys))
            found.append(sample(configuration, "retransmits", 3, **keys))
    return found


def idle(**shares: float) -> Samples:
    """One run of each row of Table 3 (``v20``, ``without``: 2.0, without notification), HLT in the vmm."""
    names = {"v20": "2.0", "without": "without notification"}
    keys = {"direction": "transmit", "link": "100mbit", "profile": "paper", "metric": "idle_share"}
    return [
        sample(names.get(name, name), value=share, hlt="-" if name == "native" else "vmm", **keys)
        for name, share in shares.items()
    ]


def sweep() -> Samples:
    """Three sizes, both shares of the CPU: optimised at half the CPU as quick as 2.0 with all of it."""
    speeds = {"native": 90.0, "2.0": 40.0, "optimised": 80.0}
    return [
        sample(name, "goodput_mbps", speed * share, cpu=cpu, operation_bytes=size, link="100mbit", profile="paper")
        for cpu, share in (("full", 1.0), ("half", 0.5))
        for size in (512, 4096, 32768)
        for name, speed in speeds.items()
    ]


def counts() -> Samples:
    """Lone packets sent with Linux 2.2's driver in mode 2.0, exactly as the paper counts them."""
    keys = {"driver": "linux22", "load": "lone", "direction": "transmit", "link": "100mbit", "profile": "paper"}
    figures = {"port_accesses_per_packet": 12, "irqs_per_packet": 1, "pic_accesses_per_irq": 5}
    return [sample("2.0", metric, value, **keys) for metric, value in figures.items()]


def handoff() -> Samples:
    """One doorbell on one CPU, three layers."""
    keys = {"doorbell": "eventfd", "placement": "same CPU", "unit": "ns"}
    return [
        sample(layer, metric, nanoseconds, 0, **keys)
        for layer, nanoseconds in (("raw", 6000), ("vmm", 12000), ("vmapp", 24000))
        for metric in ("round_trip_p50", "round_trip_p99")
    ]
