// The search in the list of pages.

import { element } from "./elements.js";

const most = 30; // results

// startSearch shows the field, and reads the index when it is first used. root is the address that paths of the index are
// relative to.
export function startSearch(root, readIndex) {
  const input = document.getElementById("search");
  const results = document.getElementById("results");
  const list = document.getElementById("page-list");
  const found = document.getElementById("found");
  let index;
  input.closest(".search").hidden = false;
  input.addEventListener("input", async () => {
    index ??= readIndex();
    const entries = await index;
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    results.hidden = words.length === 0;
    list.hidden = !results.hidden;
    found.textContent = "";
    if (words.length === 0) return;
    const hits = entries.map((e) => [score(e, words), e]).filter(([s]) => s > 0).sort(([a], [b]) => b - a);
    found.textContent = hits.length === 1 ? "1 result" : `${hits.length} results`;
    results.replaceChildren(element("ul", {}, ...hits.slice(0, most).map(([, e]) =>
      element("li", {}, element("a", { href: new URL(e.path, root).href }, e.title), element("span", {}, e.text)))));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.closest?.("input, textarea, select")) return;
    event.preventDefault();
    input.focus();
  });
}

// score is 0 when a word is nowhere; words in the title count more than those in the text.
function score({ title, text }, words) {
  const t = title.toLowerCase();
  const all = `${t} ${text.toLowerCase()}`;
  let sum = 0;
  for (const word of words) {
    if (!all.includes(word)) return 0;
    sum += t === word ? 8 : t.startsWith(word) ? 4 : t.includes(word) ? 2 : 1;
  }
  return sum;
}
