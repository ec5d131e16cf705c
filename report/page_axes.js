// What all charts have in common: axes, marks, lines and the words beside them. Chart.js draws them.
"use strict";

const SHAPES = {
  o: ["circle"],
  s: ["rect"],
  D: ["rectRot"],
  "^": ["triangle"],
  v: ["triangle", 180],
  P: ["rectRounded"],
  X: ["crossRot"],
  "<": ["triangle", 270],
  ">": ["triangle", 90],
  h: ["star"],
};
const AXIS = 68; // pixels left of the plot of totals, so that it stands right above the slider
const KIB64 = 64 * 1024;
const charts = {};

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Draw anew: the old chart of this canvas goes.
function draw(id, configuration) {
  charts[id]?.destroy();
  charts[id] = new Chart($(id), configuration);
  return charts[id];
}

function defaults() {
  Chart.defaults.animation = false;
  Chart.defaults.maintainAspectRatio = false;
  Chart.defaults.font.family = css("--font");
  Chart.defaults.font.size = 12;
  Chart.defaults.color = css("--soft");
  Chart.defaults.borderColor = css("--line");
  Chart.defaults.plugins.legend.display = false;
}

// ---- axes ----

const axis = (text, more = {}) => ({
  title: { display: true, text, color: css("--soft") },
  border: { display: false },
  grid: { color: css("--line"), tickLength: 0 },
  ...more,
});

// Decades, with 2 and 5 between them where there is room.
function logAxis(text, values, more = {}) {
  const low = Math.min(...values),
    high = Math.max(...values);
  const wide = high / low > 300;
  const callback = (value) => {
    const lead = Number(value.toExponential(0)[0]);
    const exact = Math.abs(value / 10 ** Math.floor(Math.log10(value) + 1e-9) - lead) < 1e-6;
    return exact && (lead === 1 || (!wide && [2, 5].includes(lead))) ? plain(value) : "";
  };
  return axis(text, {
    type: "logarithmic",
    min: low / 1.25,
    max: high * 1.25,
    afterBuildTicks: tidy(wide),
    ticks: { callback, autoSkip: false, maxRotation: 0 },
    ...more,
  });
}

const tidy = (wide) => (scale) => {
  const ticks = [];
  for (let power = Math.floor(Math.log10(scale.min)); power <= Math.log10(scale.max); power++) {
    for (const lead of wide ? [1] : [1, 2, 5]) ticks.push({ value: lead * 10 ** power });
  }
  scale.ticks = ticks.filter(({ value }) => value >= scale.min && value <= scale.max);
};

const plain = (value) => Number(value.toPrecision(3)).toLocaleString("en-US", { maximumFractionDigits: 12 });

// Bytes on an axis with room for zero: even up to 64 KiB, then one step a doubling.
const place = (bytes) => (bytes <= KIB64 ? bytes / KIB64 : 1 + Math.log2(bytes / KIB64));

function bytesAxis(largest) {
  const end = Math.max(5, Math.ceil(place(largest) + 1));
  const ticks = [0, ...Array.from({ length: Math.ceil(end / 2) }, (_, i) => 1 + 2 * i)].filter(
    (tick) => tick <= end,
  );
  return axis(
    innerWidth < 736 ? "workspace" : "workspace (granted by the harness plus taken by the library)",
    {
      type: "linear",
      min: -0.4,
      max: end,
      afterBuildTicks: (scale) => {
        scale.ticks = ticks.map((value) => ({ value }));
      },
      ticks: {
        callback: (value) => (value ? formatSize(KIB64 * 2 ** (value - 1)) : "0"),
        maxRotation: 0,
        autoSkipPadding: 12,
      },
    },
  );
}

// ---- points ----

function look(name) {
  const [color, marker, hollow] = lookOf(name);
  const [pointStyle, rotation = 0] = SHAPES[marker] ?? ["circle"];
  const line = marker === "X" || marker === "h";
  return {
    label: name,
    pointStyle,
    rotation,
    borderColor: color,
    backgroundColor: hollow ? "transparent" : color,
    pointRadius: 5.5,
    pointHoverRadius: 8,
    pointBorderWidth: line || hollow ? 2 : 1,
    hitRadius: 3,
  };
}

// One dataset an algorithm, from points {x, y, cell}.
function pointsOf(points) {
  const names = [...new Set(points.map((point) => point.cell.algorithm))].sort();
  return names.map((name) => ({
    ...look(name),
    type: "scatter",
    order: 1,
    data: points.filter((point) => point.cell.algorithm === name),
  }));
}

// Names of algorithms above a chart; lines and roofs name themselves.
const legend = () => ({
  display: true,
  align: "start",
  labels: {
    usePointStyle: true,
    boxHeight: 7,
    boxWidth: 8,
    padding: 14,
    color: css("--ink"),
    filter: (item) => !item.text.startsWith("~"),
  },
});

// The card of a cell takes the place of Chart.js's own box.
const asCard = {
  enabled: false,
  external: ({ chart, tooltip }) => {
    const cell = tooltip.opacity ? tooltip.dataPoints?.[0]?.raw?.cell : null;
    if (!cell) return card.leave();
    const box = chart.canvas.getBoundingClientRect();
    const x = box.left + tooltip.caretX,
      y = box.top + tooltip.caretY;
    return card.show(cell, { left: x - 8, right: x + 8, top: y - 8, bottom: y + 8 });
  },
};

const clicked = (event, hits, chart) => {
  const cell = hits.length ? chart.data.datasets[hits[0].datasetIndex].data[hits[0].index]?.cell : null;
  if (cell) card.pin(cell);
};

const pointing = { interaction: { mode: "nearest", intersect: true }, onClick: clicked };

// A straight line in the colour of text, with its name along it.
const ruleOf = (points, name, more = {}) => ({
  type: "line",
  label: `~${name}`,
  data: points,
  borderColor: css("--soft"),
  borderWidth: 1.4,
  pointRadius: 0,
  pointHitRadius: 0,
  order: 3,
  ...more,
});

// Writes `label` of a point beside it, where nothing is written yet.
const tags = {
  id: "tags",
  afterDatasetsDraw(chart) {
    const { ctx, chartArea } = chart;
    const taken = [];
    ctx.save();
    ctx.font = `11px ${Chart.defaults.font.family}`;
    ctx.fillStyle = css("--ink");
    ctx.strokeStyle = css("--paper");
    ctx.lineWidth = 3;
    chart.data.datasets.forEach((dataset, index) =>
      dataset.data.forEach((point, i) => {
        if (!point?.tag || !chart.isDatasetVisible(index)) return;
        const { x, y } = chart.getDatasetMeta(index).data[i];
        const width = ctx.measureText(point.tag).width;
        const left = Math.min(x + 9, chartArea.right - width);
        const box = { left, right: left + width, top: y - 19, bottom: y - 5 };
        if (box.top < chartArea.top || taken.some((one) => meets(one, box))) return;
        taken.push(box);
        ctx.strokeText(point.tag, left, y - 8);
        ctx.fillText(point.tag, left, y - 8);
      }),
    );
    ctx.restore();
  },
};

const meets = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

// A vertical line at `options.plugins.marker.x`.
const marker = {
  id: "marker",
  afterDatasetsDraw(chart, _, { x, label }) {
    if (x === undefined || x === null) return;
    const { ctx, chartArea, scales } = chart;
    const at = Math.min(Math.max(scales.x.getPixelForValue(x), chartArea.left), chartArea.right);
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = css("--accent");
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    ctx.moveTo(at, chartArea.top);
    ctx.lineTo(at, chartArea.bottom);
    ctx.stroke();
    if (label) {
      ctx.font = `600 11px ${Chart.defaults.font.family}`;
      ctx.textAlign = at > (chartArea.left + chartArea.right) / 2 ? "right" : "left";
      ctx.fillText(label, at + (ctx.textAlign === "right" ? -6 : 6), chartArea.top + 11);
    }
    ctx.restore();
  },
};
