// Wires the page together: events, keyboard, theme, printing, start.
"use strict";

// ---- events ----

function listen() {
  $("filters").addEventListener("change", chosen);
  $("limit").addEventListener("input", () => limited(stops[Number($("limit").value)]));
  $("limit-text").addEventListener("change", typed);
  $("limit-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter") typed();
  });
  $("pickers").addEventListener("change", () =>
    lookAt(Number($("pick-layer").value), $("pick-direction").value),
  );
  $("find").addEventListener("input", () => {
    app.query = $("find").value;
    app.shown = 100;
    keep();
    showCells();
  });
  $("find-status").addEventListener("change", () => {
    app.status = $("find-status").value;
    app.shown = 100;
    keep();
    showCells();
  });
  $("cells-more").addEventListener("click", () => {
    app.shown += 400;
    showCells();
  });
  $("copy").addEventListener("click", copyLink);
  $("theme").addEventListener("click", nextTheme);
  document.addEventListener("click", click);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") card.close();
  });
  document.addEventListener("mouseover", ({ target }) => point(target, REST));
  document.addEventListener("focusin", ({ target }) => point(target));
  addEventListener("hashchange", () => {
    fromHash(location.hash);
    inputs();
    card.close();
    showAll();
  });
  addEventListener("scroll", () => card.scrolled(), { passive: true });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  addEventListener("beforeprint", () => printing(true));
  addEventListener("afterprint", () => printing(false));
}

function click({ target, detail }) {
  const button = target.closest("button");
  if (button?.dataset.chip) return chipped(button);
  if (button?.dataset.view) {
    app.winners = button.dataset.view;
    keep();
    showViews();
    return showLimited();
  }
  if (button?.dataset.stop) return limited(stops[Number(button.dataset.stop)]);
  if (button?.dataset.problem) return explore(button);
  const row = target.closest("[data-cell]");
  if (row && !button?.classList.contains("sorter"))
    return card.pin(app.scope.cells[row.dataset.cell], anchor(row), detail === 0);
  if (!target.closest("#card, canvas")) card.close();
  return undefined;
}

function explore({ dataset }) {
  lookAt(Number(dataset.problem), dataset.direction);
  $("layer").scrollIntoView({
    behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
  });
}

const REST = 280; // milliseconds that the pointer rests before a card opens

function point(target, delay = 0) {
  if (!(target instanceof Element)) return;
  if (target.closest("#card")) {
    clearTimeout(card.timer);
    return;
  }
  const row = target.closest("[data-cell]");
  if (row) card.show(app.scope.cells[row.dataset.cell], anchor(row), delay, row);
  else if (target.tagName !== "CANVAS") card.leave();
}

// The card stands under the line, beginning at its second column, so that the line's name stays readable.
function anchor(row) {
  const box = row.getBoundingClientRect();
  const left = row.children[1]?.getBoundingClientRect().left ?? box.left;
  return { left, right: box.right, top: box.top, bottom: box.bottom };
}

function copyLink() {
  history.replaceState(null, "", toHash());
  const told = (word) => {
    $("copy").textContent = word;
    setTimeout(() => {
      $("copy").textContent = "Copy link";
    }, 1500);
  };
  if (!navigator.clipboard) return told("It is in the address bar");
  return navigator.clipboard.writeText(location.href).then(
    () => told("Copied"),
    () => told("It is in the address bar"),
  );
}

// ---- light, dark, paper ----

const THEMES = ["auto", "light", "dark"];

function nextTheme() {
  const now = document.documentElement.dataset.theme ?? "auto";
  paint(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
}

function paint(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
  repaint();
}

function repaint() {
  defaults();
  if (!scopes.length) return;
  showAll(); // marks in tables have colours too
}

let before = "auto";

function printing(on) {
  if (on) before = document.documentElement.dataset.theme ?? "auto";
  paint(on ? "light" : before);
  if (on) Object.keys(DRAWN).forEach(redraw);
}

// ---- start ----

function inputs() {
  $("find").value = app.query;
  $("find-status").value = app.status;
}

function ticks() {
  const step = 3 * STEPS;
  const marks = stops
    .map((limit, stop) => ({ limit, stop }))
    .filter(
      ({ limit, stop }) =>
        limit === null ||
        limit === 0 ||
        (limit >= 2 ** 17 && (stop - 1 - STEPS) % step === 0 && stop < 0.88 * stops.length),
    );
  $("ticks").replaceChildren(
    ...marks.map(({ limit, stop }) => {
      const text = limit === null ? "no limit" : limit ? formatSize(limit) : "0";
      const button = el(
        "button",
        { type: "button", "data-stop": stop, tabIndex: -1, title: `Limit: ${limitName(limit)}` },
        text,
      );
      button.style.left = `${(100 * stop) / (stops.length - 1)}%`;
      return button;
    }),
  );
}

function start() {
  document.documentElement.classList.add("js");
  defaults();
  if (!scopes.length) {
    document.querySelectorAll(".app").forEach((part) => part.remove());
    return;
  }
  $("limit").max = stops.length - 1;
  const statuses = [...new Set(scopes.flatMap((scope) => scope.cells.map(statusOf)))].sort();
  $("find-status").append(...statuses.map((status) => el("option", { value: status }, status)));
  fromHash(location.hash);
  inputs();
  ticks();
  listen();
  showAll();
  for (const id of Object.keys(DRAWN)) watcher.observe($(id).parentNode);
  performance.mark("ready");
}

start();
