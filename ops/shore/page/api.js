// Commands and reads of one person.
import { Refused } from "./session.js";

const ATTEMPTS = 4;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Person {
  constructor(name, session) {
    this.name = name;
    this.session = session;
  }

  // A command is repeated if its answer is lost: PUT and DELETE mean the same twice, a POST has a key.
  async write(method, path, body) {
    const headers = method === "POST" ? { "Idempotency-Key": crypto.randomUUID() } : {};
    if (body) headers["Content-Type"] = "application/json";
    const started = performance.now();
    const answer = await this.#ask(method, this.session.writer + path, headers, body && JSON.stringify(body));
    const ms = performance.now() - started;
    if (!answer.ok) throw new Refused(answer.status, await problem(answer));
    return { status: answer.status, ms, body: await answer.json().catch(() => null) };
  }

  // Begins a read; the next read of `path` is this one.
  begin(path) {
    this.#begun.set(path, this.#read(path));
    this.#begun.get(path).catch(() => {});
  }

  read(path) {
    const begun = this.#begun.get(path);
    this.#begun.delete(path);
    return begun ?? this.#read(path);
  }

  async #read(path) {
    const answer = await this.#ask("GET", this.session.reader + path, {}, null, 1);
    if (!answer.ok && answer.status !== 404) throw new Refused(answer.status, await problem(answer));
    return {
      status: answer.status,
      etag: answer.headers.get("ETag") ?? "",
      origin: origin(answer.headers.get("Cache-Status") ?? ""),
      as_of: /as-of="([^"]+)"/.exec(answer.headers.get("Freshness") ?? "")?.[1] ?? "",
      body: await answer.json(),
    };
  }

  async #ask(method, url, headers, body, attempts = ATTEMPTS) {
    for (let attempt = 1; ; attempt++) {
      const given = { ...headers, Authorization: `Bearer ${await this.session.token(this.name)}` };
      const answer = await fetch(url, { method, headers: given, body, cache: "no-store" }).catch(() => null);
      if (answer?.status === 401 && attempt === 1) await this.session.renew();
      else if (answer && (answer.status !== 503 || attempt >= attempts)) return answer;
      else if (attempt >= attempts) throw new Refused(0, { detail: "Nothing answers. Try again soon." });
      else await pause(250 * 2 ** attempt);
    }
  }

  #begun = new Map();
}

const problem = (answer) => answer.json().catch(() => null);

function origin(cacheStatus) {
  if (cacheStatus.startsWith("local")) return "local";
  return cacheStatus.includes("hit") ? "Redis" : "MongoDB";
}
