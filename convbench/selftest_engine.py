"""Checks of the timer against work of known length, and of the verdicts against planted differences."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median, stdev
from time import perf_counter
from typing import Any

from convbench.device import Block, Call
from convbench.selftest import Outcome, outcome
from convbench.statistics import Verdict, noise_floor, ratio_interval, verdict
from convbench.timing import Preset, Series, measure

MICRO = 1e6
SPINS_US = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
PAIRS, PLANTED = 200, 1.02
GROUP = 10  # pairs measured together


def tolerance(seconds: float, share: float = 0.01, least: float = 2e-6) -> float:
    return max(share * seconds, least)


def clock_of(device: Any) -> float:
    """SM clock in Hz under a light load."""
    with device.timer.clock() as clock:
        device.timer.spin(20_000_000)
    return float(clock[0])


def spin_lengths(device: Any) -> Outcome:
    """V1: what a spin kernel counts itself, against what the timer says; launch floors included."""
    rows, timer = [], device.timer
    for length in SPINS_US:
        cycles = round(length / MICRO * clock_of(device))
        with timer.clock() as clock:
            hot = median(timer.hot(partial(timer.spin, cycles)) for _ in range(21))
            cold = median(timer.cold(partial(timer.spin, cycles)) for _ in range(21))
        true = cycles / clock[0]
        rows.append({"true_us": true * MICRO, "hot_us": hot * MICRO, "cold_us": cold * MICRO})
    hot_worst = max(abs(r["hot_us"] - r["true_us"]) / tolerance(r["true_us"] / MICRO) / MICRO for r in rows)
    added = [r["hot_us"] - r["true_us"] for r in rows] + [r["cold_us"] - r["true_us"] for r in rows]
    text = f"{min(added):.2f} to {max(added):.2f} µs are added to each; worst {hot_worst:.2f} of the bar"
    return outcome(
        "V1", "spin kernels of known length, 10 µs to 10 ms", text, "max(1 %, 2 µs)", hot_worst <= 1, rows
    )


def planted_noise(device: Any) -> Outcome:
    """V2: the spread of samples is the spread that was planted."""
    rows, rng, hertz = [], random.Random(2), clock_of(device)
    for sigma in (0.05, 0.25):
        lengths = [max(2e-5, 3e-4 * rng.gauss(1, sigma)) for _ in range(300)]
        seen = [device.timer.hot(partial(device.timer.spin, round(t * hertz))) for t in lengths]
        rows.append({"planted_us": stdev(lengths) * MICRO, "seen_us": stdev(seen) * MICRO})
    worst = max(abs(r["seen_us"] - r["planted_us"]) / max(0.05 * r["planted_us"], 5) for r in rows)
    text = ", ".join(f"{r['seen_us']:.2f} for {r['planted_us']:.2f} µs" for r in rows)
    return outcome("V2", "planted noise, sigma 5 % and 25 %", text, "max(5 %, 5 µs)", worst <= 1, rows)


def launch_floor(device: Any) -> Outcome:
    """V3: an empty kernel through the whole path; printed, never subtracted."""
    timer = device.timer
    cold = median(timer.cold(timer.empty) for _ in range(200)) * MICRO
    nothing = median(timer.cold(lambda: None) for _ in range(200)) * MICRO
    text = f"{cold:.2f} µs cold ({nothing:.2f} µs with no launch at all)"
    return outcome(
        "V3", "empty kernel", text, "<= 5 µs", cold <= 5, [{"empty_us": cold, "nothing_us": nothing}]
    )


def cold_is_cold(device: Any) -> Outcome:
    """V7: a copy that fits the L2 cache runs at memory speed when cold and faster when hot."""
    xp, timer = device.xp, device.timer

    def rate(count: int, sample: Callable[[Call], float]) -> float:
        source = xp.random.default_rng(1).random(count // 8)
        target = xp.empty_like(source)
        call = partial(xp.copyto, target, source)
        call()
        return 2 * count / median(sample(call) for _ in range(50)) / 1e12

    memory = rate(1 << 30, timer.cold)
    cold, hot = rate(15 << 20, timer.cold), rate(15 << 20, lambda call: float(timer.hot(call, 20)))
    text = f"cold {cold:.2f}, hot {hot:.2f}, memory {memory:.2f} TB/s"
    details = [{"cold": cold, "hot": hot, "memory": memory}]
    return outcome(
        "V7", "15 MiB read and written", text, "cold <= memory < hot", cold <= memory < hot, details
    )


def order_relations(device: Any) -> Outcome:
    """V11: hot <= cold where data fits the cache, call >= gpu, and stages sum to the whole."""
    xp, timer, hertz = device.xp, device.timer, clock_of(device)
    source = xp.random.default_rng(1).random(4 << 17)
    target = xp.empty_like(source)
    copy, spin = partial(xp.copyto, target, source), partial(timer.spin, round(3e-4 * hertz))

    def both() -> None:
        spin()
        copy()
        spin()

    both()
    cold, hot = (median(f(copy) for _ in range(50)) for f in (timer.cold, lambda c: timer.hot(c, 10)))
    whole, parts = (median(timer.hot(c) for _ in range(50)) for c in (both, copy))
    stages = 2 * median(timer.hot(spin) for _ in range(50)) + parts
    call, gpu = (
        median(_host_seconds(timer, spin) for _ in range(50)),
        median(timer.hot(spin) for _ in range(50)),
    )
    holds = hot <= cold and call >= gpu and abs(stages / whole - 1) <= 0.03
    text = f"hot/cold {hot / cold:.2f}, call/gpu {call / gpu:.2f}, stages/whole {stages / whole:.3f}"
    details = [{"cold": cold, "hot": hot, "call": call, "gpu": gpu, "stages": stages, "whole": whole}]
    return outcome("V11", "order relations", text, "<= 1, >= 1, 1 ± 0.03", holds, details)


def _host_seconds(timer: Any, call: Call) -> float:
    start = perf_counter()
    timer.stream.use()
    call()
    timer.stream.synchronize()
    return perf_counter() - start


# ---- verdicts ----------------------------------------------------------------------------------------------


class Launch:
    """A contestant without tensors: one call, sampled as cells are."""

    def __init__(self, device: Any, call: Call) -> None:
        self._call, self._sampler = call, device.sampler()
        self.kernel_seconds = 0.0

    def plan_block(self, seconds: float, sample_seconds: float) -> Block:
        self._sampler.start()
        return Block(1, max(5, min(15, round(0.005 / seconds))), 1)

    def take(self, calls: int, count: int) -> list[float]:
        start = perf_counter()
        samples = list(self._sampler.block([self._call] * calls, count))
        self.kernel_seconds += perf_counter() - start
        return samples

    def arm(self) -> None: ...

    def inspect(self) -> None: ...


def verdicts(device: Any) -> Outcome:
    """V8: no false FAST or SLOW among equal pairs; a difference of 2 % is found."""
    same, slower = _pairs(device, 1.0), _pairs(device, PLANTED)
    floor = noise_floor([ratio.value for ratio in same])
    false = sum(verdict(ratio, floor) in (Verdict.FAST, Verdict.SLOW) for ratio in same)
    found = sum(verdict(ratio, floor) is Verdict.SLOW for ratio in slower)
    clear = sum(verdict(ratio, floor) is Verdict.SAME for ratio in same)
    text = f"{false} false of {PAIRS} ({clear} SAME); {found} of {PAIRS} found; A/A floor {floor:.2%}"
    details = [[ratio.value, ratio.lo, ratio.hi] for ratio in (*same, *slower)]
    holds = false == 0 and found >= 0.99 * PAIRS
    return outcome(
        "V8", "200 A/A pairs, 200 with +2 % planted", text, "0 false; >= 99 % found", holds, details
    )


def _pairs(device: Any, factor: float) -> list[Any]:
    """Ratios of pairs of a copy and a spin; the second of each pair takes `factor` times as long."""
    ratios = []
    for group in range(0, PAIRS, GROUP):
        contestants = []
        for pair in range(group, group + GROUP):
            first, second = _workload(device, 60 + 2 * pair, factor)
            contestants += [Launch(device, first), Launch(device, second)]
        series = measure(contestants, Preset("ab", 15, 15), seed=group)
        ratios += _ratios(series)
    return ratios


def _ratios(series: Sequence[Series]) -> list[Any]:
    pairs = zip(series[::2], series[1::2], strict=True)
    return [ratio_interval(second.medians, first.medians) for first, second in pairs]


def _workload(device: Any, length_us: float, factor: float) -> tuple[Call, Call]:
    """Memory traffic and arithmetic, as kernels have; what is planted are cycles."""
    xp, timer = device.xp, device.timer
    source = xp.random.default_rng(1).random(1 << 20)
    target, hertz = xp.empty_like(source), timer.facts.clock_hz
    copy_us = 10.0

    def work(extra: float) -> None:
        xp.copyto(target, source)
        timer.spin(round((length_us + extra) / MICRO * hertz))

    work(0.0)
    planted = (factor - 1) * (length_us + copy_us)
    return partial(work, 0.0), partial(work, planted)
