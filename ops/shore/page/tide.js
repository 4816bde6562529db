// The way of the last write, in milliseconds that were measured: here by this page, there by the services.
import { many, say } from "./dom.js";

const EVERY_MS = 1000;
const SOON_MS = 300;
const GIVEN_UP_MS = 60_000;
const STAGES = { mongodb: "the projector's batch", redis: "its APPLY" };
const by = (id) => document.getElementById(id);
const ms = (value) => (value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`);

export class Tide {
  screens = [];
  figures = null;
  last = null;

  constructor(session) {
    this.session = session;
    setTimeout(() => this.look(), SOON_MS);
    setInterval(() => this.look(), EVERY_MS);
  }

  // A write begins with the press of a button. shows(screen, made): whether that screen shows it by now;
  // `made` is the body of the writer's answer, which a state may precede.
  begin(screen, what, shows) {
    const write = new Write(this, screen, what, shows);
    this.last = write;
    write.tell();
    return write;
  }

  // For writes that other screens show by a counter: it moves the same way there.
  counts(counter, id, step, ownShows) {
    const before = new Map(this.screens.map((each) => [each, each.posts.get(id)?.[counter]]));
    return (screen, made) => {
      const [count, was] = [screen.posts.get(id)?.[counter], before.get(screen)];
      return ownShows(screen, made) || (was !== undefined && count !== undefined && (count - was) * step > 0);
    };
  }

  seen(screen) {
    this.last?.seen(screen);
  }

  // The figures of the services, and how they have changed since the last look.
  async look() {
    const figures = await this.session.figures().catch(() => null);
    if (!figures) return null;
    this.#before = this.figures;
    this.figures = figures;
    this.#show(figures, this.#before);
    return figures;
  }

  #show(now, before) {
    const { projector, reader, parts } = now;
    say(by("lag"), projector ? `${projector.lag_seconds.toFixed(2)} s` : "unknown: no projector answers");
    const lookups = grown(reader, before?.reader, "lookups");
    const reads = grown(reader, before?.reader, "reads");
    const seconds = before ? now.at - before.at : 1;
    const ratio = grown(reader, before?.reader, "hits") / lookups;
    say(by("hits"), lookups > 0 ? `${(100 * ratio).toFixed(1)} %` : "-");
    say(by("reads"), reader ? `${many(Math.round(Math.max(0, reads) / seconds))}/s` : "-");
    for (const part of ["redis", "projector"]) {
      say(by(`part-${part}`), parts[part] ? "running" : "stopped");
      by(`part-${part}`).className = parts[part] ? "good" : "bad";
    }
  }

  #before = null;
}

// One write on its way. An unknown time stays a dash.
class Write {
  constructor(tide, screen, what, shows) {
    this.tide = tide;
    this.screen = screen;
    this.error = "";
    this.asked = false;
    this.made = null;
    this.made = null;
    this.what = `${screen.title} ${what}`;
    this.shows = shows;
    this.at = performance.now();
    this.before = tide.figures;
    this.notes = { ...STAGES };
    this.times = { mysql: null, mongodb: null, redis: null, own: null, other: null };
  }

  answered({ ms: taken, body }) {
    this.times.mysql = taken;
    this.made = body;
    this.tell();
    this.tide.screens.forEach((screen) => this.seen(screen));
  }

  refused(error) {
    this.error = error.message;
    this.tell();
  }

  // Called whenever a screen has changed. A screen's optimistic picture does not count: only answers do.
  seen(screen) {
    const place = screen === this.screen ? "own" : "other";
    const took = performance.now() - this.at;
    const ended = this.error || this.times[place] !== null || took > GIVEN_UP_MS;
    if (ended || !this.shows(screen, this.made)) return;
    this.times[place] = took;
    this.tell();
    if (!this.asked) this.askServices();
  }

  // The projector counts a batch right after readers have heard of it, so it may be asked twice. It tells
  // no time of one write, but of all batches since the last look before it.
  async askServices(attempts = 5) {
    this.asked = true;
    const [before, after] = [this.before?.projector, (await this.tide.look())?.projector];
    for (const stage of Object.keys(STAGES)) {
      // A projector that was started since begins to count anew.
      const then = before?.process === after?.process ? before?.stages[stage] : { sum: 0, count: 0 };
      const now = after?.stages[stage];
      if (then && now && now.count > then.count) {
        const batches = now.count - then.count;
        this.times[stage] = (1000 * (now.sum - then.sum)) / batches;
        this.notes[stage] = batches === 1 ? "the last batch" : `mean of ${many(batches)} batches`;
      }
    }
    this.tell();
    if (this.times.redis === null && attempts) setTimeout(() => this.askServices(attempts - 1), SOON_MS);
  }

  tell() {
    if (this !== this.tide.last) return;
    const other = this.tide.screens.find((each) => each !== this.screen);
    say(by("write"), `${this.what}${this.error ? `: refused. ${this.error}` : "."}`);
    say(by("way-own").querySelector("b"), `${this.screen.title}'s screen`);
    say(by("way-other").querySelector("b"), other ? `${other.title}'s screen` : "Other screen");
    for (const [place, time] of Object.entries(this.times)) {
      const item = by(`way-${place}`);
      say(item.querySelector("output"), time === null ? "-" : ms(time));
      item.classList.toggle("reached", time !== null);
    }
    for (const [stage, note] of Object.entries(this.notes)) {
      say(by(`way-${stage}`).querySelector("small"), note);
    }
  }
}

const grown = (now, before, name) => (now && before ? now[name] - before[name] : 0);
