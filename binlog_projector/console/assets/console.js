// Shows the server's events: one `history` of points, then a `sample` each second.
"use strict";

const one = (value) => number(value, 1);
const CHARTS = {  // each with the words for its values
  lag_seconds: duration, transactions_per_s: one, hit_ratio: percent, batch_transactions: one,
};
const CHART_HEIGHT = 220;
const LONG_SECONDS = 2;
const KEPT = 15 * 60;
const points = [];
const charts = {};
const byId = (id) => document.getElementById(id);
const put = (id, text) => { byId(id).textContent = text; };

function number(value, digits = 0) {
  return value === null || value === undefined
    ? "-" : value.toLocaleString("en", { maximumFractionDigits: digits });
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "-";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 120 ? `${number(seconds, 1)} s` : `${number(seconds / 60, 1)} min`;
}

function percent(ratio) {
  return ratio === null || ratio === undefined ? "-" : `${number(ratio * 100, 1)} %`;
}

function clock(seconds) {
  return new Date(seconds * 1000).toISOString().slice(11, 19);
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function series(name) {
  return [points.map((point) => point.at), points.map((point) => point[name])];
}

function drawChart(name) {
  const place = byId(`chart-${name}`);
  charts[name]?.destroy();
  const grid = { stroke: colour("--line"), width: 0.5 };
  const axis = { stroke: colour("--soft"), grid, ticks: { show: false } };
  charts[name] = new uPlot({
    width: place.clientWidth, height: CHART_HEIGHT, cursor: { y: false },
    scales: {
      y: { range: (_, least, most) => [0, name === "hit_ratio" ? 1 : Math.max(most ?? 0, 1) * 1.1] },
    },
    series: [
      { label: "UTC", value: (_, at) => (at ? clock(at) : "-") },
      { label: "value", value: (_, value) => CHARTS[name](value), stroke: colour("--accent"), width: 1.5,
        fill: `${colour("--accent")}22`, spanGaps: false },
    ],
    axes: [
      { ...axis, space: 70, size: 30, values: (_, splits) => splits.map(clock) },
      { ...axis, size: 64, values: (_, splits) => splits.map(CHARTS[name]) },
    ],
  }, series(name), place);
}

// The line above a chart, for those who do not see it.
function read(name) {
  const found = points.map((point) => point[name]).filter((value) => value !== null);
  put(`reading-${name}`, found.length
    ? `now ${CHARTS[name](points.at(-1)[name])}, least ${CHARTS[name](Math.min(...found))}, `
      + `most ${CHARTS[name](Math.max(...found))} since ${clock(points[0].at)} UTC`
    : "nothing to show yet");
}

function drawCharts() {
  for (const name in CHARTS) {
    drawChart(name);
    read(name);
  }
}

function updateCharts() {
  for (const name in CHARTS) {
    charts[name].setData(series(name));
    read(name);
  }
}

function showBox(id, { ok, state }, active) {
  const box = byId(id);
  box.classList.toggle("good", ok && active);
  box.classList.toggle("bad", !ok);
  box.querySelector(".state").textContent = state;
}

function position(of) {
  return of ? `batch ${number(of.seq)}, complete as of ${of.as_of}` : "none";
}

// One number for each shard of a cluster, with its lag if that is long. The last batch is in its title.
function showShards(shards) {
  byId("shards").replaceChildren(...shards.map(({ shard, seq, lag_seconds }) => {
    const item = document.createElement("li");
    item.textContent = lag_seconds > LONG_SECONDS ? `${shard}: ${duration(lag_seconds)}` : shard;
    item.classList.toggle("away", seq === null);
    item.title = `shard ${shard}: `
      + (seq === null ? "away" : `batch ${number(seq)}, ${duration(lag_seconds)} behind`);
    return item;
  }));
}

function showErrors(errors) {
  const lines = errors.map((error) => {
    const { timestamp, level, event, service, times, ...rest } = error;
    const line = document.createElement("li");
    const details = Object.entries(rest).map(([name, value]) => `${name}=${value}`).join(" ");
    line.textContent = `${timestamp} ${level}: ${event} ${details}${times ? ` (${times} times)` : ""}`;
    return line;
  });
  if (!lines.length) {
    lines.push(document.createElement("li"));
    lines[0].textContent = "none";
  }
  byId("errors").replaceChildren(...lines);
}

function show(sample) {
  const { point, boxes, checkpoint, watermark, announcements, audit } = sample;
  for (const [id, box] of Object.entries(boxes)) {
    showBox(id, box, sample.leader || ["projector", "writer", "reader"].includes(id));
  }
  document.querySelector(".way").classList.toggle("flowing", point.transactions_per_s > 0);
  put("transactions", number(point.transactions_per_s, 1));
  put("lag", duration(point.lag_seconds));
  put("mongodb-seq", number(checkpoint?.seq));
  put("redis-seq", number(watermark?.seq));
  showShards(sample.shards);
  put("writes", number(sample.writes_per_s, 1));
  put("reads", number(point.reads_per_s, 1));
  put("hits", percent(point.hit_ratio));
  put("watermark", position(watermark));
  put("checkpoint", position(checkpoint));
  const cacheEpoch = watermark ? watermark.epoch : "none";
  put("generation", checkpoint ? `build ${checkpoint.build}, cache epoch ${cacheEpoch}` : "none");
  put("gtids", checkpoint ? checkpoint.gtid_set : "-");
  put("lease", sample.leader ? `held here, epoch ${sample.epoch}` : "held by another projector, or by none");
  put("rows", number(sample.rows_per_s, 1));
  put("batch", number(point.batch_transactions, 1));
  put("announcements", `${number(announcements.sent)} sent, ${number(announcements.refused)} refused`);
  put("audit", audit === null ? "none is watched" : `${number(audit.differences)} differences, `
    + `verified through ${new Date(audit.verified_through * 1000).toISOString()}`);
  showErrors(sample.errors);
}

function receive(sample) {
  points.push(sample.point);
  if (points.length > KEPT) points.shift();
  show(sample);
  updateCharts();
}

function connection(text, lost) {
  put("connection", text);
  byId("connection").classList.toggle("lost", lost);
}

function listen() {
  const events = new EventSource("/console/events");
  events.addEventListener("history", (event) => {
    points.splice(0, points.length, ...JSON.parse(event.data));
    drawCharts();
    connection("live", false);
  });
  events.addEventListener("sample", (event) => receive(JSON.parse(event.data)));
  events.addEventListener("error", () => connection("no answer from the projector, trying again", true));
}

function chooseTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  drawCharts();
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

const remembered = localStorage.getItem("theme");
if (remembered) document.documentElement.dataset.theme = remembered;
byId("theme").addEventListener("click", () => chooseTheme(isDark() ? "light" : "dark"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
addEventListener("resize", drawCharts);
drawCharts();
listen();
