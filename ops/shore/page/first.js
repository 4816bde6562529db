// What the first feed waits for, begun while the other modules still load: the session, then the reads.
import { Person } from "./api.js";
import { Session } from "./session.js";

export const FIRST_READ = "/posts?include=viewer";
const PHONE = matchMedia("(max-width: 44rem)");

// #both, #jane, #joe or #before.
export const wanted = () => location.hash.slice(1) || (PHONE.matches ? "jane" : "both");
export const shown = () => ({ both: ["jane", "joe"], joe: ["joe"], before: [] })[wanted()] ?? ["jane"];

export const session = await Session.open().catch(() => null);
export const people = {};
if (session) {
  for (const name of ["jane", "joe"]) people[name] = new Person(name, session);
  for (const name of shown()) people[name].begin(FIRST_READ);
}
