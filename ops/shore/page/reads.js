// Reads kept current: first by GET, then by /live, and by GET again while the tide stands still.
import { Live } from "./live.js";

const STILL_MS = 5000;
const POLL_MS = 2000;

export class Reads {
  // onstatus: "live", "lost" or "still"
  constructor(person, onstatus) {
    this.person = person;
    this.tide = "";
    this.#onstatus = onstatus;
    this.live = new Live(person.session.reader, () => person.session.token(person.name), {
      state: (path, state) => this.#show(path, state),
      tide: (asOf) => this.#hear(asOf),
      status: (state, wait) => {
        this.#connected = state === "live";
        this.#heardAt = performance.now();
        onstatus(state, wait);
      },
    });
    person.session.onrenewed.push(() => this.live.renew());
    this.live.open();
    setInterval(() => this.#look(), POLL_MS);
  }

  // Calls show(state) now and whenever the answer of GET `path` changes. Throws Refused.
  async follow(path, show) {
    const followed = { show, asOf: "" };
    this.#followed.set(path, followed);
    const first = await this.person.read(path).catch((error) => {
      if (error.status !== 0 && error.status !== 503) throw error;
    });
    if (this.#followed.get(path) !== followed) return;
    if (first) this.#show(path, first);
    this.live.watch(path, first?.etag);
  }

  // The same for what may be missing: the first answer comes over /live, where a 404 is no error.
  watch(path, show) {
    this.#followed.set(path, { show, asOf: "" });
    this.live.watch(path);
  }

  drop(path) {
    if (this.#followed.delete(path)) this.live.unwatch(path);
  }

  // Up to when everything is shown that changes this read.
  asOf(path) {
    const own = this.#followed.get(path)?.asOf ?? "";
    return this.#connected && this.tide > own ? this.tide : own;
  }

  #show(path, state) {
    const followed = this.#followed.get(path);
    if (!followed) return;
    followed.asOf = state.as_of ?? "";
    followed.show(state);
  }

  #hear(asOf) {
    if (asOf > this.tide) {
      this.tide = asOf;
      this.#heardAt = performance.now();
      if (this.#still) this.#onstatus("live");
      this.#still = false;
    }
  }

  async #look() {
    if (performance.now() - this.#heardAt < STILL_MS) return;
    if (this.#connected && !this.#still) this.#onstatus("still");
    this.#still = this.#connected;
    for (const path of [...this.#followed.keys()]) {
      const state = await this.person.read(path).catch(() => null);
      if (state) this.#show(path, state);
    }
  }

  #onstatus;
  #connected = false;
  #still = false;
  #heardAt = performance.now();
  #followed = new Map();
}
