// The comments of a post, kept current while they are open; one's draft stays.
import { arrange, h, say, twice } from "./dom.js";
import { nodesOf } from "./text.js";
import { Underway } from "./underway.js";

export class Comments {
  constructor(screen, postId) {
    this.screen = screen;
    this.#id = postId;
    this.#path = `/post/${postId}/comments`;
    const id = `${screen.name}-comment-${postId}`;
    this.#text = h("input", { id, maxlength: 1000, dir: "auto", required: true, autocomplete: "off" });
    const send = h("button", { type: "submit", disabled: !screen.me }, "Comment");
    const form = h(
      "form",
      { onsubmit: (event) => this.#writes(event) },
      h("label", { for: id }, "A comment"),
      h("div", { class: "row" }, this.#text, send),
    );
    this.element = h("div", { class: "comments" }, this.#list, form);
    const show = (state) => this.#show(state.body?.items ?? []);
    screen.reads.follow(this.#path, show).catch((error) => screen.tell(error));
  }

  close() {
    this.screen.reads.drop(this.#path);
    return null;
  }

  #show(items) {
    this.#items = items;
    this.#shown = new Map(items.map((each) => [each.id, this.#shown.get(each.id) ?? this.#one(each)]));
    arrange(this.#list, [...[...this.#shown.values()].reverse(), ...this.#underway.elements(items)]);
  }

  #one(comment) {
    const author = comment.author?.display_name ?? "somebody who left";
    const text = h("span", { dir: "auto" }, ...nodesOf(comment.body, this.screen.open));
    const item = h("li", {}, h("b", {}, author), " ", text);
    if (comment.id && comment.author?.id === this.screen.me?.id) {
      item.append(" ", twice("Delete", "Delete for good?", () => this.#deletes(comment.id)));
    }
    return item;
  }

  async #writes(event) {
    event.preventDefault();
    const body = this.#text.value;
    const { me } = this.screen;
    if (!body.trim() || !me) return;
    const item = this.#one({ body, author: me });
    item.setAttribute("aria-busy", "true");
    const one = this.#underway.add(item, { body, author: me }, this.#items);
    this.#show(this.#items);
    this.#text.value = "";
    const shows = (screen, made) => screen === this.screen && made && this.#shown.has(made.id);
    try {
      const counted = this.screen.tide.counts("comment_count", this.#id, 1, shows);
      const path = `/post/${this.#id}/comment`;
      const done = await this.screen.write("comments", "POST", path, { body }, counted);
      this.#underway.answered(one, done.body.id);
      item.removeAttribute("aria-busy");
    } catch {
      this.#underway.refused(one);
      this.#text.value = this.#text.value || body;
    }
    this.#show(this.#items);
  }

  #deletes(id) {
    const counted = this.screen.tide.counts("comment_count", this.#id, -1, () => !this.#shown.has(id));
    this.screen.write("deletes a comment", "DELETE", `/comment/${id}`, null, counted).catch(() => {});
  }

  #id;
  #path;
  #text;
  #list = h("ol", { class: "talk-list", "aria-label": "Comments" });
  #items = [];
  #shown = new Map();
  #underway = new Underway();
}
