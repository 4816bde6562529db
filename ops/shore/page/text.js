// A text as nodes: hashtags and mentions become buttons, everything else stays text.
import { button } from "./dom.js";

const TAG = /(?<![\p{XID_Continue}&])[#\uFE5F\uFF03]\p{XID_Continue}{1,64}/u;
const MENTION = /(?<![A-Za-z0-9_@])@[A-Za-z0-9_]{3,30}(?![A-Za-z0-9_@])/u;
const PART = new RegExp(`${TAG.source}|${MENTION.source}`, "gu");

export function nodesOf(text, open) {
  const nodes = [];
  let end = 0;
  for (const found of text.matchAll(PART)) {
    nodes.push(text.slice(end, found.index), link(found[0], open));
    end = found.index + found[0].length;
  }
  return [...nodes, text.slice(end)].filter((node) => node !== "");
}

function link(word, open) {
  const name = word.slice(1);
  const view = word.startsWith("@") ? { kind: "handle", handle: name } : { kind: "tag", tag: name };
  return button(word, () => open(view), { class: "link" });
}
