// What is selected, and how it is written into the address, so that a link shows the same again.
"use strict";

const DATA = JSON.parse($("data").textContent);
const scopes = DATA.scopes.map((raw) => new Scope(raw, DATA.words));
const stops = sliderStops(scopes);

const app = {
  scope: scopes[0],
  network: "",
  directions: [],
  limit: null,
  off: { algorithm: new Set(), family: new Set(), accuracy: new Set() },
  layer: null, // {problem, direction} of the layer view
  winners: "winners",
  sort: {}, // by table
  query: "",
  status: "",
  shown: 100,
};
const NARROWING = ["algorithm", "family", "accuracy"];

// ---- moving between scopes ----

function enter(scope) {
  app.scope = scope;
  if (!scope.networks.includes(app.network)) [app.network] = scope.networks;
  const kept = app.directions.filter((direction) => scope.directions.includes(direction));
  app.directions = kept.length ? kept : [...scope.directions];
  narrow();
  settleLayer();
}

// The scope with this value of a facet that is nearest to the one shown.
function facet(name, value) {
  const near = (scope) => FACETS.filter((one) => scope[one] === app.scope[one]).length;
  const found = scopes.filter((scope) => scope[name] === value);
  return found.sort((a, b) => near(b) - near(a))[0] ?? app.scope;
}

const passes = (cell) => NARROWING.every((name) => !app.off[name].has(cell[name]));

const narrow = () => app.scope.filter(passes);

// A layer to look at: the one chosen, else the one with most variants in this network.
function settleLayer() {
  const chosen =
    app.layer &&
    app.scope
      .passes(app.network, app.scope.directions)
      .some(
        ({ layer, direction }) => layer.problem === app.layer.problem && direction === app.layer.direction,
      );
  if (chosen) return;
  const all = app.scope.passes(app.network, app.directions);
  const count = ({ layer, direction }) => app.scope.variants(layer.problem, direction).length;
  const { layer, direction } = all.reduce((most, one) => (count(one) > count(most) ? one : most), all[0]);
  app.layer = { problem: layer.problem, direction };
}

// ---- the address ----

const scopeText = (scope) => FACETS.map((name) => scope[name]).join("|");

function toHash() {
  const parts = new URLSearchParams();
  if (app.scope !== scopes[0]) parts.set("scope", scopeText(app.scope));
  if (app.network !== app.scope.networks[0]) parts.set("network", app.network);
  if (app.directions.length < app.scope.directions.length) parts.set("directions", app.directions.join(","));
  if (app.limit !== null) parts.set("workspace", sizeText(app.limit));
  for (const name of NARROWING) for (const value of app.off[name]) parts.append(`no-${name}`, value);
  if (app.layer) parts.set("layer", `${app.scope.problems[app.layer.problem][1]}/${app.layer.direction}`);
  if (app.winners !== "winners") parts.set("view", app.winners);
  for (const [id, sort] of Object.entries(app.sort)) parts.append("sort", `${id}.${sort}`);
  if (app.query) parts.set("find", app.query);
  if (app.status) parts.set("status", app.status);
  return `#${parts}`;
}

function fromHash(hash) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const scope = scopes.find((one) => scopeText(one) === parts.get("scope")) ?? scopes[0];
  app.network = parts.get("network") ?? "";
  app.directions = (parts.get("directions") ?? "").split(",");
  app.limit = parseSize(parts.get("workspace") ?? "") ?? null;
  for (const name of NARROWING) app.off[name] = new Set(parts.getAll(`no-${name}`));
  app.layer = layerOf(scope, parts.get("layer"));
  app.winners = parts.get("view") === "all" ? "all" : "winners";
  app.sort = Object.fromEntries(parts.getAll("sort").map((text) => text.split(/\.(.*)/s).slice(0, 2)));
  app.query = parts.get("find") ?? "";
  app.status = parts.get("status") ?? "";
  enter(scope);
}

function layerOf(scope, text) {
  const [short, direction] = (text ?? "").split("/");
  const problem = scope.problems.findIndex((names) => names[1] === short);
  return problem >= 0 && scope.directions.includes(direction) ? { problem, direction } : null;
}

// Bytes so that parseSize reads the very same number.
function sizeText(bytes) {
  for (const [unit, size] of [
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ]) {
    if (bytes && bytes % (size / 4) === 0 && bytes >= size) return `${bytes / size}${unit}`;
  }
  return String(bytes);
}

// Browsers refuse too many changes of the address in a row, so a moving slider writes it when it rests.
let writing = 0;

function keep() {
  clearTimeout(writing);
  writing = setTimeout(() => history.replaceState(null, "", toHash()), 120);
}
