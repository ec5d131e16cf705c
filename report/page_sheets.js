// What tables have in common, the totals of networks, and finished tables.
"use strict";

const sortable = (id, redraw) => ({
  id,
  sort: app.sort[id],
  onsort: (sort) => {
    app.sort[id] = sort;
    keep();
    redraw();
  },
});
const nameOf = (cell) => [
  swatch(cell.algorithm),
  el(
    "span",
    { className: "name" },
    cell.algorithm,
    cell.variant ? [" ", el("small", {}, cell.variant)] : null,
  ),
];
const rowOf = (cell) => (cell ? { "data-cell": cell.id } : {});

// ---- networks ----

function networkRows() {
  const { scope, network, directions, limit } = app;
  const backward = directions.filter((direction) => BACKWARD.includes(direction));
  const forward = directions.filter((direction) => direction === "fwd");
  const sums = (name) =>
    [directions, forward, backward].map((some) =>
      some.length ? scope.sum(network, some, limit, name) : null,
    );
  const names = scope.algorithms.filter((name) => !app.off.algorithm.has(name));
  const rows = names.map((name) => ({ name, kinds: kindsOf(name), sums: sums(name) }));
  const best = { name: null, kinds: "", sums: sums(null) };
  const order = ({ sums: [total] }) => [total.ms ?? Infinity, -total.done];
  rows.sort((a, b) => order(a)[0] - order(b)[0] || order(a)[1] - order(b)[1] || (a.name < b.name ? -1 : 1));
  return [...rows, best];
}

// The variants that are the algorithm's fastest, the most frequent first.
function kindsOf(name) {
  const counts = new Map();
  for (const { layer, direction } of app.scope.passes(app.network, app.directions)) {
    const best = app.scope.best(layer.problem, direction, app.limit, name);
    if (best) counts.set(best.variant, (counts.get(best.variant) ?? 0) + 1);
  }
  const named = [...counts]
    .sort(([, a], [, b]) => b - a)
    .slice(0, 2)
    .map(([variant]) => variant)
    .filter(Boolean);
  return [...named, ...(counts.size > 2 ? [`${counts.size - 2} more`] : [])].join(", ");
}

const sumText = (sum) =>
  sum === null ? MISSING : sum.ms === null ? `${sum.done} of ${sum.all} layers` : significant(sum.ms);

function showNetworks() {
  const rows = networkRows();
  const best = rows.at(-1).sums[0].ms;
  const sum = (index) => ({ number: true, cell: ({ sums }) => sumText(sums[index]) });
  const columns = [
    {
      key: "algorithm",
      name: "algorithm",
      cell: ({ name }) => (name === null ? "best per layer" : [swatch(name), name]),
    },
    { key: "class", name: "class", quiet: true, cell: ({ kinds }) => kinds },
    {
      key: "total",
      name: "total (ms)",
      best: (row) => row === rows[0] && row.sums[0].ms !== null,
      ...sum(0),
    },
    { key: "forward", name: "forward (ms)", ...sum(1) },
    { key: "backward", name: "backward (ms)", ...sum(2) },
    {
      key: "ratio",
      name: "to the best",
      number: true,
      quiet: true,
      cell: ({ sums: [{ ms }] }) => (ms === null || best === null ? MISSING : ratio(ms / best)),
    },
  ];
  show(
    $("networks-sheet"),
    table(columns, rows, {
      id: "networks",
      row: ({ name }) => (name === null ? { className: "total" } : {}),
    }),
  );
}

// ---- finished tables ----

function finished(raw) {
  const word = (number) => DATA.words[number];
  const best = new Set(raw.best.map(([i, j]) => `${i} ${j}`));
  const columns = raw.columns.map((name, j) => ({
    key: String(j),
    name,
    number: Boolean(raw.numeric[j]),
    cell: ([, row]) => word(row[j]),
    best: ([i]) => best.has(`${i} ${j}`),
  }));
  const rows = raw.rows.map((row, i) => [i, row]);
  const total = ([i]) => (i >= rows.length - raw.totals ? { className: "total" } : {});
  return el(
    "figure",
    { className: "sheet" },
    el(
      "div",
      { className: "scroll", tabIndex: 0, role: "region", "aria-label": raw.title },
      table(columns, rows, { caption: raw.title, row: total }),
    ),
    raw.note && el("figcaption", {}, raw.note),
  );
}

// Tables of other scopes stay away: their titles end with the scope they belong to.
function showFinished() {
  const others = scopes.filter((scope) => scope !== app.scope).map((scope) => `(${scope.label})`);
  const mine = (one) => !others.some((label) => one.title.endsWith(label));
  const parts = Object.entries(DATA.tables).map(([heading, tables]) => {
    const own = tables.filter(mine);
    const details = el(
      "details",
      { className: "fold" },
      el("summary", {}, heading, el("small", {}, own.length > 1 ? `${own.length} tables` : "")),
    );
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1) details.append(...own.map(finished));
    });
    return own.length ? details : null;
  });
  $("finished").replaceChildren(...parts.filter(Boolean));
}
