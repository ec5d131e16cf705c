"""Commands about the measuring engine itself: ceilings of the machine, and the harness's own validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from convbench.errors import CannotRunError


def _cuda(purpose: str) -> Any:
    from convbench import devices

    if reason := devices.missing("cuda"):
        raise CannotRunError(f"{purpose} needs a CUDA device: {reason}")
    return devices.open_device("cuda")


@click.command()
def ceilings() -> None:
    """What this GPU sustains: GEMM rate per precision, copy bandwidth, launch floor."""
    from convbench import ceilings as measured
    from convbench.commands import print_table

    device = _cuda("ceilings")
    found, environment = measured.measure(device), device.environment()
    scales = {"FLOP/s": (1e12, "TFLOP/s"), "byte/s": (1e12, "TB/s"), "s": (1e-6, "µs")}
    rows = []
    for one in found:
        scale, unit = scales[one.unit]
        figures = f"{one.sustained / scale:.2f}", f"{one.burst / scale:.2f}"
        rows.append((one.name, *figures, unit, f"{one.clock_hz / 1e6:.0f}"))
    columns = ("ceiling", "sustained", "burst", "unit", "SM clock (MHz)")
    print_table(f"Ceilings of {environment['identity']['gpu']}", columns, rows)
    click.echo(f"kept in {measured.save(environment['id'], found)}")


@click.command()
@click.option("--only", metavar="V1,V8", help="Only these checks.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the record.")
def selftest(only: str | None, out: Path | None) -> int:
    """The harness measures itself; exit code 1 if a check fails."""
    from convbench import selftest as tests
    from convbench.commands import print_table

    device, outcomes = _cuda("selftest"), []
    for one in tests.run(device, only.split(",") if only else None):
        click.echo(f"{one.check} {one.state}: {one.figure}", err=True)
        outcomes.append(one)
    rows = [(o.check, o.about, o.figure, o.bar, o.state) for o in outcomes]
    print_table("Self-test", ("check", "what", "figure", "bar", "state"), rows)
    if out is not None:
        click.echo(f"record: {tests.write(out, device.environment(), outcomes)}")
    return int(any(one.state == tests.FAIL for one in outcomes))
