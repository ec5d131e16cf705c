// Who wins on each layer, and everyone beside them.
"use strict";

// ---- winners ----

function winnerRows() {
  const { scope, network, directions, limit } = app;
  return scope.passes(network, directions).map(({ layer, direction }) => {
    const [best, second] = scope.fastest(layer.problem, direction, limit);
    const free = scope.best(layer.problem, direction);
    return { layer, direction, best, second, cost: best && free ? best.ms / free.ms : null };
  });
}

function winnerColumns() {
  const { floor } = app.scope;
  const of =
    (read) =>
    ({ best }) =>
      best ? read(best) : MISSING;
  const by =
    (read) =>
    ({ best }) =>
      best ? read(best) : null;
  return [
    layerColumn(),
    {
      key: "direction",
      name: "direction",
      sort: ({ direction }) => app.scope.directions.indexOf(direction),
      cell: ({ direction }) => direction,
    },
    { key: "winner", name: "winner", sort: by((cell) => cell.name), cell: of(nameOf) },
    {
      key: "time",
      name: "time (ms)",
      number: true,
      best: ({ best }) => best,
      sort: by((cell) => cell.ms),
      cell: of((cell) => significant(cell.ms)),
    },
    {
      key: "interval",
      name: "± %",
      number: true,
      quiet: true,
      sort: by(halfWidth),
      cell: of((cell) => (cell.lo == null ? "n/a" : significant(halfWidth(cell), 2))),
      title: "How far the 95 % interval reaches from the time, in percent of it",
    },
    {
      key: "workspace",
      name: "workspace",
      number: true,
      sort: by((cell) => cell.workspace),
      cell: of(workspaceText),
    },
    {
      key: "cost",
      name: "cost of limit",
      number: true,
      sort: ({ cost }) => cost,
      cell: ({ cost }) => costCell(cost),
      title: "How often as long as without a limit",
    },
    {
      key: "rate",
      name: "GFLOP/s",
      number: true,
      sort: by((cell) => cell.flopRate),
      cell: of((cell) => significant(cell.flopRate)),
    },
    {
      key: "accuracy",
      name: "accuracy",
      sort: by((cell) => cell.error),
      quiet: true,
      cell: of(accuracyText),
    },
    {
      key: "factor",
      name: "factor",
      number: true,
      sort: ({ best, second }) => second && second.ms / best.ms,
      cell: ({ best, second }) => factorText(best, second, floor),
      title: "How often as long the runner-up takes; ≈ where the order may be chance",
    },
    {
      key: "second",
      name: "runner-up",
      sort: ({ second }) => second?.name,
      cell: ({ second }) =>
        second ? el("span", { className: "second", title: second.name }, nameOf(second)) : MISSING,
    },
  ];
}

const halfWidth = (cell) =>
  cell.lo == null ? null : (100 * Math.max(cell.hi - cell.ms, cell.ms - cell.lo)) / cell.ms;
const factorText = (best, second, floor) =>
  second ? `${leads(best, second, floor) ? "" : "≈ "}${significant(second.ms / best.ms)}` : MISSING;
const costCell = (cost) =>
  cost === null
    ? MISSING
    : cost > 1.0005
      ? el("span", { className: "dear" }, ratio(cost))
      : el("span", { className: "quiet" }, "1×");

function layerColumn() {
  return {
    key: "layer",
    name: "layer",
    sort: ({ layer }) => layer.title,
    cell: ({ layer, direction }) => [
      el(
        "button",
        {
          type: "button",
          className: "pick",
          "data-place": `${layer.problem}/${direction ?? ""}`,
          "data-problem": layer.problem,
          "data-direction": direction ?? app.directions[0],
        },
        layer.title,
      ),
      layer.repeat > 1
        ? el(
            "span",
            { className: "repeat", title: `${layer.repeat} times in the network` },
            `×${layer.repeat}`,
          )
        : null,
      layer.title === app.scope.problems[layer.problem][1]
        ? null
        : el("small", {}, app.scope.problems[layer.problem][1]),
    ],
  };
}

function showWinners() {
  const rows = winnerRows();
  const held = app.scope.total(app.network, app.directions, app.limit);
  const foot = [
    el("th", { scope: "row", colSpan: 3 }, "total"),
    numberCell(held.ms === null ? `${held.done} of ${held.all}` : significant(held.ms)),
    el("td", { colSpan: 2 }),
    numberCell(ratio(limitCost().ratio)),
    el("td", { colSpan: 4 }),
  ];
  show(
    $("winners-sheet"),
    table(winnerColumns(), rows, {
      ...sortable("winners", showWinners),
      row: ({ best }) => rowOf(best),
      foot: [foot],
    }),
  );
}

// ---- every algorithm beside the others ----

function showMatrix() {
  const { scope, limit } = app;
  const rows = winnerRows();
  const names = scope.algorithms.filter((name) => !app.off.algorithm.has(name));
  const best = (row, name) => scope.best(row.layer.problem, row.direction, limit, name);
  const columns = [
    layerColumn(),
    winnerColumns()[1],
    ...names.map((name) => ({
      key: `of ${name}`,
      name: [swatch(name), name],
      number: true,
      sort: (row) => best(row, name)?.ms,
      best: (row) => row.best?.algorithm === name,
      cell: (row) => timeCell(best(row, name)),
    })),
  ];
  const sums = names.map((name) =>
    scope.passes(app.network, app.directions).map(({ layer, direction }) => {
      const cell = scope.best(layer.problem, direction, limit, name);
      return cell && layer.repeat * cell.ms;
    }),
  );
  const foot = [
    el("th", { scope: "row", colSpan: 2 }, "total"),
    ...sums.map((times) => numberCell(totalText(summed(times)))),
  ];
  show($("winners-sheet"), table(columns, rows, { ...sortable("matrix", showMatrix), foot: [foot] }));
}

const timeCell = (cell) =>
  cell
    ? el("span", { className: "figure-cell", "data-cell": cell.id, tabIndex: 0 }, significant(cell.ms))
    : MISSING;
