"""The command line. Commands import what they need when they run, so that --help answers at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from convbench import __version__, threads
from convbench.cli_cluster import cluster
from convbench.cli_compare import ab, compare
from convbench.cli_engine import ceilings, selftest
from convbench.cli_merge import merge
from convbench.cli_options import (
    among_option,
    batch_option,
    cache_option,
    device_option,
    directions_option,
    format_option,
    layout_option,
    members,
    open_device,
    parse_limits,
    plans_option,
    precision_option,
    threads_option,
    why,
    words,
)
from convbench.cli_plan import plan
from convbench.cli_plot import plot
from convbench.errors import CannotRunError, TerminatedError, UsageError
from convbench.problem import Direction, Layout, Precision, Problem

VIEWS = (
    "winners", "limits", "networks", "layers", "layerwise", "algorithms", "costs", "selection", "machine",
    "rivals", "accuracy", "deepbench", "published", "coverage",
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="convbench")
def cli() -> None:
    """Convolution algorithms: checked for agreement, then timed, side by side.

    \b
    convbench run quick --quick --out results/try    measure a small suite
    convbench show results/try                       winners, totals, what failed and why
    convbench report results/try                     a page to open in a browser
    """


def main() -> NoReturn:
    """Run the command line; one line for what the user can fix, and the exit code that says what happened."""
    try:
        code = cli(standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except TerminatedError:
        code = _complain("terminated; what was finished is kept, the same command goes on from there", 143)
    except (click.Abort, KeyboardInterrupt):
        code = _complain("interrupted; what was finished is kept, the same command goes on from there", 130)
    except click.ClickException as error:
        code = _refuse(error)
    except UsageError as error:
        code = _complain(str(error), 2)
    except CannotRunError as error:
        code = _complain(str(error), 3)
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except OSError as error:
        code = _complain(f"{error.filename or 'input or output'}: {error.strerror}", 3)
    sys.exit(code or 0)


def _complain(message: str, code: int) -> int:
    line = " ".join(message.split())
    click.echo(f"convbench: {line if line.isprintable() else ascii(line)[1:-1]}", err=True)
    return code


def _refuse(error: click.ClickException) -> int:
    """One line; but a command without its sub-command gets the help, which click passes as the message."""
    message = error.format_message()
    if not message.startswith("Usage:"):
        return _complain(message, 2)
    click.echo(message, err=True)
    return 2


@cli.command()
def doctor() -> None:
    """Devices, libraries and algorithms of this machine, and what is missing."""
    from convbench.doctor import examine

    threads.fix()
    for line in examine():
        click.echo(line)


@cli.command()
@click.argument("targets", nargs=-1, required=True, metavar="SUITE|FILE|TEXT...")
@click.option("--algorithms", multiple=True, metavar="A,B", help="Default: all of the device.")
@directions_option
@precision_option
@layout_option
@batch_option
@click.option(
    "--workspace-limit",
    "limits",
    multiple=True,
    metavar="64MiB,none",
    help="The largest is enforced; tables show each.",
)
@device_option
@threads_option
@cache_option
@plans_option
@click.option(
    "--burst", "regime", flag_value="burst", help="Rest after each block: clocks as in short bursts of work."
)
@click.option("--sustained", "regime", flag_value="sustained", default=True, hidden=True)
@click.option("--energy", is_flag=True, help="Joules per call too; 5 s and more for each cell.")
@click.option("--out", type=click.Path(path_type=Path), help="Result folder; default: results/NAME.")
@click.option("--quick", "preset", flag_value="quick", help="6 rounds, short samples.")
@click.option("--default", "preset", flag_value="default", default=True, hidden=True)
@click.option("--rigorous", "preset", flag_value="rigorous", help="20 rounds and more.")
@click.option(
    "--baseline", help="Algorithm that is measured twice to learn the noise; default: direct, or the first."
)
@click.option("--devices", metavar="0,1|all", help="GPUs that share the work; default: the first.")
@click.option("--spread", is_flag=True, help="Measure every cell on each GPU, to see how they differ.")
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0.1),
    default=60.0,
    metavar="SECONDS",
    help="For a check or a block of samples; then the cell ends as timeout. Default: 60.",
)
@click.option(
    "--build-limit",
    type=click.FloatRange(min=0.1),
    default=300.0,
    metavar="SECONDS",
    help="For preparing a cell. Default: 300.",
)
@click.option("--no-isolation", is_flag=True, help="Run algorithms in this process, for a debugger.")
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and stop.")
@click.option("--retry-failed", is_flag=True, help="Measure failed cells again.")
@click.option("--finished", type=click.Path(path_type=Path), hidden=True)
@click.option("--report", "report_", is_flag=True, help="Write the page when done.")
@click.option("--json-log", is_flag=True, help="A JSON line for each event, on standard error.")
@click.option("--quiet", is_flag=True, help="No progress and no table.")
def run(targets: Sequence[str], **options: Any) -> int:
    """Check and time algorithms on layers; cells that the folder holds already are not measured again.

    Algorithms run in a process of their own, so that one that crashes or hangs costs its own cell alone.
    """
    threads.fix(options["threads"])
    from convbench.job import Where
    from convbench.run import read_keys, run_sweep
    from convbench.supervise import Limits

    wishes = {
        "directions": members(Direction, options["directions"]),
        "precisions": members(Precision, options["precisions"]),
        "layouts": members(Layout, options["layouts"]),
        "limits": parse_limits(options["limits"]),
        "algorithms": words(options["algorithms"]),
        **{name: options[name] for name in ("preset", "regime", "energy", "baseline", "retry_failed")},
    }
    if options["no_isolation"] and (options["devices"] or options["spread"]):
        raise UsageError("--no-isolation runs on one device; leave out --devices and --spread")
    where = Where(
        isolated=not options["no_isolation"],
        limits=Limits(options["time_limit"], options["build_limit"]),
        **{name: options[name] for name in ("device", "cache", "devices", "spread")},
    )
    keep = ("batch", "out", "dry_run", "quiet", "json_log", "report_")
    finished = read_keys(options["finished"]) if options["finished"] else ()
    return run_sweep(targets, wishes, where, finished=finished, **{name: options[name] for name in keep})


@cli.command()
@click.argument("names", nargs=-1, metavar="ALGORITHM...")
@click.option("--directions", multiple=True, default=["all"])
@click.option("--precision", "precisions", multiple=True, default=["all"])
@click.option("--layout", "layouts", multiple=True, default=["all"])
@device_option
@threads_option
@plans_option
@click.option("--matrix", is_flag=True, help="What is covered: directions, precisions, layouts, and reasons.")
@format_option
def verify(
    names: Sequence[str],
    directions: Sequence[str],
    precisions: Sequence[str],
    layouts: Sequence[str],
    device: str | None,
    threads: int | None,
    matrix: bool,
    form: str,
) -> int:
    """The conformance suite against algorithms, also a plug-in's; exit code 1 if any check fails."""
    opened = open_device(device, threads)
    from convbench.commands import verify_algorithms

    kinds = members(Direction, directions), members(Precision, precisions), members(Layout, layouts)
    return verify_algorithms(opened, words(names), *kinds, form=form, matrix=matrix, notice=why(device))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--view",
    "views",
    multiple=True,
    type=click.Choice([*VIEWS, "all"]),
    default=["winners", "networks", "coverage"],
)
@among_option
@format_option
def show(folder: Path, views: Sequence[str], algorithms: Sequence[str], form: str) -> None:
    """Tables of a result folder."""
    from convbench.commands import show_folder

    show_folder(folder, VIEWS if "all" in views else views, form, words(algorithms))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Page, Markdown tables and plots of a result folder, written to FOLDER/report."""
    from convbench.report import build

    click.echo(build(folder))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--to", "form", type=click.Choice(["csv", "parquet", "pytest-benchmark"]), required=True)
@click.option("--out", "-o", type=click.Path(path_type=Path), help="File to write; default: standard output.")
def export(folder: Path, form: str, out: Path | None) -> None:
    """Results for other tools."""
    from convbench.commands import export_folder

    export_folder(folder, form, out)


cli.add_command(compare)
cli.add_command(ab)
cli.add_command(plan)
cli.add_command(plot)
cli.add_command(ceilings)
cli.add_command(selftest)
cli.add_command(merge)
cli.add_command(cluster)


@cli.group("list")
def list_() -> None:
    """What there is: algorithms, suites, devices."""


@list_.command("algorithms")
@click.option("--problem", metavar="TEXT", help="Say for this problem which variants there are, or why none.")
@click.option("--direction", default="fwd", show_default=True)
@click.option("--precision", default="fp32", show_default=True)
@click.option("--layout", default="nchw", show_default=True)
@click.option("--time", "timed", is_flag=True, help="Measure them too, with --quick, and keep nothing.")
@device_option
@plans_option
def list_algorithms(problem: str | None, timed: bool, device: str | None, **asked: str) -> None:
    """Algorithms of a device with their origin; for a problem, their variants, fastest first with --time."""
    opened = open_device(device, None)
    from convbench.listing import list_algorithms, list_variants

    if problem is not None:
        list_variants(opened, Problem.parse(problem, **asked), timed=timed, notice=why(device))
    elif timed:
        raise UsageError("--time measures one problem: name it with --problem n32c128h28k256r3p1")
    else:
        list_algorithms()


@list_.command("suites")
def list_suites() -> None:
    """Built-in suites."""
    from convbench.commands import print_table
    from convbench.suites import suite_names

    print_table("Suites", ("suite", "layers"), list(suite_names().items()))


@list_.command("devices")
def list_devices() -> None:
    """Devices, and why one cannot be used."""
    from convbench import devices

    for name in devices.NAMES:
        click.echo(f"{name}: {devices.missing(name) or 'ready'}")


@cli.group()
def suite() -> None:
    """Layers in and out."""


@suite.command("show")
@click.argument("target")
@click.option("--batch", type=click.IntRange(1))
def suite_show(target: str, batch: int | None) -> None:
    """Layers of a suite, a suite file or a text form."""
    from convbench.commands import show_suite

    show_suite(target, batch)


@suite.command("import")
@click.argument("file", type=str)
@click.option(
    "--from", "kind", help="csv, text, benchdnn, deepbench, miopen or onnx; default: by the look of the file."
)
@click.option("--batch", type=click.IntRange(1), help="N of every layer; for a model, of its inputs.")
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), help="CSV file to write; default: standard output."
)
def suite_import(file: str, kind: str | None, batch: int | None, out: Path | None) -> None:
    """Read layers from another tool's file or an ONNX model and write them as a suite file."""
    from convbench.commands import tell, write_text
    from convbench.formats import write
    from convbench.suites import import_file

    layers, notes = import_file(file, kind, batch)
    tell(*notes)
    write_text(write(layers, "csv"), out)


@suite.command("export")
@click.argument("target")
@click.option("--to", "kind", required=True, help="csv, text, benchdnn, deepbench or miopen.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="File to write; default: standard output.")
def suite_export(target: str, kind: str, out: Path | None) -> None:
    """Write a suite for another tool."""
    from convbench.commands import write_text
    from convbench.formats import write
    from convbench.suites import select

    write_text(write(select([target]), kind), out)
