// Building blocks of the page. Foreign text is only ever set as text.
"use strict";

const $ = (id) => document.getElementById(id);

// An element; properties that start with "on" are listeners, children are nodes or text.
function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && !name.includes("-") && name !== "list") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

// Colour and shape of an algorithm, the same everywhere.
function swatch(name) {
  const mark = el("span", { className: "swatch", "aria-hidden": "true" });
  const [color, , hollow] = lookOf(name);
  mark.style.borderColor = color;
  if (!hollow) mark.style.background = color;
  return mark;
}

function lookOf(name) {
  const [color, marker, hollow] = Object.hasOwn(DATA.looks, name)
    ? DATA.looks[name]
    : ["#5f6875", "o", false];
  return [(isDark() && DATA.dark[color]) || color, marker, hollow];
}

const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark";

// ---- tables ----

// columns: {key, name, number, sort(row), cell(row), title}; a column without `sort` cannot be sorted by.
// options: caption, sort "key" or "-key", onsort(sort), row(row) -> properties of its line, foot: rows of text
function table(columns, rows, options) {
  const shown = sorted(columns, rows, options.sort);
  return el(
    "table",
    { "data-table": options.id },
    options.caption && el("caption", {}, options.caption),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        columns.map((column) => header(column, options)),
      ),
    ),
    el(
      "tbody",
      {},
      shown.map((row) => line(columns, row, options)),
    ),
    options.foot &&
      el(
        "tfoot",
        {},
        options.foot.map((cells) => el("tr", {}, cells)),
      ),
  );
}

function header(column, { sort, onsort }) {
  const active = sort && sort.replace(/^-/, "") === column.key;
  const state = active ? (sort.startsWith("-") ? "descending" : "ascending") : null;
  const flip = () => onsort(active && !sort.startsWith("-") ? `-${column.key}` : column.key);
  const label =
    column.sort && onsort
      ? el(
          "button",
          { type: "button", className: "sorter", "data-sort": column.key, onclick: flip },
          column.name,
        )
      : column.name;
  return el(
    "th",
    { scope: "col", className: column.number ? "number" : "", "aria-sort": state, title: column.title },
    label,
  );
}

function line(columns, row, options) {
  const cells = columns.map((column, j) => {
    const content = [column.cell(row)].flat();
    const className = [column.number && "number", column.quiet && "quiet", column.best?.(row) && "best"];
    return el(
      j ? "td" : "th",
      { scope: j ? null : "row", className: className.filter(Boolean).join(" ") },
      content,
    );
  });
  return el("tr", options.row?.(row) ?? {}, cells);
}

function sorted(columns, rows, sort) {
  const column = sort && columns.find((one) => one.key === sort.replace(/^-/, ""));
  if (!column?.sort) return rows;
  const sign = sort.startsWith("-") ? -1 : 1;
  const keyed = rows.map((row) => [column.sort(row), row]);
  return keyed.sort(([a], [b]) => order(a, b, sign)).map(([, row]) => row);
}

// What is missing comes last, whichever way the others go.
function order(a, b, sign) {
  if (a == null || b == null) return (a == null) - (b == null);
  return sign * (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
}

const numberCell = (text, options = {}) => el("td", { className: "number", ...options }, text);

// Replace what a sheet shows, and keep the keyboard where it was: buttons are found again by their names.
function show(parent, ...nodes) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.dataset : null;
  const key =
    focused &&
    (focused.sort
      ? `[data-sort="${CSS.escape(focused.sort)}"]`
      : focused.place && `[data-place="${CSS.escape(focused.place)}"]`);
  parent.replaceChildren(...nodes.flat().filter(Boolean));
  if (key) parent.querySelector(key)?.focus({ preventScroll: true });
}
