// Joining, and writing a post: the draft stays until the writer has it.
import { PostCard } from "./cards.js";
import { h, say } from "./dom.js";

const LONGEST = 2000;

export class Composer {
  constructor(screen) {
    this.screen = screen;
    const name = screen.name;
    const pattern = "[A-Za-z0-9_]{3,30}";
    this.#handle = h("input", { id: `${name}-handle`, value: name, pattern, required: true });
    this.#name = h("input", { id: `${name}-name`, value: screen.title, maxlength: 80, required: true });
    this.#text = h("textarea", { id: `${name}-text`, rows: 3, dir: "auto", oninput: () => this.#count() });
    this.#left = h("span", { class: "left" }, String(LONGEST));
    this.#post = h("button", { type: "submit", disabled: true }, "Post");
    this.#join = h(
      "form",
      { class: "join", hidden: true, onsubmit: (event) => this.#joins(event) },
      h("label", { for: this.#handle.id }, "Handle"),
      this.#handle,
      h("label", { for: this.#name.id }, "Name"),
      this.#name,
      h("button", { type: "submit" }, `Join as ${screen.title}`),
    );
    this.#write = h(
      "form",
      { class: "write", hidden: true, onsubmit: (event) => this.#posts(event) },
      h("label", { for: this.#text.id }, "A post, with #hashtags and @mentions"),
      this.#text,
      h("div", { class: "row" }, this.#left, this.#post),
    );
    this.#text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#write.requestSubmit();
    });
    this.element = h("div", { class: "composer" }, this.#join, this.#write);
  }

  update(me) {
    this.#join.hidden = Boolean(me);
    this.#write.hidden = !me;
  }

  async #joins(event) {
    event.preventDefault();
    const profile = { handle: this.#handle.value, display_name: this.#name.value };
    const shows = (screen) => screen === this.screen && screen.me;
    await this.screen.write("joins", "PUT", "/user/me", profile, shows).catch(() => {});
  }

  async #posts(event) {
    event.preventDefault();
    const body = this.#text.value;
    if (!this.#count()) return;
    const pending = new PostCard(this.screen, draftOf(this.screen.me, body), true);
    const one = this.screen.pend(pending);
    this.#text.value = "";
    this.#count();
    try {
      const shows = (screen, made) => made && screen.posts.has(made.id);
      const done = await this.screen.write("posts", "POST", "/post", { body }, shows);
      this.screen.answered(one, done.body.id);
    } catch {
      this.screen.refused(one);
      this.#text.value = this.#text.value || body;
      this.#count();
    }
  }

  // Characters as the writer counts them.
  #count() {
    const length = [...this.#text.value].length;
    say(this.#left, String(LONGEST - length));
    this.#left.classList.toggle("over", length > LONGEST);
    this.#post.disabled = length > LONGEST || !this.#text.value.trim();
    return !this.#post.disabled;
  }

  #handle;
  #name;
  #text;
  #left;
  #post;
  #join;
  #write;
}

const draftOf = (me, body) => ({
  id: "",
  body,
  like_count: 0,
  comment_count: 0,
  created_at: new Date().toISOString(),
  author: { id: me.id, handle: me.handle, display_name: me.display_name },
  viewer: { liked: false },
});
