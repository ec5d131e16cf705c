// The card of one cell: what stands behind its figure, and the command that measures it again.
"use strict";

const card = {
  pinned: false,
  timer: 0,
  cell: null,
  back: null, // what had the keyboard before
  source: null, // the line or figure that was pointed at

  // Beside the box of what was pointed at, if the pointer rests there. A pinned card stays where it is.
  show(cell, box, delay = 0, source = null) {
    clearTimeout(this.timer);
    if (this.pinned || (this.cell === cell && !$("card").hidden)) return;
    this.source = source;
    this.timer = setTimeout(() => this.open(cell, box), delay);
  },

  open(cell, box) {
    this.cell = cell;
    fillCard(cell);
    $("card").hidden = false;
    if (cell.blocks) drawBlocks(cell);
    if (box) this.put(box);
  },

  // Under the box or above it; where there is room for neither, at the right edge, clear of the line's name.
  put(box) {
    const sheet = $("card");
    const { width, height } = sheet.getBoundingClientRect();
    const under = box.bottom + 8,
      over = box.top - 8 - height;
    const fits = under + height < innerHeight ? under : over > 0 ? over : null;
    const left = fits === null ? innerWidth : box.left;
    sheet.style.top = `${Math.max(8, fits ?? Math.min(under, innerHeight - height - 8))}px`;
    sheet.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 24))}px`;
  },

  // A moment's grace, so that the pointer can reach the card.
  leave() {
    clearTimeout(this.timer);
    if (!this.pinned) this.timer = setTimeout(() => this.close(), 220);
  },

  // Keep it until it is closed; the keyboard goes into it and comes back afterwards.
  pin(cell, box, keyboard = false) {
    clearTimeout(this.timer);
    if (this.cell !== cell || $("card").hidden) this.open(cell, box);
    this.pinned = true;
    $("card").classList.add("pinned");
    this.back = keyboard ? document.activeElement : null;
    if (keyboard) $("card").querySelector(".command button").focus();
  },

  // The page moved: a card of what has the keyboard goes along, others close.
  scrolled() {
    if (this.pinned || $("card").hidden) return;
    if (this.source?.contains(document.activeElement)) this.put(anchor(this.source));
    else this.close();
  },

  close() {
    clearTimeout(this.timer);
    if ($("card").contains(document.activeElement)) this.back?.focus();
    this.pinned = false;
    this.cell = this.back = null;
    $("card").hidden = true;
    $("card").classList.remove("pinned");
  },
};

function fillCard(cell) {
  const scope = app.scope;
  const [, short] = scope.problems[cell.problem];
  const title = scope.titles.get(cell.problem);
  const figure = cell.ms === null ? cell.status : `${significant(cell.ms, 4)} ms`;
  $("card").replaceChildren(
    el(
      "button",
      { type: "button", className: "close", "aria-label": "Close", onclick: () => card.close() },
      "×",
    ),
    el("h3", {}, swatch(cell.algorithm), el("span", {}, cell.name)),
    el(
      "p",
      { className: "quiet" },
      [...new Set([title, short])].filter(Boolean).join(" · "),
      ` · ${cell.direction}`,
    ),
    el(
      "p",
      { className: "headline" },
      el("strong", {}, figure),
      " ",
      el("span", { className: "quiet" }, intervalOf(cell)),
    ),
    cell.blocks
      ? el(
          "div",
          { className: "blocks" },
          el("canvas", { id: "blocks", role: "img", "aria-label": blocksText(cell) }),
        )
      : "",
    cell.blocks
      ? el("p", { className: "caption" }, "Each round's median, and their median with its 95 % interval")
      : "",
    el(
      "dl",
      {},
      factsOf(cell).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
    ),
    el("p", { className: "caption" }, "Measure it again, with the other variants of this algorithm:"),
    commandRow(commandOf(scope, cell)),
  );
}

function commandRow(text) {
  const words = text.split(" ").flatMap((word) => [el("span", {}, word), " "]).slice(0, -1); // broken between words
  const code = el("code", { tabIndex: 0 }, words);
  const copied = (event) => copyText(text, event.currentTarget);
  return el("div", { className: "command" }, code, el("button", { type: "button", onclick: copied }, "Copy"));
}

// The clipboard may be refused to a page from a file: then the text is selected instead.
function copyText(text, button) {
  const told = (word) => {
    button.textContent = word;
    setTimeout(() => {
      button.textContent = "Copy";
    }, 1500);
  };
  const select = () => {
    const code = button.parentNode.querySelector("code");
    if (code) getSelection().selectAllChildren(code);
    told("Selected");
  };
  if (!navigator.clipboard) return select();
  return navigator.clipboard.writeText(text).then(() => told("Copied"), select);
}

function intervalOf(cell) {
  if (cell.ms === null) return "";
  if (cell.lo == null || cell.hi == null) return "no interval: too few rounds";
  return `${significant(cell.lo, 4)} – ${significant(cell.hi, 4)}, 95 % interval`;
}

const blocksText = (cell) =>
  `Block medians in ms: ${blockTimes(cell)
    .map((time) => significant(time, 4))
    .join(", ")}`;

function factsOf(cell) {
  const facts = [
    ["not ranked", cell.ranked ? "" : cell.reason || cell.status],
    ["workspace", cell.workspace === null ? "" : workspaceText(cell)],
    ["accuracy", accuracyText(cell)],
    ["effective rate", cell.flopRate && `${significant(cell.flopRate)} GFLOP/s`],
    ["of the limit", cell.limit_ms && `${significant((100 * cell.limit_ms) / cell.ms)} % (${cell.rate})`],
    ["family", cell.family],
    ["library's choice", cell.picked],
    ["flags", cell.flags],
    ["SM clock", cell.clock_mhz && `${cell.clock_mhz.toFixed(0)} MHz`],
    [
      "board",
      [cell.watts && `${cell.watts.toFixed(0)} W`, cell.celsius && `${cell.celsius.toFixed(0)} °C`]
        .filter(Boolean)
        .join(", "),
    ],
    ["host", hostText(cell)],
    ["energy", cell.joules && `${significant(cell.joules)} J per call`],
    ...cell.details
      .split(" · ")
      .map((part) => part.split(/: (.*)/s).slice(0, 2))
      .filter((pair) => pair.length === 2),
  ];
  return facts.filter(([, value]) => value);
}

function hostText(cell) {
  const times = [
    ["call", cell.call_ms],
    ["enqueue", cell.enqueue_ms],
    ["preparing", cell.prepare_ms],
  ];
  return times
    .filter(([, ms]) => ms != null)
    .map(([name, ms]) => `${name} ${significant(ms)} ms`)
    .join(", ");
}

const workspaceText = (cell) =>
  cell.known || cell.workspace ? `${cell.known ? "" : "≥ "}${formatSize(cell.workspace)}` : "unknown";
const accuracyText = (cell) =>
  [cell.accuracy, cell.error != null && exponent(cell.error)].filter(Boolean).join(" ");
