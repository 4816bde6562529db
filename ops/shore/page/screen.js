// One person's screen: who one is, what one reads now, and what one writes.
import { Bell } from "./bell.js";
import { PostCard } from "./cards.js";
import { Composer } from "./composer.js";
import { ago, arrange, button, h, say } from "./dom.js";
import { FIRST_READ } from "./first.js";
import { Profile } from "./profile.js";
import { Reads } from "./reads.js";
import { Underway } from "./underway.js";

const VIEWER = "include=viewer";
const TABS = { everyone: "Everyone", feed: "Feed", hot: "Hot" };

export class Screen {
  posts = new Map(); // id -> the post as this screen shows it
  me = null;
  view = { kind: "everyone" };

  constructor(person, tide) {
    const { name } = person;
    this.name = name;
    this.tide = tide;
    this.person = person;
    this.title = name[0].toUpperCase() + name.slice(1);
    this.#build();
    this.reads = new Reads(this.person, (state, wait) => this.#status(state, wait));
    this.bell = new Bell(this);
    this.#tabs.append(this.bell.button);
    this.reads.watch("/user/me", (state) => this.#iAm(state));
    this.bell.follow();
    this.open(this.view);
    setInterval(() => this.#grow(), 500);
  }

  open = async (view) => {
    for (const path of this.#paths) this.reads.drop(path);
    this.#cards.forEach((card) => card.close());
    this.#cards.clear();
    this.posts.clear();
    this.view = view;
    this.#items = null;
    this.#paths = pathsOf(view);
    for (const [kind, tab] of Object.entries(this.#tab)) tab.setAttribute("aria-current", kind === view.kind);
    this.bell.button.setAttribute("aria-current", view.kind === "bell");
    say(this.#heading, headingOf(view));
    this.#header.replaceChildren();
    this.#show();
    try {
      const shows = showsOf(view);
      await Promise.all(this.#paths.map((path, at) => this.reads.follow(path, this[shows[at]].bind(this))));
    } catch (error) {
      if (view === this.view) this.tell(error);
    }
  };

  // An error of a person's own act, said where that person looks.
  tell(error) {
    say(this.#message, error ? error.message : "");
  }

  // Posts that are on their way stand first, until a read shows them.
  pend(card) {
    const one = this.#underway.add(card.element, card.post, [...this.posts.values()]);
    this.#show();
    return one;
  }

  answered(one, id) {
    this.#underway.answered(one, id);
    this.#show();
  }

  refused(one) {
    this.#underway.refused(one);
    this.#show();
  }

  // Whatever a person does goes this way: at once on the screen, and back if the writer refuses.
  async write(what, method, path, body, shows) {
    this.tell(null);
    const write = this.tide.begin(this, what, shows);
    try {
      const done = await this.person.write(method, path, body);
      write.answered(done);
      return done;
    } catch (error) {
      write.refused(error);
      this.tell(error);
      throw error;
    }
  }

  showList(state) {
    this.#items = state.body?.items ?? [];
    this.#show();
  }

  showPost(state) {
    this.#items = state.status === 200 ? [state.body] : [];
    this.#show();
  }

  showBell() {
    this.#show();
  }

  showUser(state) {
    if (state.status !== 200) {
      this.#header.replaceChildren(h("p", {}, "There is nobody of this name."));
      this.#items = [];
      this.#show();
      return;
    }
    if (this.view.kind === "handle") {
      this.open({ kind: "user", id: state.body.id, name: state.body.display_name });
      return;
    }
    if (this.#profile?.id !== state.body.id || !this.#header.contains(this.#profile.element)) {
      this.#profile = new Profile(this, state.body.id);
      this.#header.replaceChildren(this.#profile.element);
    }
    this.#profile.update(state.body);
    this.tide.seen(this);
  }

  #iAm(state) {
    this.me = state.status === 200 ? state.body : null;
    this.#composer.update(this.me);
    say(this.#hello, this.me ? `${this.me.display_name} @${this.me.handle}` : this.title);
    this.#mine.hidden = !this.me;
    for (const card of this.#cards.values()) card.update(card.post);
    this.tide.seen(this);
  }

  #show() {
    const items = this.#items ?? [];
    this.posts = new Map(items.map((post) => [post.id, post]));
    for (const [id, card] of this.#cards) {
      if (!this.posts.has(id)) {
        card.close();
        this.#cards.delete(id);
      }
    }
    for (const post of items) {
      if (!this.#cards.has(post.id)) this.#cards.set(post.id, new PostCard(this, post));
      this.#cards.get(post.id).update(post);
    }
    const shown = items.map((post) => this.#cards.get(post.id).element);
    const pending = this.#underway.elements(items);
    const elements = this.view.kind === "bell" ? this.bell.elements() : [...pending, ...shown];
    say(this.#empty, this.#items ? "Nothing here yet." : "Reading.");
    arrange(this.#list, elements.length ? elements : [this.#empty]);
    this.tide.seen(this);
  }

  #grow() {
    const path = this.#paths.at(-1);
    const asOf = path && this.reads.asOf(path);
    for (const card of this.#cards.values()) card.grow(asOf);
    say(this.#age, asOf ? `as of ${ago(asOf)} ago` : "");
  }

  #status(state, wait) {
    const texts = {
      live: "live",
      lost: `connection lost, back in ${Math.max(1, Math.round(wait / 1000))} s`,
      still: "the tide stands still",
    };
    this.element.dataset.state = state;
    for (const card of this.#cards.values()) card.ask();
    say(this.#state, texts[state]);
  }

  #build() {
    const title = `${this.name}-title`;
    for (const [kind, text] of Object.entries(TABS)) {
      this.#tab[kind] = button(text, () => this.open({ kind }));
    }
    this.#tabs.append(...Object.values(this.#tab));
    this.#hello.id = title;
    this.#mine.addEventListener("click", () => this.open({ kind: "user", id: this.me.id }));
    this.#composer = new Composer(this);
    this.element = h(
      "section",
      { class: "screen", "aria-labelledby": title, "data-person": this.name, "data-state": "lost" },
      h("header", {}, this.#hello, this.#mine, h("p", { class: "state" }, this.#state, " ", this.#age)),
      this.#tabs,
      this.#message,
      this.#composer.element,
      this.#heading,
      this.#header,
      this.#list,
    );
  }

  #hello = h("h2");
  #mine = button("Profile", () => {}, { hidden: true });
  #state = h("span", { role: "status" }, "connecting");
  #age = h("span", { class: "age" });
  #tabs = h("nav", { class: "tabs", "aria-label": "Reads" });
  #tab = {};
  #message = h("p", { class: "message", role: "alert" });
  #heading = h("h3");
  #header = h("div");
  #list = h("div", { class: "list" });
  #empty = h("p", { class: "empty" }, "Reading.");
  #composer;
  #profile = null;
  #items = null;
  #paths = [];
  #cards = new Map();
  #underway = new Underway();
}

function pathsOf(view) {
  const id = encodeURIComponent(view.id ?? view.handle ?? view.tag ?? "");
  return {
    everyone: [FIRST_READ],
    feed: [`/feed?${VIEWER}`],
    hot: [`/feed?${VIEWER}&order=hot`],
    bell: [],
    user: [`/user/${id}?${VIEWER}`, `/user/${id}/posts?${VIEWER}`],
    handle: [`/user/by-handle/${id}?${VIEWER}`],
    tag: [`/hashtag/${id}?${VIEWER}`],
    post: [`/post/${id}?${VIEWER}`],
  }[view.kind];
}

function showsOf(view) {
  const shows = { user: ["showUser", "showList"], handle: ["showUser"], post: ["showPost"] };
  return shows[view.kind] ?? ["showList"];
}

function headingOf(view) {
  const headings = {
    everyone: "Everyone, newest first",
    feed: "Those I follow, newest first",
    hot: "Those I follow, hottest first",
    bell: "Notifications",
    user: "Profile",
    handle: "Profile",
    post: "One post",
  };
  return headings[view.kind] ?? `#${view.tag}`;
}
