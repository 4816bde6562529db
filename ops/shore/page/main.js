// The page: who is shown, the tide, and the two screens.
import { h } from "./dom.js";
import { people, session, shown, wanted } from "./first.js";
import { Screen } from "./screen.js";
import { Tide } from "./tide.js";

const stage = document.getElementById("people");
const screens = {};

if (session) {
  const tide = new Tide(session);
  addEventListener("hashchange", () => route(tide));
  route(tide);
  import("./controls.js").then(({ controls }) => controls(session, tide));
  import("./before.js").then(({ before }) => before(session));
  const docs = [["Writer's API", `${session.writer}/docs`], ["Reader's API", `${session.reader}/docs`]];
  for (const [text, href] of [["Console", session.console], ...(session.docs ? docs : [])]) {
    document.getElementById("links").append(h("a", { href, target: "_blank", rel: "noopener" }, text), " ");
  }
} else {
  const text = "make run does not answer. Start it, and load this page again.";
  stage.append(h("p", { class: "message", role: "alert" }, text));
}

// A screen connects when it is shown first.
function route(tide) {
  const names = shown();
  for (const name of names) {
    screens[name] ??= new Screen(people[name], tide);
    if (!screens[name].element.isConnected) stage.append(screens[name].element);
  }
  for (const [name, screen] of Object.entries(screens)) screen.element.hidden = !names.includes(name);
  tide.screens = names.map((name) => screens[name]);
  stage.dataset.shown = String(names.length);
  document.getElementById("before").hidden = wanted() !== "before";
  document.getElementById("tide").hidden = wanted() === "before";
  for (const link of document.querySelectorAll("nav a[href^='#']")) {
    if (link.hash === `#${wanted()}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}
