// Elements without markup: whatever people wrote stays text.

export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (typeof value === "boolean") element.toggleAttribute(key, value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

export const button = (text, act, attributes = {}) =>
  h("button", { type: "button", onclick: act, ...attributes }, text);

// Changes only what differs: a screen reader hears nothing twice, and a selection stays.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Makes `wanted` the children of `parent`, in this order; elements that stay keep focus and drafts.
export function arrange(parent, wanted) {
  const focused = document.activeElement;
  const stays = new Set(wanted);
  for (const child of [...parent.children]) if (!stays.has(child)) child.remove();
  let place = parent.firstElementChild;
  for (const element of wanted) {
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

// A first press asks, a second one within the same focus acts.
export function twice(text, question, act) {
  let asked = false;
  const element = button(text, () => {
    if (asked) act();
    asked = !asked;
    say(element, asked ? question : text);
  });
  element.addEventListener("blur", () => {
    asked = false;
    say(element, text);
  });
  return element;
}

export function ago(time) {
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

export const many = (count) => Number(count).toLocaleString("en");
