// Notifications: the unread count at all times, and the list when it is open.
import { ago, button, h, say } from "./dom.js";

const PATH = "/user/me/notifications";
const TEXTS = {
  follow: "follows you",
  like: "likes your post",
  comment: "commented on your post",
  mention: "mentioned you",
};

export class Bell {
  items = [];
  unread = 0;

  constructor(screen) {
    this.screen = screen;
    this.button = button("Bell", () => screen.open({ kind: "bell" }), { class: "bell" });
    this.#show();
  }

  follow() {
    this.screen.reads.watch(PATH, (state) => {
      this.items = state.body?.items ?? [];
      this.unread = state.body?.unread_count ?? 0;
      this.#show();
    });
  }

  elements() {
    if (!this.items.length) return [h("p", { class: "empty" }, "No notifications yet.")];
    const read = button("Mark all as read", () => this.#reads(), { disabled: !this.unread });
    const items = this.items.map((each) => this.#one(each));
    return [h("p", { class: "row" }, read), h("ol", { class: "notes" }, ...items)];
  }

  #show() {
    say(this.button, `Bell ${this.unread >= 50 ? "50+" : this.unread}`);
    this.button.setAttribute("aria-label", `Notifications, ${this.unread} unread`);
    this.button.classList.toggle("unread", this.unread > 0);
    if (this.screen.view.kind === "bell") this.screen.showBell();
    this.screen.tide.seen(this.screen);
  }

  #one({ kind, actor, post_id: post, created_at: at }) {
    const text = `${actor?.display_name ?? "Somebody who left"} ${TEXTS[kind]}`;
    const view = post ? { kind: "post", id: post } : { kind: "user", id: actor?.id };
    return h("li", {}, button(text, () => this.screen.open(view), { class: "link" }), ` ${ago(at)} ago`);
  }

  #reads() {
    const until = this.items[0].created_at;
    const shows = (screen) => screen === this.screen && this.unread === 0;
    this.screen.write("reads notifications", "PUT", `${PATH}/read`, { until }, shows).catch(() => {});
  }
}
