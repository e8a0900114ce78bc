// Parts of the console's pages. What the server answers becomes text, and nothing else.

import { element, visible } from "../elements.js";

// shown gives a value of an answer as text.
export const shown = (value) => visible(String(value ?? ""));

export const code = (value) => element("code", {}, shown(value));

// time shows a timestamp, which is in seconds.
export function time(seconds) {
  const text = new Date(seconds * 1000).toISOString();
  return element("time", { datetime: text }, `${text.slice(0, 10)} ${text.slice(11, 16)} UTC`);
}

// problem says why a call failed.
export function problem(e, attributes = {}) {
  const name = e.name === "AccessDeniedException" ? "Not allowed" : e.name === "TypeError" ? "The request was not answered" : e.name;
  return element("p", { class: "warning", ...attributes }, element("strong", {}, `${name}. `), shown(e.message));
}

export const button = (text, click, attributes = {}) => element("button", { type: "button", click, ...attributes }, text);

// input makes a field for a line of text.
export const input = (attributes = {}) => element("input", { type: "text", autocomplete: "off", spellcheck: "false", ...attributes });

// table makes one of headings and rows of cells. The first cell of a row is its heading. A wide one is scrolled, with the
// keyboard, too.
export function table(label, headings, rows) {
  return element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, element("table", {},
    element("thead", {}, element("tr", {}, ...headings.map((h) => element("th", { scope: "col" }, h)))),
    element("tbody", {}, ...rows.map(([first, ...cells]) =>
      element("tr", {}, element("th", { scope: "row" }, first), ...cells.map((c) => element("td", {}, c)))))));
}

// list makes a list of definitions, without those that are absent.
export const list = (entries) => element("dl", { class: "facts-list" }, ...entries
  .filter(([, v]) => v !== undefined && v !== "")
  .map(([name, v]) => element("div", {}, element("dt", {}, name), element("dd", {}, v))));

// tryLink links to the page of an operation, with the key filled in.
export const tryLink = (name, keyId) => element("a", { href: `/docs/${name}?KeyId=${encodeURIComponent(keyId)}#Try` }, name);

export const tryLinks = (operations, keyId) => element("p", { class: "hint" }, "Try it out: ", ...operations.flatMap((name, i) => [
  i ? ", " : "", tryLink(name, keyId)]));

let message = "";

// sayNext keeps what the next page says first; said gives it.
export const sayNext = (text) => (message = text);

export function said() {
  const text = message;
  message = "";
  return text;
}

// section makes a part of a page that is loaded by itself. fill gives its elements, or fails. It gets act, which does
// something, says so, and loads the section again; what fails is shown in place.
export function section(title, operations, keyId, fill) {
  const heading = element("h2", { tabindex: "-1" }, title);
  const status = element("p", { class: "done", role: "status" });
  const failure = element("div");
  const body = element("div");
  const whole = element("section", { class: "part" }, heading, status, body, failure, tryLinks(operations, keyId));
  let busy = false;
  async function load() {
    whole.setAttribute("aria-busy", "true");
    if (!body.hasChildNodes()) body.append(element("p", { class: "hint" }, "Loading …"));
    try {
      body.replaceChildren(...await fill(act));
    } catch (e) {
      body.replaceChildren(problem(e));
    }
    whole.removeAttribute("aria-busy");
  }
  async function act(work, message) {
    if (busy) return;
    busy = true;
    failure.replaceChildren();
    status.textContent = "";
    try {
      await work();
      await load();
      status.textContent = message;
      heading.focus();
    } catch (e) {
      failure.replaceChildren(problem(e, { role: "alert" }));
    } finally {
      busy = false;
    }
  }
  load();
  return whole;
}

// pages shows what a list operation answers, page by page. show makes an element of all entries so far.
export async function pages(next, show) {
  const place = element("div");
  const failure = element("div");
  let entries = [];
  const more = button("Load more", async () => {
    more.disabled = true;
    try {
      await load();
      failure.replaceChildren();
    } catch (e) {
      failure.replaceChildren(problem(e, { role: "alert" }));
    }
    more.disabled = false;
  });
  let marker;
  async function load() {
    const page = await next(marker === undefined ? {} : { Marker: marker });
    entries = [...entries, ...page.entries];
    marker = page.marker;
    more.hidden = marker === undefined;
    place.replaceChildren(show(entries));
  }
  await load();
  return element("div", {}, place, failure, more);
}

// save has the browser keep a text as a file.
export function save(name, text) {
  const href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000); // when it has begun
}
