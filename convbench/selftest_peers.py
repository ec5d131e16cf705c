"""The same launches under instruments of others (NVBench, Triton's do_bench, CUPTI), and under ourselves
in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from convbench.device import Call
from convbench.selftest import Outcome, outcome
from convbench.selftest_engine import MICRO, clock_of, tolerance

SAMPLES = 61
COPIES_MIB = (1, 4, 16, 64, 256, 1024)
GEMMS = (256, 512, 1024, 2048, 4096)
SPINS_US = (10, 30, 100, 300, 1000, 3000)
CONVOLUTIONS = (
    "n32c64h56k64r3p1",
    "n64c256h28k256r3p1",
    "n128c3h64k64r7u2p3",
    "n32c128h28k512r1",
    "n8c64h112k64r5p2",
)
LAYERS = (*CONVOLUTIONS, "n128c384h13k384r3", "n64c512h14k512r3p1", "n16c64h56k64r3p1u2")


def launches(device: Any) -> dict[str, Call]:
    """Spins, copies, matrix products and convolutions; every call has run before."""
    calls = dict(_launches(device))
    for call in calls.values():
        call()
    device.timer.stream.synchronize()
    return calls


def _launches(device: Any) -> Iterator[tuple[str, Call]]:
    from convbench.cublas import gemm
    from convbench.problem import Precision

    xp, hertz = device.xp, clock_of(device)
    for length in SPINS_US:
        yield f"spin {length} us", partial(device.timer.spin, round(length / MICRO * hertz))
    for size in COPIES_MIB:
        source = xp.random.default_rng(size).random(size << 17)
        yield f"copy {size} MiB", partial(xp.copyto, xp.empty_like(source), source)
    for n in GEMMS:
        yield f"gemm {n}", gemm(n, n, n, Precision.FP32).launch
    yield from _convolutions()


def _convolutions() -> Iterator[tuple[str, Call]]:
    from convbench import conformance, registry
    from convbench.problem import Problem

    torch = registry.algorithms("cuda")["torch"].algorithm
    for text in CONVOLUTIONS:
        problem = Problem.parse(text)
        if torch.reject(problem) is None:
            plan = torch.prepare(problem, torch.variants(problem, None)[0])
            a, b = conformance.questions(problem, "cuda").dense.operands
            out = type(a)(problem.shapes[2], a.dtype)
            yield f"conv {text}", partial(plan.run, a, b, out, None)


def ours(device: Any, calls: dict[str, Call]) -> dict[str, float]:
    """Median cold seconds by our timer."""
    return {name: median(device.timer.cold(call) for _ in range(SAMPLES)) for name, call in calls.items()}


# ---- Triton ------------------------------------------------------------------------------------------------


def do_bench(device: Any) -> Outcome:
    """V5: triton.testing.do_bench on the same calls, from 100 µs up."""
    import torch
    import triton

    calls = launches(device)
    mine, rows = ours(device, calls), []
    streams: Any = torch.cuda
    stream = streams.ExternalStream(device.timer.stream.ptr)
    for name, call in calls.items():
        if mine[name] >= 100e-6:
            with torch.cuda.stream(stream):
                theirs = triton.testing.do_bench(call, warmup=20, rep=80, return_mode="median") * 1e-3
            rows.append({"launch": name, "ours_us": mine[name] * MICRO, "theirs_us": theirs * MICRO})
    worst = max(abs(r["ours_us"] / r["theirs_us"] - 1) for r in rows)
    text = f"worst {worst:.2%} of {len(rows)} launches"
    return outcome("V5", "triton.testing.do_bench", text, "within 3 % from 100 µs up", worst <= 0.03, rows)


# ---- NVBench -----------------------------------------------------------------------------------------------


def nvbench(device: Any) -> Outcome:
    """V4: NVBench in a process of its own, on the same launches."""
    import cuda.bench  # noqa: F401  (absent: not run)

    mine, theirs = ours(device, launches(device)), _nvbench_medians()
    rows: list[dict[str, Any]] = [
        {"launch": name, "ours_us": mine[name] * MICRO, "theirs_us": theirs[name] * MICRO}
        for name in mine
        if name in theirs
    ]
    bars = [
        abs(r["ours_us"] - r["theirs_us"]) <= tolerance(r["theirs_us"] / MICRO, 0.02) * MICRO for r in rows
    ]
    share = sum(bars) / max(1, len(bars))
    text = f"{sum(bars)} of {len(bars)} launches agree"
    holds = len(bars) >= 20 and share >= 0.95
    return outcome("V4", "NVBench", text, "max(2 %, 2 µs) on >= 95 % of >= 20", holds, rows)


def _nvbench_medians() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "convbench.selftest_nvbench", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        file = Path(folder) / "medians.json"
        if not file.exists():
            raise ImportError(f"NVBench did not finish: {done.stderr.strip().splitlines()[-1:]}")
        medians: dict[str, float] = json.loads(file.read_text())
        return medians


# ---- CUPTI -------------------------------------------------------------------------------------------------


def kernel_span(device: Any) -> Outcome:
    """V6: first kernel start to last kernel end by CUPTI (PyTorch's profiler), from 50 µs up."""
    from torch.profiler import ProfilerActivity, profile

    rows: list[dict[str, Any]] = []
    calls = launches(device)
    mine = ours(device, calls)
    for name, call in calls.items():
        if mine[name] < 50e-6:
            continue
        spans = []
        for _ in range(11):
            with profile(activities=[ProfilerActivity.CUDA]) as seen:
                device.timer.flush()
                device.timer.stream.synchronize()
                call()
                device.timer.stream.synchronize()
            spans.append(_span(seen.events()))
        rows.append({"launch": name, "ours_us": mine[name] * MICRO, "theirs_us": median(spans)})
    apart = [abs(r["ours_us"] - r["theirs_us"]) / tolerance(r["theirs_us"] / MICRO) / MICRO for r in rows]
    added = [r["ours_us"] - r["theirs_us"] for r in rows]
    within = f"{sum(x <= 1 for x in apart)} of {len(apart)} within the bar"
    text = f"{within}; events add {min(added):.2f} to {max(added):.2f} µs to the span"
    return outcome("V6", "CUPTI kernel span", text, "max(1 %, 2 µs) from 50 µs up", max(apart) <= 1, rows)


def _span(events: Any) -> float:
    """Microseconds from the first to the last of all kernels and copies but the flush."""
    work = [e for e in events if e.device_type.name == "CUDA" and e.name != "sink"]
    return float(max(e.time_range.end for e in work) - min(e.time_range.start for e in work))


# ---- ourselves, again --------------------------------------------------------------------------------------


def fresh_processes(device: Any) -> Outcome:
    """V9: two sweeps of the same cells in fresh processes."""
    from convbench.frame import load

    with tempfile.TemporaryDirectory() as folder:
        for name in "ab":
            command = [
                sys.executable,
                "-m",
                "convbench",
                "run",
                *LAYERS,
                "--device",
                "cuda",
                "--quick",
                "--quiet",
            ]
            subprocess.run([*command, "--out", f"{folder}/{name}"], check=False, capture_output=True)
        first, second = (load(f"{folder}/{name}").set_index("key") for name in "ab")
        ratios = (second.time_ms / first.time_ms).dropna()
    apart = sorted(abs(ratio - 1) for ratio in ratios)
    middle, high = median(apart), apart[min(len(apart) - 1, round(0.95 * len(apart)))]
    text = f"median {middle:.2%}, 95th percentile {high:.2%} of {len(apart)} cells"
    details = sorted(float(ratio) for ratio in ratios)
    return outcome(
        "V9",
        "two sweeps in fresh processes",
        text,
        "<= 1 %, <= 3 %",
        middle <= 0.01 and high <= 0.03,
        details,
    )
