"""Small bench results, made up and in the shape that the benchmarks write, for tests of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lab.tracing.segments import ON_THE_WIRE, SEGMENTS, TOTAL

__all__ = [
    "MACHINE",
    "breakdown",
    "chrome_trace",
    "counts",
    "handoff",
    "idle",
    "latency",
    "ping",
    "sample",
    "store",
    "sweep",
    "throughput",
]

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


def ping() -> Samples:
    """Three answers each, native and optimised, at one pace."""
    return [
        sample(name, "rtt_ms", value + n / 100, unit="ms", profile="fast", pace_ms=5.0)
        for name, value in (("native", 0.1), ("optimised", 0.2))
        for n in range(3)
    ]


def latency() -> Samples:
    """Three lone transmissions in 2.0: every segment takes 2, 4 and 6 us."""
    metrics = (*SEGMENTS, ON_THE_WIRE, TOTAL)
    return [sample("2.0", name, 2000 * (n + 1), load="lone", unit="ns") for name in metrics for n in range(3)]


def breakdown() -> Samples:
    """Both modes of Tables 1 and 2, three rows each, and what tracing cost."""
    found = []
    for name, switching in (("2.0", 0.2), ("optimised", 0.01)):
        shares = {"switching": switching, "tap_write": 0.1, "something new": 0.05}
        found += [sample(name, "share", share, work=work) for work, share in shares.items()]
        found.append(sample(name, "average", 9000, unit="ns", work="tap_write"))
        found += [sample(name, "goodput_mbps", 50.0, tracing=state) for state in ("off", "on", "off again")]
    return found


def chrome_trace() -> dict[str, Any]:
    """One packet out and one in, on tracks of three processes; and a read() that finds nothing."""
    pids = {"guest": 11, "vmm": 12, "vmapp": 13}
    slices = (
        ("guest", "OUT Lance RDP", 100, 50),
        ("vmm", "OUT Lance RDP", 105, 40),
        ("vmapp", "host world (io)", 110, 30),
        ("vmapp", "write() on the TAP", 120, 10),
        ("guest", "interrupt handler", 160, 40),
        ("vmapp", "read() on the TAP", 300, 5),
        ("guest", "interrupt handler", 320, 30),
    )
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": role}} for role, pid in pids.items()
    ]
    events += [
        {"ph": "X", "name": name, "ts": begin, "dur": lasting, "pid": pids[role], "args": {"bytes": 60}}
        for role, name, begin, lasting in slices
    ]
    empty = {"ph": "X", "name": "read() on the TAP", "ts": 306, "dur": 1, "pid": 13, "args": {"bytes": 0}}
    return {"traceEvents": [*events, empty, {"ph": "X"}, 7, {"ph": "X", "pid": 13, "name": 3, "ts": "x", "dur": None}]}
