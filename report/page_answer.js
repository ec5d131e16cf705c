// The question that the page is for: what does the network take within a limit, and what does the limit cost?
"use strict";

const networkName = (name) => name || "layers of no suite";
const ratio = (value) => (value ? `${significant(value)}×` : MISSING);

// How often as long the passes take that fit, against the same passes without a limit.
function limitCost() {
  const { scope, network, directions, limit } = app;
  let held = 0,
    free = 0,
    done = 0;
  for (const { layer, direction } of scope.measured(network, directions)) {
    const best = scope.best(layer.problem, direction, limit);
    if (!best) continue;
    done += 1;
    held += layer.repeat * best.ms;
    free += layer.repeat * scope.best(layer.problem, direction).ms;
  }
  return { ratio: done ? held / free : null, done };
}

function answer() {
  const { scope, network, directions, limit } = app;
  const [free, held] = [null, limit].map((bound) => scope.within(network, directions, bound));
  return { free, held, cost: limitCost(), limit, all: scope.passes(network, directions).length };
}

const totalText = (total) => (total.ms === null ? `${total.done} of ${total.all}` : significant(total.ms));

function showAnswer() {
  const { free, held, cost, limit, all } = answer();
  const part = free.all < all ? `ms, ${free.all} of ${all} layer passes` : "ms";
  $("held-name").textContent = limit === null ? "Total, no limit set" : `Total within ${limitName(limit)}`;
  figure("held", held, part);
  figure("free", free, part);
  $("cost").textContent = ratio(cost.ratio);
  $("cost-unit").textContent =
    cost.ratio && cost.done < held.all ? `on the ${cost.done} passes that fit` : "";
  $("cost").className = limit === null ? "idle" : cost.ratio > 1.005 ? "dear" : "fine";
  $("verdict").textContent = verdict(free, held, cost, limit);
  showWins();
  $("partial").textContent = [missingText(all - free.all, all), unknownText()].filter(Boolean).join(" ");
  $("dock-text").textContent = [
    `${totalText(held)}${held.ms === null ? " fit" : " ms"}`,
    ratio(cost.ratio),
  ].join(" · ");
  $("limit").value = stopOf(stops, limit);
  $("limit").setAttribute("aria-valuetext", `${limitName(limit)}: ${$("dock-text").textContent}`);
  if (document.activeElement !== $("limit-text")) $("limit-text").value = limitName(limit);
  $("limit-text").setCustomValidity("");
}

const missingText = (missing, all) =>
  missing
    ? `${missing} of ${all} layer passes have no ranked figure at any limit and do not count here; the tables give no total.`
    : "";

function unknownText() {
  const unknown = [...new Set(app.scope.kept.filter((cell) => !cell.known).map((cell) => cell.name))].sort();
  if (app.limit === null || !unknown.length) return "";
  const named = unknown.length > MOST_NAMED ? [...unknown.slice(0, MOST_NAMED), "…"] : unknown;
  return `Not promised to fit any limit, because their libraries' own memory is unknown: ${named.join(", ")}.`;
}

const MOST_NAMED = 6;

// Who is the fastest, and how often.
function showWins() {
  const wins = new Map();
  for (const { best } of winnerRows())
    if (best) wins.set(best.algorithm, (wins.get(best.algorithm) ?? 0) + 1);
  const order = [...wins].sort(([a, some], [b, others]) => others - some || (a < b ? -1 : 1));
  const parts = order.map(([name, count]) =>
    el("span", { className: "win" }, swatch(name), name, el("b", {}, String(count))),
  );
  $("wins").replaceChildren(...(parts.length ? ["Fastest on so many layer passes:", ...parts] : []));
}

function figure(id, total, unit) {
  $(id).textContent = totalText(total);
  $(`${id}-unit`).textContent = total.ms === null ? "layer passes fit" : unit;
}

function verdict(free, held, cost, limit) {
  const what = `${networkName(app.network)}, ${app.directions.join(" + ")}`;
  if (!free.all) return `${what}: nothing here is ranked with these filters.`;
  if (limit === null)
    return `${what}: ${significant(free.ms)} ms with the fastest variant everywhere. Move the slider to see what a workspace limit costs.`;
  const under = limit ? `within ${limitName(limit)}` : "without any workspace";
  if (held.ms === null)
    return `${what}: ${under}, ${held.all - held.done} of ${held.all} layer passes have no variant that is sure to fit.`;
  if (cost.ratio < 1.0005) return `${what}: ${under} everything is as fast as without a limit.`;
  return `${what}: ${under} it takes ${significant(held.ms)} ms, ${significant(cost.ratio)} times as long as the ${significant(free.ms)} ms without a limit.`;
}

const curve = () => stops.map((limit) => app.scope.within(app.network, app.directions, limit));
