"""The page in a real browser: it chooses as the terminal does, obeys its controls, runs nothing foreign."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import browser
import pytest
import synthetic
from convbench.report import build
from convbench.report.limits import by_limit
from convbench.report.page import render
from convbench.report.page_data import block
from convbench.report.totals import by_network
from convbench.report.views import makers

from convbench.frame import cells_frame, layers_frame
from convbench.record import Record, Status
from convbench.store import PACKED, Contents, read

MIB = 2**20
LIMITS = (0, MIB, 16 * MIB, 64 * MIB, 100_000_000, 256 * MIB, 4096 * MIB)
PAYLOADS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</noscript><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "<!--<script>alert(1)//-->",
    "]]><!--",
    "<img src=x onerror=alert(1)>",
    "<img src=https://example.org/x.png>",
    "<svg/onload=alert(1)>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<iframe src=https://example.org></iframe>",
    "<link rel=stylesheet href=https://example.org/x.css>",
    "<meta http-equiv=refresh content='0;url=https://example.org'>",
    "<base href=https://example.org>",
    "<a href='javascript:alert(1)'>x</a>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "`${alert(1)}`",
    "{{ 7 * 7 }}{% raw %}",
    "\\u003cscript\\u003ealert(1)\u2028//",
    "__proto__",
    "javascript:alert(1)//\x00\x1b[31m\u202e",
]
SCOPES = 4
NO_BROWSER = "needs Chromium (Debian: apt install chromium)"
NOTICE = "window.ran = 0; window.alert = () => { window.ran += 1; };"


ALIVE = (
    "iframe, svg, img, link, base, form, object, embed, a[href^=javascript], "
    "[onerror], [onload], [onmouseover], [onfocus], [srcdoc]"
)
WALK = """for (const scope of scopes) {
  enter(scope); app.network = scope.networks.at(-1); showAll(); card.open(scope.cells[0]);
  document.querySelectorAll('details').forEach(one => { one.open = true; });
  Object.keys(DRAWN).forEach(redraw);
}"""


# ---- pages ------------------------------------------------------------------------------------------------


def written(file: Path, held: Contents) -> Path:
    """The page alone, without the drawings beside it."""
    made = {name: make() for name, make in makers(held, LIMITS).items()}
    file.write_text(render(held, cells_frame(held), layers_frame(held), made), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """Ten layers, twelve variants of five algorithms, two precisions."""
    return read(synthetic.write(tmp_path_factory.mktemp("page") / "run", 600))


@pytest.fixture(scope="module")
def file(held: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("page") / "index.html", held)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    program = browser.find()
    if program is None:
        pytest.skip(NO_BROWSER)
    with browser.Browser(program, tmp_path_factory.mktemp("profile")) as running:
        yield running


Open = Callable[..., browser.Page]


@pytest.fixture
def show(chromium: browser.Browser) -> Iterator[Open]:
    """Opens pages, and in the end holds them to silence: no complaint in the console and no request."""
    pages = []

    def opened(file: Path, hash_: str = "", **options: Any) -> browser.Page:
        page = chromium.page(**options)
        page.open(file, hash_)
        pages.append(page)
        return page

    yield opened
    for page in pages:
        assert page.complaints() == []
        assert page.requests() == []
        page.close()


def hash_of(page: browser.Page) -> str:
    """The address once it is written."""
    page.until("decodeURIComponent(location.hash) === decodeURIComponent(toHash())")
    return str(page.ask("location.hash"))


# ---- the same winners as in the terminal -------------------------------------------------------------------

TABLE = """(limits => scopes.map(scope => scope.networks.map(network => [
  ...scope.passes(network, scope.directions).map(({layer, direction}) => [
    layer.title, direction, String(layer.repeat),
    ...limits.map(limit => { const best = scope.best(layer.problem, direction, limit);
      return best ? `${significant(best.ms)} · ${best.name}` : MISSING; })]),
  ["total", "", "", ...limits.map(limit => totalText(scope.total(network, scope.directions, limit)))],
])).flat())"""

NETWORKS = """(() => { const found = [];
  for (const scope of scopes) for (const network of scope.networks) {
    enter(scope); app.network = network; app.limit = null; app.directions = scope.directions;
    found.push(networkRows().map(({name, kinds, sums}) =>
      [name ?? "best per layer", kinds, ...sums.map(sumText)]));
  }
  return found; })()"""


RESULTS = Path(__file__).parent.parent / "results"
FOLDERS = [
    None,
    *(
        pytest.param(
            file.parent,
            id=file.parent.name,
            marks=[pytest.mark.slow] * (file.name == PACKED or file.stat().st_size > 1e6),
        )
        for file in sorted(RESULTS.glob("*/records.jsonl*"))
    ),
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_winners_and_totals_are_those_of_the_terminal(
    folder: Path | None, held: Contents, file: Path, show: Open, tmp_path: Path
) -> None:
    if folder:
        held = read(folder)
        file = written(tmp_path / "index.html", held)
    page, cells, layers = show(file), cells_frame(held), layers_frame(held)
    limits = json.dumps([*LIMITS, None])
    expected = [[list(row) for row in table.rows] for table in by_limit(cells, layers, LIMITS)]
    assert page.ask(f"{TABLE}({limits})") == expected
    expected = [[list(row) for row in table.rows] for table in by_network(cells, layers)]
    assert page.ask(NETWORKS) == expected


@pytest.mark.parametrize(
    "size", [0, 1, 1023, 1024, 1536, 99.96 * 1024, 100 * 1024, 64 * MIB, 1.25 * 2**30, 2**41, 123456789]
)
def test_sizes_are_read_and_written_as_elsewhere(size: float, file: Path, show: Open) -> None:
    from convbench.sizes import format_size, parse_size

    page, size = show(file), int(size)
    assert page.ask(f"formatSize({size})") == format_size(size)
    assert page.ask(f"parseSize(sizeText({size}))") == size
    shown = format_size(size).replace(" ", "")
    assert page.ask(f"parseSize('{shown}')") == parse_size(shown)


# ---- controls ----------------------------------------------------------------------------------------------


def winners(page: browser.Page) -> list[str]:
    return page.texts("#winners-sheet tbody td:nth-child(3)")


def test_the_slider_chooses_winners_and_totals_anew(file: Path, show: Open) -> None:
    page = show(file)
    free, best = float(page.text("#held")), winners(page)
    assert page.text("#free") == page.text("#held") and page.text("#cost") == "1.00×"
    page.ask("document.querySelector('#limit').focus()")
    page.press("Home")
    assert page.text("#held-name") == "Total within no workspace"
    held = float(page.text("#held"))
    assert held > free and winners(page) != best
    assert float(page.text("#cost").rstrip("×")) == pytest.approx(held / free, rel=0.01)
    assert set(page.texts("#winners-sheet tbody td:nth-child(6)")) == {"0 B"}
    page.press("ArrowRight")
    assert page.text("#held-name") == "Total within 64 KiB"
    page.press("End")
    assert float(page.text("#held")) == free and winners(page) == best


def test_a_typed_limit_is_exact_and_a_wrong_one_is_told(file: Path, show: Open) -> None:
    page = show(file)
    page.set("#limit-text", "100 MB")
    assert page.ask("app.limit") == 100_000_000
    page.set("#limit-text", "much")
    assert page.ask("app.limit") == 100_000_000
    assert "64MiB" in page.ask("document.querySelector('#limit-text').validationMessage")


def test_filters_leave_out_what_they_name(file: Path, show: Open) -> None:
    page = show(file)
    before = float(page.text("#held"))
    winner = page.ask("app.scope.best(app.layer.problem, app.layer.direction).algorithm")
    page.click(f"[data-chip=algorithm][data-value={winner}]")
    assert winner not in " ".join(winners(page)) and float(page.text("#held")) > before
    page.click(f"[data-chip=algorithm][data-value={winner}]")
    assert float(page.text("#held")) == before
    page.click("[data-chip=directions][data-value=fwd]")
    assert set(page.texts("#winners-sheet tbody td:nth-child(2)")) == {"bwd-data", "bwd-filter"}


def test_the_last_of_a_group_cannot_be_left_out(file: Path, show: Open) -> None:
    page = show(file)
    for name in page.ask("app.scope.algorithms"):
        page.click(f"[data-chip=algorithm][data-value={name}]")
    assert len(page.ask("[...new Set(app.scope.kept.map(cell => cell.algorithm))]")) == 1


def test_one_scope_at_a_time(file: Path, show: Open) -> None:
    page = show(file)
    assert page.ask("scopes.length") == 2
    fp32 = page.text("#held")
    page.set("[data-choice=precision]", "tf32")
    assert page.ask("app.scope.precision") == "tf32" and page.text("#held") != fp32
    kinds = "[...new Set(app.scope.cells.map(cell => cell.rate))].filter(Boolean).sort()"
    assert page.ask(kinds) == ["copy", "gemm tf32"]


def test_sorting(file: Path, show: Open) -> None:
    page = show(file)
    times = "#winners-sheet tbody td:nth-child(4)"
    for order in (sorted, lambda values: sorted(values, reverse=True)):
        page.click("#winners-sheet [data-sort=time]")
        values = [float(text.replace(",", "")) for text in page.texts(times)]
        assert values == order(values)
    assert page.ask("document.querySelector('#winners-sheet [aria-sort]').ariaSort") == "descending"
    assert page.ask("document.activeElement.dataset.sort") == "time"


def test_search_and_status(file: Path, show: Open) -> None:
    page = show(file)
    page.set("#find", "winograd 3x3 filters")
    rows = page.texts("#cells-sheet tbody tr")
    assert rows and all("winograd needs 3x3 filters" in row for row in rows)
    page.set("#find", "")
    page.set("#find-status", "ranked")
    assert page.ask("document.querySelectorAll('#cells-sheet tbody tr').length") == 100
    page.click("#cells-more")
    assert page.text("#cells-count").startswith(str(page.ask("app.scope.ranked.length")))


def test_a_layer_shows_everything_that_was_tried_and_its_front(file: Path, show: Open) -> None:
    page = show(file)
    page.click("#winners-sheet tbody tr:nth-child(4) .pick")
    assert page.text("#layer-title").startswith(page.texts("#winners-sheet tbody .pick")[3])
    assert page.ask("document.querySelectorAll('#layer-sheet tbody tr').length") == len(synthetic.KINDS)
    page.until("charts.pareto")
    drawn = page.ask("charts.pareto.data.datasets.at(-1).data.map(({y}) => y)")
    assert drawn == sorted(drawn, reverse=True) and len(drawn) > 2
    page.ask("document.querySelector('#roofline').scrollIntoView()")
    page.until("charts.roofline")
    names = page.ask("charts.roofline.data.datasets.map(({label}) => label)")
    assert "~gemm fp32" in names and "cudnn" in names


# ---- details ----------------------------------------------------------------------------------------------


def details(page: browser.Page) -> str:
    page.until("!document.querySelector('#card').hidden")
    return page.text("#card")


def test_pointing_and_focus_show_what_is_behind_a_figure(file: Path, show: Open) -> None:
    page = show(file)
    page.move("#winners-sheet tbody tr:nth-child(2)")
    text = details(page)
    command = "convbench run n128c3h128k96r11 --device cuda --algorithms"
    assert "95 % interval" in text and command in text.replace("\n", " ")
    assert page.ask("charts.blocks.data.datasets.at(-1).data.length") == synthetic.ROUNDS
    page.press("Escape")
    assert page.ask("document.querySelector('#card').hidden")
    page.ask("document.querySelector('#layer-sheet tbody tr:nth-child(3) button').focus()")
    assert page.texts("#layer-sheet tbody tr:nth-child(3) .name")[0].split()[0] in details(page)
    page.press("Enter")
    assert page.ask("card.pinned && document.querySelector('#card').contains(document.activeElement)")
    page.press("Escape")
    assert page.ask("document.activeElement.closest('#layer-sheet') !== null")


def test_a_point_of_a_chart_has_the_same_details(file: Path, show: Open) -> None:
    page = show(file)
    page.ask("document.querySelector('#pareto').scrollIntoView({block: 'center'})")
    page.until("charts.pareto")
    page.settle()
    x, y = page.ask(
        "(() => { const point = charts.pareto.getDatasetMeta(0).data[0];"
        "const box = charts.pareto.canvas.getBoundingClientRect();"
        "return [box.left + point.x, box.top + point.y]; })()"
    )
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert page.ask("charts.pareto.data.datasets[0].label") in details(page)


def test_the_command_is_one_a_shell_reads_as_meant(held: Contents, show: Open, tmp_path: Path) -> None:
    import shlex

    one = next(record for record in held.cells.values() if record.time)
    name = "it's $(rm -rf ~); `x`"
    file = written(tmp_path / "page.html", only(held, replace(one, cell=replace(one.cell, algorithm=name))))
    page = show(file)
    words = shlex.split(page.ask("commandOf(app.scope, app.scope.cells[0])"))
    assert words[words.index("--algorithms") + 1] == name and "--quick" in words


# ---- the address -------------------------------------------------------------------------------------------


def test_a_link_shows_the_same_again(file: Path, show: Open) -> None:
    page = show(file)
    page.set("[data-choice=precision]", "tf32")
    page.set("#limit-text", "64MiB")
    page.click("[data-chip=directions][data-value=bwd-data]")
    page.click("[data-chip=algorithm][data-value=fft]")
    page.click("#winners-sheet tbody tr:nth-child(3) .pick")
    page.click("#winners-sheet [data-sort=workspace]")
    page.set("#find", "im2col")
    address = hash_of(page)
    again = show(file, address)
    for selector in ("#held", "#cost", "#winners-sheet", "#layer-title", "#cells-count", "#scope"):
        assert again.text(selector) == page.text(selector)
    assert hash_of(again) == address


@pytest.mark.parametrize(
    "hash_", ["#workspace=%ff&layer=x/y&scope=z", "#directions=no&sort=q.w.e&view=1", "#%%%"]
)
def test_a_broken_link_shows_the_start(hash_: str, file: Path, show: Open) -> None:
    assert show(file, hash_).text("#held") == show(file).text("#held")


# ---- foreign text ------------------------------------------------------------------------------------------


def only(held: Contents, *records: Record) -> Contents:
    return replace(held, cells={one.key: one for one in records})


def hostile(held: Contents) -> Contents:
    """Every payload in every place that holds text."""
    ranked = [one for one in held.cells.values() if one.time][: len(PAYLOADS)]
    records, environments = [], {}
    for number, (payload, one) in enumerate(zip(PAYLOADS, ranked, strict=True)):
        kind = PAYLOADS[number % SCOPES]  # a scope for each payload would take long
        cell = replace(one.cell, algorithm=payload, variant=payload, preset=kind, regime=kind)
        marked = {"flags": [payload], "environment": kind, "details": {payload: payload, "family": payload}}
        records.append(replace(one, key=payload, cell=cell, **marked))
        fresh = replace(cell, variant=payload + "!")
        gone = {"key": payload + "!", "cell": fresh, "status": Status.CRASHED, "reason": payload}
        records.append(replace(one, **gone, **marked))
        environments[kind] = {"id": kind, "identity": {"gpu": kind, kind: kind}}
    layers = [{**one, "network": payload, "name": payload} for one in held.layers[:1] for payload in PAYLOADS]
    return replace(only(held, *records), environments=environments, layers=layers, notes=list(PAYLOADS))


def test_payloads_run_nothing_and_fetch_nothing(
    held: Contents, chromium: browser.Browser, tmp_path: Path
) -> None:
    file = written(tmp_path / "hostile.html", hostile(held))
    page = chromium.page()
    page.call("Page.addScriptToEvaluateOnNewDocument", source=NOTICE)
    page.open(file)
    assert page.ask("scopes.length") == SCOPES
    page.ask(WALK)
    page.settle()
    assert page.ask("window.ran") == 0
    assert page.ask("document.scripts.length") == 3
    assert page.ask(f"document.querySelectorAll({json.dumps(ALIVE)}).length") == 0
    shown = page.text("body")
    assert all(
        payload in shown for payload in ("<script>alert(1)</script>", "<svg/onload=alert(1)>", "{{ 7 * 7 }}")
    )
    assert page.requests() == [] and page.complaints() == []
    quiet = chromium.page(scripts=False)
    quiet.open_static(file)
    assert quiet.requests() == []
    page.close()
    quiet.close()


def test_a_hostile_address_is_text(file: Path, show: Open) -> None:
    page = show(
        file, "#find=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&no-algorithm=%3Cscript%3E&network=__proto__"
    )
    assert page.ask("document.querySelectorAll('img').length") == 0


def test_the_data_block_cannot_be_left() -> None:
    text = block({"a": "</script><!--&\u2028", "b": [1.5, None]})
    assert not re.search("[<>&\u2028]", text) and json.loads(text) == {
        "a": "</script><!--&\u2028",
        "b": [1.5, None],
    }


# ---- looks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_the_screen_in_light_and_dark(
    size: tuple[int, int], dark: bool, file: Path, show: Open, tmp_path: Path
) -> None:
    page = show(file, "#workspace=64MiB", size=size, dark=dark)
    picture = page.shot(tmp_path / "shot.png")
    from matplotlib.image import imread

    corner = imread(picture)[4, 4, :3].mean()
    assert (corner < 0.2) if dark else (corner > 0.9)
    assert page.ask("document.documentElement.scrollWidth <= innerWidth")
    page.click("#theme")
    assert page.ask("document.documentElement.dataset.theme") == "light"


def test_without_scripts_there_are_tables(file: Path, chromium: browser.Browser, held: Contents) -> None:
    page = chromium.page(scripts=False)
    page.open_static(file)
    text = page.static_text()
    assert "Winners" in text and "By workspace limit" in text and "Coverage" in text
    assert "Total without a limit" not in text
    page.close()


def test_it_prints(file: Path, show: Open, tmp_path: Path) -> None:
    assert show(file, dark=True).pdf(tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_keys_reach_every_control(file: Path, show: Open) -> None:
    page = show(file)
    reached = set()
    for _ in range(24):
        page.press("Tab")
        reached.add(page.ask("document.activeElement.id || document.activeElement.dataset.place || ''"))
    assert {"copy", "theme", "limit", "limit-text", "precision", "algorithm fft"} <= reached


def test_an_empty_folder_says_so(show: Open, tmp_path: Path) -> None:
    assert "Nothing to rank" in show(written(tmp_path / "page.html", Contents())).text("body")


# ---- size and speed ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_five_thousand_cells(show: Open, tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path / "run", 5000)
    start = time.perf_counter()
    file = build(folder)
    took, size = time.perf_counter() - start, file.stat().st_size
    ready = min(show(file).ask("performance.getEntriesByName('ready')[0].startTime") for _ in range(3))
    print(f"5000 cells: report {took:.1f} s, page {size / 1e6:.2f} MB, interactive after {ready / 1e3:.2f} s")
    assert size < 3e6 and ready < 5e3
