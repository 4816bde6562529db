// /live: many watched reads on one WebSocket, which comes back by itself (docs/live.md).

export class Live {
  // on: state(path, state), tide(asOf), status("live" | "lost", ms until the next try)
  constructor(url, token, on) {
    this.on = on;
    this.#url = url.replace(/^http/, "ws") + "/live";
    this.#token = token;
    addEventListener("online", () => this.#socket || this.open());
  }

  async open() {
    clearTimeout(this.#timer);
    if (this.#opening) return;
    this.#opening = true;
    let wait = 1000 + 2000 * Math.random();
    let socket;
    try {
      socket = this.#socket = new WebSocket(this.#url, ["tidemark.live", `bearer.${await this.#token()}`]);
    } catch {
      this.#later(wait);
      return;
    } finally {
      this.#opening = false;
    }
    socket.onopen = () => {
      this.on.status("live");
      for (const [path, etag] of this.#watched) this.#watch(path, etag);
    };
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.end) wait = message.end === "token-expired" ? 0 : message.retry_ms;
      else if (message.tide) this.on.tide(message.tide);
      else if (message.status && this.#watched.has(message.path)) {
        this.#watched.set(message.path, message.etag ?? "");
        this.on.state(message.path, message);
      }
    };
    socket.onclose = () => {
      if (socket === this.#socket) this.#later(wait);
    };
  }

  watch(path, etag = "") {
    this.#watched.set(path, etag);
    if (this.#isOpen) this.#watch(path, etag);
  }

  unwatch(path) {
    if (this.#watched.delete(path) && this.#isOpen) this.#send({ unwatch: path });
  }

  // The connection lives as long as its token; another one in time lets it live on.
  async renew() {
    const token = await this.#token();
    if (this.#isOpen) this.#send({ token });
  }

  #later(wait) {
    this.#socket = null;
    this.on.status("lost", wait);
    this.#timer = setTimeout(() => this.open(), wait);
  }

  get #isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  #watch(path, etag) {
    this.#send(etag ? { watch: path, etag } : { watch: path });
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #url;
  #token;
  #socket = null;
  #opening = false;
  #timer = 0;
  #watched = new Map();
}
