// JSON in colours. What is not JSON is shown, too, so that it can be used while a text is typed.

import { element } from "./elements.js";

const token = /("(?:[^"\\\n]|\\.)*"?)(?=(\s*:)?)|-?\d[\w.+-]*|true\b|false\b|null\b|[^"\-\dtfn]+|[^]/g;

function kindOf(text, isName) {
  if (text[0] === '"') return isName ? "name" : "string";
  return /^(-?\d|true$|false$|null$)/.test(text) ? "literal" : "";
}

const paint = (kind, text) => (kind ? element("span", { class: `json-${kind}` }, text) : text);

// painted gives the parts of a text, each in its colour. What is at a place (an offset, or -1) is marked.
export function painted(text, at = -1) {
  const parts = [];
  for (const found of text.matchAll(token)) {
    const kind = kindOf(found[0], found[2] !== undefined);
    const place = at - found.index;
    if (place < 0 || place >= found[0].length || at < 0) parts.push(paint(kind, found[0]));
    else parts.push(paint(kind, found[0].slice(0, place)), marked(found[0][place]), paint(kind, found[0].slice(place + 1)));
  }
  if (at >= text.length) parts.push(marked(" "));
  return parts;
}

const marked = (text) => element("span", { class: "json-wrong" }, text === "\n" ? " \n" : text);
