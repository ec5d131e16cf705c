// What the records say and how winners are chosen. No document here: everything below is plain data.
"use strict";

const MISSING = "–";
const BACKWARD = ["bwd-data", "bwd-filter"];
const FACETS = ["device", "figure", "precision", "layout", "regime", "preset", "environment"];

// ---- text: as report/tables.py and convbench/sizes.py write it ----

const formatters = new Map();

function fixed(value, decimals) {
  if (!formatters.has(decimals)) {
    const options = {
      minimumFractionDigits: decimals,
      maximumFractionDigits: decimals,
      roundingMode: "halfEven",
    };
    formatters.set(decimals, new Intl.NumberFormat("en-US", options));
  }
  return formatters.get(decimals).format(value);
}

function significant(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return MISSING;
  const decimals = value ? digits - 1 - Math.floor(Math.log10(Math.abs(value))) : 0;
  return fixed(value, Math.min(20, Math.max(0, decimals)));
}

function formatSize(size) {
  if (size === null || size === undefined) return "unknown";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = size;
  while (value >= 1024 && units.length > 1) {
    value /= 1024;
    units.shift();
  }
  if (units[0] === "B" || value >= 100) return `${value.toFixed(0)} ${units[0]}`;
  return `${Number(value.toPrecision(3))} ${units[0]}`;
}

const limitName = (limit) => (limit === null ? "no limit" : limit ? formatSize(limit) : "no workspace");

// Bytes from "64MiB", "2 GB" or "4096"; null for "none"; undefined if it is no size.
function parseSize(text) {
  const plain = text.trim().toLowerCase();
  if (plain === "none" || plain === "no limit" || plain === "") return null;
  if (plain === "no workspace") return 0;
  const match = /^(\d{1,18}(?:\.\d{1,9})?)\s*([kmgt]?)(i?)b?$/.exec(plain);
  if (!match || (match[3] && !match[2])) return undefined;
  const power = "kmgt".indexOf(match[2]) + 1;
  return Math.floor(Number(match[1]) * (match[3] ? 1024 : 1000) ** (match[2] ? power : 0));
}

const exponent = (value) => (value ? value.toExponential(1).replace(/e([-+])(\d)$/, "e$10$2") : "0");

// ---- scopes ----

const WORD_COLUMNS = [
  "direction",
  "algorithm",
  "variant",
  "family",
  "status",
  "reason",
  "flags",
  "accuracy",
  "cache",
  "picked",
  "details",
  "rate",
];

class Scope {
  constructor(raw, words) {
    Object.assign(this, raw);
    this.layers = raw.layers.map(([network, title, repeat, problem]) => ({
      network: words[network],
      title: words[title],
      repeat,
      problem,
    }));
    this.cells = decode(raw.cells, words);
    this.networks = [...new Set(this.layers.map((layer) => layer.network))];
    this.titles = new Map(this.layers.map((layer) => [layer.problem, layer.title]));
    this.ranked = this.cells.filter((cell) => cell.ranked);
    this.chosen = new Map();
    this.filter(() => true);
  }

  // Keep only cells that pass; winners and totals follow.
  filter(keep) {
    this.kept = this.ranked.filter(keep);
    this.places = Map.groupBy
      ? Map.groupBy(this.kept, placeOf)
      : this.kept.reduce(
          (map, cell) => map.set(placeOf(cell), [...(map.get(placeOf(cell)) ?? []), cell]),
          new Map(),
        );
  }

  members(network) {
    return this.layers.filter((layer) => layer.network === network);
  }

  // Every variant that fits the limit, fastest first: the data came in this order.
  variants(problem, direction, limit = null) {
    return (this.places.get(`${problem}/${direction}`) ?? []).filter((cell) => fits(cell, limit));
  }

  best(problem, direction, limit = null, algorithm = null) {
    const found = this.places.get(`${problem}/${direction}`) ?? [];
    return (
      found.find((cell) => fits(cell, limit) && (algorithm === null || cell.algorithm === algorithm)) ?? null
    );
  }

  // The best variant of each algorithm, fastest first.
  fastest(problem, direction, limit = null) {
    const seen = new Map();
    for (const cell of this.variants(problem, direction, limit)) {
      if (!seen.has(cell.algorithm)) seen.set(cell.algorithm, cell);
    }
    return [...seen.values()];
  }

  passes(network, directions) {
    return this.members(network).flatMap((layer) => directions.map((direction) => ({ layer, direction })));
  }

  // Sum over the layer passes, each as often as the network holds it; without one of them there is no total.
  total(network, directions, limit = null) {
    const passes = this.passes(network, directions);
    const times = passes.map(({ layer, direction }) => {
      const best = this.best(layer.problem, direction, limit);
      return best && layer.repeat * best.ms;
    });
    return summed(times);
  }

  // Where nothing was measured, no limit can cost anything: these passes count in the answer.
  measured(network, directions) {
    return this.passes(network, directions).filter(({ layer, direction }) =>
      this.best(layer.problem, direction),
    );
  }

  // Milliseconds of the measured passes, or how many of them fit.
  within(network, directions, limit) {
    return summed(
      this.measured(network, directions).map(({ layer, direction }) => {
        const best = this.best(layer.problem, direction, limit);
        return best && layer.repeat * best.ms;
      }),
    );
  }

  // The same as `total` for one algorithm, or with null for the best of each layer, as the table of networks counts it.
  sum(network, directions, limit, algorithm) {
    const times = this.members(network).map((layer) => {
      const found = directions.map((direction) => this.best(layer.problem, direction, limit, algorithm));
      return found.every(Boolean) ? layer.repeat * found.reduce((sum, cell) => sum + cell.ms, 0) : null;
    });
    return summed(times);
  }

  get algorithms() {
    return [...new Set(this.ranked.map((cell) => cell.algorithm))].sort();
  }
}

const placeOf = (cell) => `${cell.problem}/${cell.direction}`;
const fits = (cell, limit) => limit === null || (cell.known && cell.workspace <= limit);

function summed(times) {
  const known = times.filter((time) => time !== null);
  const complete = known.length === times.length && times.length > 0;
  return {
    ms: complete ? known.reduce((sum, time) => sum + time, 0) : null,
    done: known.length,
    all: times.length,
  };
}

// Columns of numbers back to one object a cell.
function decode(columns, words) {
  const count = columns.problem.length;
  const names = Object.keys(columns);
  return Array.from({ length: count }, (_, i) => {
    const cell = { id: i, ms: null, workspace: null, known: 0 };
    for (const name of WORD_COLUMNS) cell[name] = "";
    for (const name of names) cell[name] = columns[name][i];
    for (const name of WORD_COLUMNS) if (columns[name]) cell[name] = words[columns[name][i]];
    cell.ranked = cell.status === "ok" && cell.reason === "" && cell.ms !== null;
    cell.name = cell.variant ? `${cell.algorithm}/${cell.variant}` : cell.algorithm;
    cell.flopRate = cell.ms ? cell.flops / cell.ms / 1e6 : null; // GFLOP/s
    return cell;
  });
}

// Seconds of the block medians, from steps of a ten-thousandth of the median.
const blockTimes = (cell) => (cell.blocks ?? []).map((step) => cell.ms * (1 + step * 1e-4));

function leads(best, other, floor) {
  const apart = [best, other].every((cell) => cell.lo != null && cell.hi != null);
  const overlap = !apart || (best.lo <= other.hi && other.lo <= best.hi);
  return !(overlap || other.ms <= best.ms * (1 + (floor ?? 0)));
}

// Those that no other beats in both time and workspace, by rising workspace.
function pareto(cells) {
  const front = [];
  const known = cells.filter((cell) => cell.known).sort((a, b) => a.workspace - b.workspace || a.ms - b.ms);
  for (const cell of known) {
    if (!front.length || cell.ms < front.at(-1).ms) front.push(cell);
  }
  return front;
}

// ---- limits the slider stops at: none, quarter steps between powers of two, and no limit ----

const LOWEST = 16; // 64 KiB
const STEPS = 4;

function sliderStops(scopes) {
  const largest = Math.max(
    2 ** 30,
    ...scopes.flatMap((scope) => scope.ranked.map((cell) => cell.workspace ?? 0)),
  );
  const octaves = Math.ceil(Math.log2(largest)) - LOWEST;
  const between = Array.from({ length: octaves * STEPS + 1 }, (_, i) => {
    const low = 2 ** (LOWEST + Math.floor(i / STEPS));
    return low + (low / STEPS) * (i % STEPS);
  });
  return [0, ...between, null];
}

// Where a limit lies on the slider; between two stops it is the lower one.
function stopOf(stops, limit) {
  if (limit === null) return stops.length - 1;
  return stops.findLastIndex((stop) => stop !== null && stop <= limit);
}

// ---- the command that measures a cell again ----

const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`);

function commandOf(scope, cell) {
  const words = ["convbench", "run", scope.problems[cell.problem][1], "--device", scope.device];
  words.push("--algorithms", cell.algorithm, "--directions", cell.direction);
  words.push("--precision", scope.precision, "--layout", scope.layout);
  if (["hot", "cold-weights"].includes(cell.cache)) words.push("--cache", cell.cache);
  if (scope.regime === "burst") words.push("--burst");
  if (["quick", "rigorous"].includes(scope.preset)) words.push(`--${scope.preset}`);
  if (cell.workspace_limit != null) words.push("--workspace-limit", String(cell.workspace_limit));
  return [...words, "--out", "results/again"].map(quoted).join(" ");
}
