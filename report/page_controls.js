// What one can choose: filters, scope, and the limit.
"use strict";

// ---- filters ----

function showFilters() {
  const { scope } = app;
  const networks = choice("network", scope.networks, app.network, networkName);
  const facets = FACETS.map((name) =>
    choice(name, [...new Set(scopes.map((one) => one[name]))], scope[name], facetName(name)),
  );
  const groups = [
    chips("directions", scope.directions, (value) => app.directions.includes(value)),
    ...NARROWING.map((name) => chips(name, valuesOf(name), (value) => !app.off[name].has(value))),
  ];
  show($("filters"), networks, facets, groups);
  $("scope").textContent = scope.label;
}

const FACET_NAMES = { figure: "figure", preset: "preset", environment: "environment" };
const facetName = (name) => (value) => (name === "environment" ? environmentName(value) : value);

function environmentName(id) {
  const facts = Object.fromEntries(DATA.environments[id] ?? []);
  return [facts.gpu ?? facts.cpu, id].filter(Boolean).join(", ");
}

const CHIP_NAMES = {
  directions: "direction",
  algorithm: "algorithm",
  family: "family",
  accuracy: "accuracy class",
};

function valuesOf(name) {
  return [...new Set(app.scope.ranked.map((cell) => cell[name]))].sort();
}

// A list to choose one from; with nothing to choose there is none.
function choice(name, values, value, text) {
  if (values.length < 2) return null;
  const options = values.map((one) => el("option", { value: one, selected: one === value }, text(one)));
  return el(
    "label",
    { className: "choice" },
    el("span", {}, FACET_NAMES[name] ?? name),
    el("select", { "data-choice": name, "data-place": name }, options),
  );
}

// Switches; at least one of a group stays on.
function chips(name, values, on) {
  if (values.length < 2 || (name === "family" && values.join() === valuesOf("algorithm").join())) return null;
  const buttons = values.map((value) =>
    el(
      "button",
      {
        type: "button",
        className: "chip",
        "aria-pressed": String(on(value)),
        "data-chip": name,
        "data-value": value,
        "data-place": `${name} ${value}`,
      },
      name === "algorithm" ? swatch(value) : null,
      value,
    ),
  );
  return el(
    "div",
    { className: "chips", role: "group", "aria-label": CHIP_NAMES[name] },
    el("span", {}, CHIP_NAMES[name]),
    buttons,
  );
}

function chosen({ target }) {
  const name = target.dataset.choice;
  if (name === "network") app.network = target.value;
  enter(name === "network" ? app.scope : facet(name, target.value));
  app.shown = 100;
  changed();
}

function chipped(button) {
  const { chip, value } = button.dataset;
  if (chip === "directions") {
    const wanted = toggled(new Set(app.directions), value);
    if (wanted.size) app.directions = app.scope.directions.filter((direction) => wanted.has(direction));
  } else {
    const off = toggled(new Set(app.off[chip]), value);
    if (valuesOf(chip).some((one) => !off.has(one))) app.off[chip] = off;
  }
  enter(app.scope);
  changed();
}

function toggled(set, value) {
  if (!set.delete(value)) set.add(value);
  return set;
}

// ---- the limit ----

let waiting = 0; // a fast slider skips stops rather than lag behind

function limited(limit) {
  app.limit = limit;
  keep();
  card.close();
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(showLimited);
}

// Called with the slider's every step, so only what depends on the limit.
function showLimited() {
  showAnswer();
  moveCurve(stops, app.limit);
  (app.winners === "all" ? showMatrix : showWinners)();
  showNetworks();
  showLayer();
  stale("pareto", "roofline", "layers");
}

function typed() {
  const limit = parseSize($("limit-text").value);
  $("limit-text").setCustomValidity(
    limit === undefined ? "Write a size: 64MiB, 2GB, plain bytes, or none" : "",
  );
  if (limit === undefined) $("limit-text").reportValidity();
  else limited(limit);
}
