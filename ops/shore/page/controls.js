// Buttons that act on the servers of this run, and what their load reports.
import { many, say } from "./dom.js";

const EVERY_MS = 250;
const by = (id) => document.getElementById(id);

export function controls(session, tide) {
  const press = (id, nameOf) =>
    by(id).addEventListener("click", async () => {
      by(id).disabled = true;
      say(by("load"), "");
      try {
        await session.act(nameOf());
      } catch (error) {
        say(by("load"), error.message);
      }
      await tide.look();
      label();
      by(id).disabled = false;
    });
  const running = (part) => tide.figures?.parts[part] ?? true;
  press("redis", () => (running("redis") ? "stop-redis" : "start-redis"));
  press("projector", () => (running("projector") ? "stop-projector" : "start-projector"));
  press("kill", () => "kill-projector");
  by("likes").addEventListener("click", () => load(session, "likes", by("likes"), tellLikes));

  function label() {
    say(by("redis"), running("redis") ? "Stop Redis" : "Start Redis");
    say(by("projector"), running("projector") ? "Stop the projector" : "Start the projector");
    by("kill").disabled = !running("projector");
  }
  setInterval(label, EVERY_MS);
}

// Starts a load and tells its reports, until it is done.
export async function load(session, name, pressed, tell, told = by("load")) {
  pressed.disabled = true;
  try {
    await session.act(name);
    for (let report = {}; !report.done; ) {
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
      report = (await session.figures()).load ?? {};
      if (report.failed) throw new Error(report.failed);
      tell(report);
    }
  } catch (error) {
    say(told, error.message);
  }
  pressed.disabled = false;
}

function tellLikes(report) {
  if (!report.post) return say(by("load"), "10,000 people join, by SQL.");
  const { likes, shown, reads, seconds, done, in_mysql: inMysql } = report;
  const way = `${many(likes)} likes in ${seconds.toFixed(1)} s, ${many(reads)} reads meanwhile.`;
  if (!done) return say(by("load"), `${way} The reader shows ${many(shown)}.`);
  const verdict = shown === inMysql ? "exact" : "NOT exact";
  return say(by("load"), `${way} MySQL has ${many(inMysql)}, the reader shows ${many(shown)}: ${verdict}.`);
}
