// The run that serves this page: addresses, and tokens that are renewed before they end.

export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail || problem?.title || `the answer was ${status}`);
    this.status = status;
    this.name = problem?.type?.replace("/problems/", "") ?? "";
  }
}

export class Session {
  static async open() {
    const session = new Session();
    await session.renew();
    return session;
  }

  onrenewed = [];

  // The answer to POST is in no history and no log.
  async renew() {
    this.#renewing ??= this.#ask("POST", "/session").finally(() => (this.#renewing = null));
    const given = await this.#renewing;
    Object.assign(this, given);
    clearTimeout(this.#timer);
    const left = Math.min(...Object.values(this.people).map((each) => each.expires_at * 1000)) - Date.now();
    this.#timer = setTimeout(() => this.renew().catch(() => {}), Math.max(500, left / 2));
    for (const hear of this.onrenewed) hear();
  }

  // A token that is still good; a computer that slept may have missed its renewal.
  async token(name) {
    if (this.people[name].expires_at * 1000 - Date.now() < 500) await this.renew();
    return this.people[name].token;
  }

  figures = () => this.#ask("GET", "/figures");
  act = (name) => this.#ask("POST", `/act/${name}`);

  async #ask(method, path) {
    const headers = { "X-Shore": "1" };
    if (this.admin) headers.Authorization = `Bearer ${this.admin}`;
    const answer = await fetch(path, { method, headers, cache: "no-store" });
    const body = await answer.json();
    if (!answer.ok) throw new Refused(answer.status, body);
    return body;
  }

  #renewing = null;
  #timer = 0;
}
