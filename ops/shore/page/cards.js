// A post: its text, its counters, what one can do with it, and where it came from.
import { Comments } from "./comments.js";
import { ago, button, h, many, say, twice } from "./dom.js";
import { nodesOf } from "./text.js";

const ASKED_EVERY_MS = 1000;
const BELIEVED_MS = 10_000;

export class PostCard {
  constructor(screen, post, pending = false) {
    this.screen = screen;
    this.post = post;
    this.#pending = pending;
    this.#author = button("", () => post.author && screen.open({ kind: "user", id: post.author.id }), {
      class: "author",
    });
    this.#like = button("", () => this.#likes(), { class: "like" });
    this.#talk = button("", () => this.#talks(), { class: "talk", "aria-expanded": "false" });
    this.#delete = twice("Delete", "Delete for good?", () => this.#deletes());
    this.element = h(
      "article",
      { class: "card", "data-post": post.id, "aria-busy": String(pending) },
      h("p", { class: "who" }, this.#author, " ", this.#age),
      this.#body,
      h("p", { class: "row" }, this.#like, this.#talk, this.#delete),
      this.#origin,
      this.#under,
    );
    this.update(post);
  }

  update(post) {
    const changed = JSON.stringify(post) !== this.#shown;
    this.post = post;
    this.#shown = JSON.stringify(post);
    say(this.#author, post.author ? post.author.display_name : "somebody who left");
    this.#author.title = post.author ? `@${post.author.handle}` : "";
    if (this.#text !== post.body) {
      this.#text = post.body;
      this.#body.replaceChildren(...nodesOf(post.body, this.screen.open));
    }
    const { liked, count } = this.#believed();
    say(this.#like, `${liked ? "♥" : "♡"} ${many(count)}`);
    this.#like.setAttribute("aria-label", `Like, ${many(count)} so far`);
    this.#like.setAttribute("aria-pressed", String(liked));
    say(this.#talk, `Comments ${many(post.comment_count)}`);
    this.#talk.setAttribute("aria-label", `Comments, ${many(post.comment_count)} so far`);
    const mine = Boolean(this.screen.me && post.author?.id === this.screen.me.id);
    this.#delete.hidden = !mine;
    for (const each of [this.#talk, this.#delete]) each.disabled = this.#pending;
    this.#like.disabled = this.#pending || !this.screen.me;
    if (this.#pending) say(this.#origin, "on its way");
    else if (changed) this.ask();
  }

  // Twice a second: the age of the post, and of what is known about it.
  grow(asOf) {
    say(this.#age, `${ago(this.post.created_at)} ago`);
    if (this.#from) say(this.#origin, `from ${this.#from}, as of ${ago(max(asOf, this.#asOf))} ago`);
    if (this.#belief && performance.now() > this.#belief.until) {
      this.#belief = null;
      this.update(this.post);
    }
  }

  close() {
    clearTimeout(this.#timer);
    this.#comments?.close();
  }

  // What the person did counts until a state shows the same, or the writer has refused.
  #believed() {
    const { viewer, like_count: count } = this.post;
    const liked = Boolean(viewer?.liked);
    if (this.#belief && this.#belief.liked === liked && this.#belief.answered) this.#belief = null;
    if (!this.#belief || this.#belief.liked === liked) return { liked, count };
    return { liked: this.#belief.liked, count: Math.max(0, count + (this.#belief.liked ? 1 : -1)) };
  }

  async #likes() {
    const liked = !this.#believed().liked;
    const belief = (this.#belief = { liked, answered: false, until: Infinity });
    const { id } = this.post;
    this.update(this.post);
    const shows = (screen) => screen === this.screen && screen.posts.get(id)?.viewer?.liked === liked;
    try {
      await this.screen.write(
        liked ? "likes a post" : "likes a post no more",
        liked ? "PUT" : "DELETE",
        `/post/${id}/like`,
        null,
        this.screen.tide.counts("like_count", id, liked ? 1 : -1, shows),
      );
      belief.answered = true;
      belief.until = performance.now() + BELIEVED_MS;
    } catch {
      if (this.#belief === belief) this.#belief = null;
    }
    this.update(this.post);
  }

  #talks() {
    const open = !this.#comments;
    this.#talk.setAttribute("aria-expanded", String(open));
    if (open) this.#comments = new Comments(this.screen, this.post.id);
    else this.#comments = this.#comments.close();
    this.#under.replaceChildren(...(open ? [this.#comments.element] : []));
  }

  async #deletes() {
    const { id } = this.post;
    this.element.setAttribute("aria-busy", "true");
    const gone = (screen) => !screen.posts.has(id);
    await this.screen.write("deletes a post", "DELETE", `/post/${id}`, null, gone).catch(() => {
      this.element.removeAttribute("aria-busy");
    });
  }

  // One GET of the post itself tells where it comes from now; a hot post is asked once a second.
  ask() {
    if (this.#timer) return;
    this.#timer = setTimeout(async () => {
      const path = `/post/${this.post.id}?include=viewer`;
      const answer = await this.screen.person.read(path).catch(() => null);
      this.#timer = 0;
      if (!answer) return;
      this.#from = answer.origin;
      this.#asOf = answer.as_of;
    }, Math.max(50, this.#askedAt + ASKED_EVERY_MS - performance.now()));
    this.#askedAt = Math.max(this.#askedAt + ASKED_EVERY_MS, performance.now());
  }

  #body = h("p", { class: "body", dir: "auto" });
  #age = h("span", { class: "age" });
  #origin = h("p", { class: "origin" }, "from");
  #under = h("div");
  #author;
  #like;
  #talk;
  #delete;
  #pending;
  #comments = null;
  #belief = null;
  #shown = "";
  #text = "";
  #from = "";
  #asOf = "";
  #askedAt = -ASKED_EVERY_MS;
  #timer = 0;
}

const max = (one = "", other = "") => (one > other ? one : other);
