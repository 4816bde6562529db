// A user: counters, following, and for oneself the way out.
import { button, h, many, say, twice } from "./dom.js";

export class Profile {
  constructor(screen, id) {
    this.screen = screen;
    this.id = id;
    this.#leave = twice("Delete my account", "Delete all of it?", () => this.#leaves());
    this.element = h(
      "div",
      { class: "profile" },
      this.#name,
      this.#bio,
      this.#counts,
      h("p", { class: "row" }, this.#follow, this.#follows, this.#leave),
    );
  }

  update(user) {
    this.user = user;
    say(this.#name, `${user.display_name} @${user.handle}`);
    say(this.#bio, user.bio);
    const believed = this.#belief ?? user.viewer?.following;
    if (this.#belief === user.viewer?.following) this.#belief = null;
    const step = believed === user.viewer?.following ? 0 : believed ? 1 : -1;
    const [posts, followers] = [many(user.post_count), many(user.follower_count + step)];
    say(this.#counts, `${posts} posts, ${followers} followers, follows ${many(user.following_count)}`);
    const mine = this.screen.me?.id === user.id;
    this.#follow.hidden = mine || !this.screen.me;
    this.#leave.hidden = !mine;
    say(this.#follow, believed ? "Unfollow" : "Follow");
    this.#follow.setAttribute("aria-pressed", String(Boolean(believed)));
    say(this.#follows, user.viewer?.followed_by ? "follows you" : "");
  }

  async #toggle() {
    const following = !(this.#belief ?? this.user.viewer?.following);
    this.#belief = following;
    this.update(this.user);
    const { me } = this.screen;
    const shows = (screen) =>
      screen === this.screen
        ? this.user.viewer?.following === following
        : following && screen.bell.items.some((each) => each.kind === "follow" && each.actor?.id === me.id);
    const [what, method] = following ? ["follows somebody", "PUT"] : ["follows somebody no more", "DELETE"];
    try {
      await this.screen.write(what, method, `/user/${this.id}/follow`, null, shows);
    } catch {
      this.#belief = null;
      this.update(this.user);
    }
  }

  #leaves() {
    const gone = (screen) => screen === this.screen && !screen.me;
    this.screen.write("leaves", "DELETE", "/user/me", null, gone).catch(() => {});
  }

  #name = h("h4");
  #bio = h("p", { dir: "auto" });
  #counts = h("p", { class: "counts" });
  #follow = button("Follow", () => this.#toggle(), { class: "follow" });
  #follows = h("span");
  #leave;
  #belief = null;
}
