// The charts. Each function makes or updates one of them from what is selected.
"use strict";

// ---- total against limit ----

function drawCurve(stops, totals, limit, choose) {
  const data = totals.map((total, x) => ({ x, y: total.ms }));
  const known = data.map((point) => point.y).filter((y) => y !== null);
  const color = css("--accent");
  const fill = css("--accent-wash");
  const y = axis("total, ms", {
    min: 0,
    suggestedMax: known.length ? Math.max(...known) * 1.08 : 1,
    afterFit: (scale) => {
      scale.width = AXIS;
    },
    ticks: { maxTicksLimit: 4, callback: (value) => plain(value) },
  });
  const x = { type: "linear", min: 0, max: stops.length - 1, display: false };
  const pick = (event, _, chart) => {
    const stop = Math.round(chart.scales.x.getValueForPixel(event.x));
    choose(stops[Math.min(stops.length - 1, Math.max(0, stop))]);
  };
  const tooltip = {
    displayColors: false,
    callbacks: {
      title: ([item]) => limitName(stops[item.parsed.x]),
      label: (item) => `${significant(item.parsed.y)} ms`,
    },
  };
  draw("curve", {
    type: "line",
    data: {
      datasets: [
        {
          data,
          stepped: "before",
          borderColor: color,
          backgroundColor: fill,
          fill: true,
          pointRadius: 0,
          borderWidth: 2,
        },
      ],
    },
    options: {
      scales: { x, y },
      layout: { padding: { right: 12, top: 4 } },
      onClick: pick,
      interaction: { mode: "nearest", axis: "x", intersect: false },
      plugins: { tooltip, marker: { x: stopOf(stops, limit) } },
    },
    plugins: [marker],
  });
}

function moveCurve(stops, limit) {
  charts.curve.options.plugins.marker.x = stopOf(stops, limit);
  charts.curve.update("none");
}

// ---- time against workspace ----

function drawPareto(cells, limit) {
  const known = cells.filter((cell) => cell.known);
  const unknown = cells.filter((cell) => !cell.known);
  const largest = Math.max(0, limit ?? 0, ...known.map((cell) => cell.workspace));
  const x = bytesAxis(largest);
  const front = pareto(cells);
  const steps = front.map((cell) => ({ x: place(cell.workspace), y: cell.ms }));
  if (front.length) steps.push({ x: x.max, y: front.at(-1).ms });
  const tagged = new Map(front.map((cell) => [cell, cell.variant || cell.algorithm]));
  const points = pointsOf(
    known.map((cell) => ({ x: place(cell.workspace), y: cell.ms, tag: tagged.get(cell), cell })),
  );
  const levels = unknown.map((cell) => ({
    ...look(cell.algorithm),
    pointStyle: "line",
    type: "line",
    label: `${cell.name}: workspace unknown`,
    borderDash: [5, 4],
    borderWidth: 1.5,
    order: 2,
    data: [
      { x: x.min, y: cell.ms, cell },
      { x: x.max, y: cell.ms, cell },
    ],
    pointRadius: 0,
  }));
  const y = logAxis(
    "time per call, ms (whole batch)",
    cells.map((cell) => cell.ms),
  );
  draw("pareto", {
    type: "scatter",
    data: { datasets: [...points, ...levels, ruleOf(steps, "front", { stepped: "before" })] },
    options: {
      scales: { x, y },
      ...pointing,
      plugins: {
        legend: legend(),
        tooltip: asCard,
        marker: { x: limit === null ? null : place(limit), label: limitName(limit) },
      },
    },
    plugins: [marker, tags],
  });
}

// ---- roofline ----

const intensity = (cell) => cell.flops / cell.bytes;

// The roofs over this range of intensities: bandwidth up to the ridge, then each measured rate.
function roofs(ceilings, low, high) {
  const slope = ceilings.copy ? ceilings.copy / 1e9 : null; // GB/s: FLOP/byte times it is GFLOP/s
  const lines = Object.entries(ceilings)
    .filter(([name]) => name !== "copy")
    .map(([name, rate]) => {
      const roof = rate / 1e9;
      const ridge = slope ? Math.max(low, roof / slope) : low;
      const flat = [
        { x: ridge, y: roof, tag: `${name}: ${significant(roof / 1e3)} TFLOP/s` },
        { x: Math.max(high, ridge), y: roof },
      ];
      return ruleOf(slope ? [{ x: low, y: low * slope }, ...flat] : flat, name);
    });
  const bandwidth = slope
    ? [ruleOf([{ x: low, y: low * slope, tag: `copy: ${significant(slope / 1e3)} TB/s` }], "copy")]
    : [];
  return [...lines, ...bandwidth];
}

// Wide enough to show every ridge.
function span(cells, ceilings) {
  const xs = cells.map(intensity);
  const ridges = Object.entries(ceilings)
    .filter(([name]) => name !== "copy" && ceilings.copy)
    .map(([, rate]) => rate / ceilings.copy);
  return [Math.min(...xs, ...ridges) / 1.6, Math.max(...xs, ...ridges) * 1.6];
}

function drawRoofline(cells, ceilings) {
  const [low, high] = span(cells, ceilings);
  const lines = roofs(ceilings, low, high);
  const points = pointsOf(cells.map((cell) => ({ x: intensity(cell), y: cell.flopRate, cell })));
  const ys = [...cells.map((cell) => cell.flopRate), ...lines.flatMap((line) => line.data.map(({ y }) => y))];
  draw("roofline", {
    type: "scatter",
    data: { datasets: [...points, ...lines] },
    options: {
      scales: {
        x: logAxis("intensity, FLOP per byte (effective FLOPs over the least bytes)", [low, high], {
          min: low,
          max: high,
        }),
        y: logAxis("GFLOP/s (effective, padding counted)", ys),
      },
      ...pointing,
      plugins: { legend: legend(), tooltip: asCard },
    },
    plugins: [tags],
  });
}

// ---- time per layer ----

function drawLayers(rows) {
  const points = rows.flatMap(({ found }, y) => found.map((cell) => ({ x: cell.ms, y, cell })));
  $("layers").parentNode.style.height = `${90 + rows.length * 22}px`;
  const y = axis("", {
    type: "linear",
    min: -0.5,
    max: rows.length - 0.5,
    reverse: true,
    title: { display: false },
    afterBuildTicks: (scale) => {
      scale.ticks = rows.map((_, value) => ({ value }));
    },
    ticks: { autoSkip: false, color: css("--ink"), callback: (value) => shortened(rows[value]?.name ?? "") },
  });
  draw("layers", {
    type: "scatter",
    data: { datasets: pointsOf(points) },
    options: {
      scales: {
        x: logAxis(
          "time per call, ms (whole batch)",
          points.map(({ x }) => x),
        ),
        y,
      },
      ...pointing,
      plugins: { legend: legend(), tooltip: asCard },
    },
  });
}

const shortened = (text) => (text.length > 30 ? `${text.slice(0, 29)}…` : text);

// ---- block medians, inside the card ----

function drawBlocks(cell) {
  const times = blockTimes(cell);
  const across = (y) => [
    { x: 0.5, y },
    { x: times.length + 0.5, y },
  ];
  const band = cell.lo != null && cell.hi != null;
  const values = [...times, ...(band ? [cell.lo, cell.hi] : [])];
  const room = (Math.max(...values) - Math.min(...values)) * 0.15 || cell.ms * 1e-3;
  const range = { suggestedMin: Math.min(...values) - room, suggestedMax: Math.max(...values) + room };
  const [color] = lookOf(cell.algorithm);
  const fill = { borderWidth: 0, backgroundColor: css("--accent-wash") };
  const bounds = band
    ? [
        ruleOf(across(cell.lo), "lo", { borderWidth: 0 }),
        ruleOf(across(cell.hi), "hi", { ...fill, fill: "-1" }),
      ]
    : [];
  draw("blocks", {
    type: "scatter",
    data: {
      datasets: [
        ...bounds,
        ruleOf(across(cell.ms), "median"),
        {
          data: times.map((y, i) => ({ x: i + 1, y })),
          backgroundColor: color,
          borderColor: color,
          pointRadius: 3.5,
        },
      ],
    },
    options: {
      events: [],
      scales: {
        x: axis("round", {
          type: "linear",
          min: 0.5,
          max: times.length + 0.5,
          grid: { display: false },
          afterBuildTicks: (scale) => {
            scale.ticks = times.map((_, i) => ({ value: i + 1 }));
          },
          ticks: { maxRotation: 0 },
        }),
        y: axis("ms", { ...range, ticks: { maxTicksLimit: 4 } }),
      },
      plugins: { tooltip: { enabled: false } },
    },
  });
}
