// What is drawn when.
"use strict";

// ---- charts are drawn when they come into view ----

const visible = new Set();
const old = new Set();
const DRAWN = {
  pareto: () => drawPareto(app.scope.variants(app.layer.problem, app.layer.direction), app.limit),
  roofline: () =>
    drawRoofline(
      winnerRows().flatMap(({ layer, direction }) => app.scope.fastest(layer.problem, direction, app.limit)),
      app.scope.ceilings,
    ),
  layers: () => drawLayers(layerRows()),
};
const MOST_ROWS = 120;

function layerRows() {
  const several = app.directions.length > 1;
  return winnerRows()
    .slice(0, MOST_ROWS)
    .map(({ layer, direction }) => ({
      name: several ? `${layer.title} ${direction}` : layer.title,
      found: app.scope.fastest(layer.problem, direction, app.limit),
    }));
}

function stale(...ids) {
  for (const id of ids) {
    old.add(id);
    if (visible.has(id)) redraw(id);
  }
}

function redraw(id) {
  old.delete(id);
  const cells =
    id === "pareto"
      ? app.scope.variants(app.layer.problem, app.layer.direction)
      : winnerRows().flatMap(({ layer, direction }) =>
          app.scope.variants(layer.problem, direction, app.limit),
        );
  const nothing = !cells.length;
  $(id).parentNode.classList.toggle("nothing", nothing);
  if (!nothing) DRAWN[id]();
}

const watcher = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const [canvas] = target.getElementsByTagName("canvas");
      if (isIntersecting) visible.add(canvas.id);
      else visible.delete(canvas.id);
      if (isIntersecting && old.has(canvas.id)) redraw(canvas.id);
    }
  },
  { rootMargin: "200px" },
);

// ---- everything ----

function changed() {
  keep();
  card.close();
  showAll();
}

function showAll() {
  showFilters();
  drawCurve(stops, curve(), app.limit, limited);
  showViews();
  showLimited();
  showPickers();
  showCells();
  showFinished();
  const cells = Object.keys(app.scope.ceilings).length;
  $("roofline-note").textContent = cells
    ? "Lines: the rates that this machine sustained, as the records tell them. Transforms do fewer multiplications than the FLOPs counted here, so that they may stand above."
    : "These records hold no measured rates of the machine (convbench ceilings), so that there are no roofs.";
}

function showViews() {
  for (const button of document.querySelectorAll("[data-view]")) {
    button.setAttribute("aria-pressed", String(button.dataset.view === app.winners));
  }
}

function showPickers() {
  const { scope, layer } = app;
  const members = new Map(scope.members(app.network).map((one) => [one.problem, one.title]));
  const layers = [...members].map(([problem, title]) =>
    el("option", { value: problem, selected: problem === layer.problem }, title),
  );
  const directions = scope.directions.map((one) =>
    el("option", { value: one, selected: one === layer.direction }, one),
  );
  show(
    $("pickers"),
    el(
      "label",
      { className: "choice" },
      el("span", {}, "layer"),
      el("select", { id: "pick-layer", "data-place": "pick-layer" }, layers),
    ),
    el(
      "label",
      { className: "choice" },
      el("span", {}, "direction"),
      el("select", { id: "pick-direction", "data-place": "pick-direction" }, directions),
    ),
  );
}

function lookAt(problem, direction) {
  app.layer = { problem, direction };
  keep();
  showPickers();
  showLayer();
  stale("pareto");
}
