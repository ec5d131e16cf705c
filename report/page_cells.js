// Single cells: what was tried on one layer, and all of them.
"use strict";

// ---- one layer ----

function layerCells() {
  const { problem, direction } = app.layer;
  const here = (cell) => cell.problem === problem && cell.direction === direction;
  const free = ["algorithm", "family"];
  return app.scope.cells.filter(
    (cell) =>
      here(cell) && free.every((name) => !app.off[name].has(cell[name])) && (!cell.ranked || passes(cell)),
  );
}

function showLayer() {
  const { problem, direction } = app.layer;
  const cells = layerCells();
  const [fastest] = app.scope.variants(problem, direction);
  const front = new Set(pareto(app.scope.variants(problem, direction)));
  const inside = (cell) => cell.ranked && fits(cell, app.limit);
  const winner = app.scope.best(problem, direction, app.limit);
  const columns = [
    {
      key: "variant",
      name: "variant",
      sort: (cell) => cell.name,
      cell: (cell) => [
        el(
          "button",
          { type: "button", className: "pick", "data-card": cell.id, "data-place": `cell ${cell.id}` },
          nameOf(cell),
        ),
        front.has(cell)
          ? el(
              "span",
              { className: "tag", title: "No other variant beats it in both time and workspace" },
              "front",
            )
          : null,
      ],
    },
    {
      key: "time",
      name: "time (ms)",
      number: true,
      best: (cell) => cell === winner,
      sort: (cell) => cell.ms,
      cell: (cell) => significant(cell.ms),
    },
    {
      key: "ratio",
      name: "ratio",
      number: true,
      quiet: true,
      sort: (cell) => cell.ms,
      cell: (cell) => (cell.ranked ? ratio(cell.ms / fastest.ms) : MISSING),
    },
    {
      key: "workspace",
      name: "workspace",
      number: true,
      sort: (cell) => cell.workspace,
      cell: (cell) => (cell.workspace === null ? MISSING : workspaceText(cell)),
    },
    { key: "accuracy", name: "accuracy", quiet: true, sort: (cell) => cell.error, cell: accuracyText },
    { key: "status", name: "status", quiet: true, sort: statusText, cell: statusText },
  ];
  $("layer-title").textContent =
    `${app.scope.titles.get(problem) ?? ""} ${app.scope.problems[problem][1]} · ${direction}`;
  show(
    $("layer-sheet"),
    table(columns, cells, {
      ...sortable("layer", showLayer),
      row: (cell) => ({ ...rowOf(cell), className: inside(cell) ? "" : "outside" }),
    }),
  );
}

function statusText(cell) {
  if (cell.ranked)
    return fits(cell, app.limit) ? "fits" : cell.known ? "over limit" : "may not fit: workspace unknown";
  return cell.picked || (cell.status === "ok" ? cell.reason : `${cell.status}: ${cell.reason}`);
}

// ---- all cells ----

function showCells() {
  const words = app.query.toLowerCase().split(/\s+/).filter(Boolean);
  const members = new Set(app.scope.members(app.network).map((layer) => layer.problem));
  const found = app.scope.cells.filter(
    (cell) =>
      members.has(cell.problem) &&
      app.directions.includes(cell.direction) &&
      passes(cell) &&
      (!app.status || statusOf(cell) === app.status) &&
      words.every((word) => haystack(cell).includes(word)),
  );
  const columns = cellColumns().filter(
    (column) => !column.optional || found.some((cell) => cell[column.optional] != null),
  );
  const options = sortable("cells", showCells);
  const rows = sorted(columns, found, options.sort);
  show($("cells-sheet"), table(columns, rows.slice(0, app.shown), { ...options, row: rowOf }));
  $("cells-count").textContent = `${fixed(found.length, 0)} of ${fixed(app.scope.cells.length, 0)} cells`;
  $("cells-more").hidden = found.length <= app.shown;
}

const statusOf = (cell) => (cell.ranked ? "ranked" : cell.status === "ok" ? "ok, not ranked" : cell.status);

function haystack(cell) {
  cell.text ??= [
    app.scope.titles.get(cell.problem),
    app.scope.problems[cell.problem][1],
    cell.direction,
    cell.name,
    cell.family,
    statusOf(cell),
    cell.reason,
    cell.flags,
    cell.details,
  ]
    .join(" ")
    .toLowerCase();
  return cell.text;
}

function cellColumns() {
  const plainNumber = (key, name, more = {}) => ({
    key,
    name,
    number: true,
    quiet: true,
    optional: key,
    sort: (cell) => cell[key],
    cell: (cell) => significant(cell[key] ?? null),
    ...more,
  });
  return [
    {
      key: "layer",
      name: "layer",
      sort: (cell) => app.scope.titles.get(cell.problem),
      cell: (cell) => [
        el(
          "button",
          { type: "button", className: "pick", "data-card": cell.id, "data-place": `cell ${cell.id}` },
          app.scope.titles.get(cell.problem),
        ),
        el("small", {}, cell.direction),
      ],
    },
    { key: "variant", name: "variant", sort: (cell) => cell.name, cell: nameOf },
    { key: "family", name: "family", quiet: true, sort: (cell) => cell.family, cell: (cell) => cell.family },
    {
      key: "time",
      name: "time (ms)",
      number: true,
      sort: (cell) => cell.ms,
      cell: (cell) => significant(cell.ms),
    },
    {
      key: "rate",
      name: "GFLOP/s",
      number: true,
      sort: (cell) => cell.flopRate,
      cell: (cell) => significant(cell.flopRate),
    },
    plainNumber("limit_ms", "% of limit", {
      sort: (cell) => cell.limit_ms && cell.limit_ms / cell.ms,
      cell: (cell) => (cell.limit_ms ? significant((100 * cell.limit_ms) / cell.ms) : MISSING),
    }),
    {
      key: "workspace",
      name: "workspace",
      number: true,
      sort: (cell) => cell.workspace,
      cell: (cell) => (cell.workspace === null ? MISSING : workspaceText(cell)),
    },
    { key: "accuracy", name: "accuracy", quiet: true, sort: (cell) => cell.error, cell: accuracyText },
    plainNumber("joules", "J per call"),
    {
      key: "status",
      name: "status",
      quiet: true,
      sort: statusOf,
      cell: (cell) =>
        cell.ranked ? "ranked" : el("span", { className: "reason" }, `${statusOf(cell)}: ${cell.reason}`),
    },
  ];
}
