// Before and after: the same readers on SQL with COUNTs and on Tidemark, in turns.
import { Chart } from "./chart.js";
import { load } from "./controls.js";
import { many, say } from "./dom.js";

const by = (id) => document.getElementById(id);

export function before(session) {
  const rate = new Chart(by("chart-rate"), "reads per second");
  const slow = new Chart(by("chart-slow"), "ms of the slowest of 100 reads");
  const tell = (report) => {
    const turns = report.turns ?? [];
    rate.show(turns.map((turn) => [turn.lane, turn.reads_per_s]));
    slow.show(turns.map((turn) => [turn.lane, turn.p99_ms]));
    const of = (lane) => turns.filter((turn) => turn.lane === lane).map((turn) => turn.reads_per_s);
    const [old, now] = [mean(of("before")), mean(of("after"))];
    if (!turns.length) return say(by("compared"), "The baseline starts.");
    const figures = `Before: ${many(Math.round(old))} reads/s. After: ${many(Math.round(now))} reads/s.`;
    return say(by("compared"), report.done ? `${figures} ${(now / old).toFixed(1)} times as many.` : figures);
  };
  const pressed = by("compare");
  pressed.addEventListener("click", () => load(session, "compare", pressed, tell, by("compared")));
}

const mean = (numbers) => numbers.reduce((sum, each) => sum + each, 0) / Math.max(1, numbers.length);
