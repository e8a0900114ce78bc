// The table of keys. Names are listed in batches; what DescribeKey tells is asked for the rows that are shown, and for all
// that are listed only when they are filtered or sorted by it.

import { element, labelled } from "../elements.js";
import { visit } from "../navigate.js";
import { call } from "../session.js";
import { button, code, input, problem, shown, time } from "./parts.js";

const perPage = 25;
const usualBatch = { keys: 1000, aliasPages: 10, aliases: 100 }; // listed at a time; a page of aliases has no more than 100
const atOnce = 6; // requests

// columns are those that can be sorted by. Narrow screens have no room for all; the page of a key has the rest.
const columns = [
  { name: "Alias", value: (k) => k.aliases[0] ?? "", listed: true },
  { name: "Key id", value: (k) => k.id, listed: true, wide: true },
  { name: "State", value: (k) => k.metadata?.KeyState ?? "" },
  { name: "Spec", value: (k) => k.metadata?.KeySpec ?? "" },
  { name: "Usage", value: (k) => k.metadata?.KeyUsage ?? "", wide: true },
  { name: "Origin", value: (k) => k.metadata?.Origin ?? "", wide: true },
  { name: "Created", value: (k) => k.metadata?.CreationDate ?? 0, wide: true },
];
const classes = [...columns.map((c) => (c.wide ? "wide-only" : undefined)), "wide-only"]; // of the cells, the last for the rotation

const chosen = { filter: "", column: columns[0], descending: false, page: 0 }; // which stays so when one comes back to the table

export function keyTable(view, batch = usualBatch) {
  const keys = new Map(); // by id
  const targets = new Map(); // key ids by alias
  const failed = new Set(); // operations
  let describing = false; // all keys
  const markers = { keys: undefined, aliases: undefined };
  const more = { keys: true, aliases: true };
  const turn = turns(atOnce, () => view.isConnected);

  const notes = element("div");
  const status = element("p", { class: "hint", role: "status" });
  const filter = input({ type: "search", value: chosen.filter, placeholder: "alias, id, state, spec, description" });
  const body = element("tbody");
  const headings = columns.map((c) => element("th", { scope: "col", class: c.wide && "wide-only" }, button(c.name, () => sort(c), { class: "sort" })));
  const whole = element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Keys" },
    element("table", { class: "keys" },
      element("thead", {}, element("tr", {}, ...headings, element("th", { scope: "col", class: "wide-only" }, "Rotation"))), body));
  const previous = button("Previous", () => turnTo(chosen.page - 1));
  const next = button("Next", () => turnTo(chosen.page + 1));
  const place = element("span", { role: "status" });
  const listMore = button("List more", () => list());
  const bar = element("div", { class: "bar" }, labelled("Filter", filter),
    element("a", { href: "/console/create", class: "button primary" }, "Create key"));
  const first = element("div", { class: "panel", hidden: true },
    element("p", {}, "There are no keys yet. A key is made in the token, and stays there; what you encrypt with it is data keys, which " +
      "encrypt your data."),
    element("a", { href: "/console/create", class: "button primary" }, "Create the first key"));
  view.append(bar, first, notes, status, whole, element("div", { class: "actions" }, previous, place, next, listMore));
  filter.addEventListener("input", () => {
    chosen.filter = filter.value;
    turnTo(0);
  });
  list();

  // list reads the next batch of names.
  async function list() {
    listMore.hidden = true;
    whole.setAttribute("aria-busy", "true");
    const aliases = attempt("ListAliases", async () => {
      for (let i = 0; i < batch.aliasPages && more.aliases && view.isConnected; i++) {
        const answer = await call("ListAliases", { Limit: batch.aliases, Marker: markers.aliases });
        for (const a of answer.Aliases) targets.set(a.AliasName, a.TargetKeyId);
        markers.aliases = answer.NextMarker;
        more.aliases = Boolean(markers.aliases);
        tell();
      }
    });
    const ids = attempt("ListKeys", async () => {
      if (!more.keys) return;
      const answer = await call("ListKeys", { Limit: batch.keys, Marker: markers.keys });
      for (const k of answer.Keys) keys.set(k.KeyId, { id: k.KeyId, aliases: [] });
      markers.keys = answer.NextMarker;
      more.keys = Boolean(markers.keys);
      tell();
    });
    await Promise.all([aliases, ids]);
    for (const k of keys.values()) k.aliases = [];
    for (const [name, id] of targets) keys.get(id)?.aliases.push(name);
    whole.removeAttribute("aria-busy");
    show();
  }

  async function attempt(operation, work) {
    try {
      await work();
    } catch (e) {
      more[operation === "ListKeys" ? "keys" : "aliases"] = false;
      const why = problem(e);
      if (notes.firstChild?.textContent !== why.textContent) notes.append(why); // both may be wrong in the same way
      if (operation === "ListKeys") notes.append(openForm());
      failed.add(operation);
    }
  }

  // tell says how far the names are listed.
  function tell() {
    status.textContent = `Listed so far: ${keys.size} keys, ${targets.size} aliases …`;
  }

  function turnTo(page) {
    chosen.page = page;
    show();
  }

  function sort(column) {
    chosen.descending = chosen.column === column && !chosen.descending;
    chosen.column = column;
    turnTo(0);
  }

  // show fills the table. What is missing is asked for, and shown then.
  async function show() {
    const words = chosen.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [...keys.values()];
    const needed = words.length > 0 || !chosen.column.listed;
    if (needed && all.some((k) => !k.asked)) describeAll(all);
    const found = all.filter((k) => words.every((w) => textOf(k).includes(w)));
    const { value } = chosen.column;
    found.sort((a, b) => order(value(a), value(b)) * (chosen.descending ? -1 : 1) || order(a.id, b.id));
    const last = Math.max(0, Math.ceil(found.length / perPage) - 1);
    chosen.page = Math.min(chosen.page, last);
    const rows = found.slice(chosen.page * perPage, (chosen.page + 1) * perPage);
    body.replaceChildren(...rows.map(rowOf));
    headings.forEach((h, i) => {
      if (columns[i] === chosen.column) h.setAttribute("aria-sort", chosen.descending ? "descending" : "ascending");
      else h.removeAttribute("aria-sort");
    });
    first.hidden = failed.has("ListKeys") || keys.size > 0;
    bar.hidden = !first.hidden;
    whole.hidden = filter.parentElement.hidden = keys.size === 0;
    previous.disabled = chosen.page === 0;
    next.disabled = chosen.page === last;
    previous.hidden = next.hidden = place.hidden = last === 0;
    place.textContent = `Page ${chosen.page + 1} of ${last + 1}`;
    listMore.hidden = !more.keys && !more.aliases;
    if (!describing) summary(found.length, words.length > 0);
    const lacking = rows.filter((k) => !k.complete);
    if (lacking.length === 0) return;
    await Promise.all(lacking.map((k) => complete(k)));
    if (view.isConnected) lacking.forEach(refresh);
  }

  function summary(found, filtered) {
    const listed = `${keys.size} ${keys.size === 1 ? "key" : "keys"}`;
    const rest = more.keys || more.aliases ? `, listed so far with ${targets.size} aliases; there are more` : "";
    if (whole.hidden) status.textContent = "";
    else if (filtered) status.textContent = `${found} of ${listed}${rest}.`;
    else status.textContent = `${listed}${rest}.`;
  }

  // describeAll asks for all keys, and says how far it is.
  async function describeAll(all) {
    if (describing) return;
    describing = true;
    let done = 0;
    await Promise.all(all.map(async (k) => {
      await describe(k);
      status.textContent = `Described ${++done} of ${all.length} keys …`;
    }));
    describing = false;
    if (view.isConnected) show();
  }

  // describe asks once for a key.
  function describe(k) {
    return (k.asked ??= turn(async () => {
      try {
        k.metadata = (await call("DescribeKey", { KeyId: k.id })).KeyMetadata;
      } catch (e) {
        k.problem = e;
      }
    }));
  }

  // complete asks for what a row shows.
  function complete(k) {
    return (k.complete ??= describe(k).then(() => {
      const m = k.metadata;
      if (m?.KeySpec !== "SYMMETRIC_DEFAULT" || m.Origin !== "AWS_KMS") return null;
      return turn(async () => {
        try {
          const answer = await call("GetKeyRotationStatus", { KeyId: k.id });
          k.rotation = answer.KeyRotationEnabled ? `every ${answer.RotationPeriodInDays} days` : "off";
        } catch (e) {
          k.rotation = e.name === "AccessDeniedException" ? "not allowed" : e.name;
        }
      });
    }));
  }

  function refresh(k) {
    if (k.row?.isConnected) k.row.replaceWith(rowOf(k));
  }

  function rowOf(k) {
    const href = `/console/keys/${encodeURIComponent(k.id)}`;
    const cells = [];
    if (k.problem) cells.push(element("td", { colspan: "6" }, problem(k.problem)));
    else if (k.metadata) {
      const m = k.metadata;
      cells.push(stateTag(m.KeyState), m.KeySpec, m.KeyUsage, m.Origin, time(m.CreationDate), k.rotation ?? "–");
    } else cells.push(...Array(6).fill("…"));
    const aliases = k.aliases.map(shown).join(", ");
    const name = k.aliases.length > 0 ? element("a", { href }, aliases)
      : element("a", { href, "aria-label": `Key ${k.id}` }, code(`${k.id.slice(0, 8)}…`));
    return (k.row = element("tr", {}, element("th", { scope: "row" }, name), element("td", { class: "wide-only" }, code(k.id)),
      ...cells.map((c, i) => (c instanceof HTMLTableCellElement ? c
        : element("td", { class: classes[i + 2] }, typeof c === "string" ? shown(c) : c)))));
  }
}

// stateTag shows a key state.
export function stateTag(state) {
  const kind = state === "Enabled" ? "good" : state.startsWith("Pending") ? "bad" : "";
  return element("span", { class: `tag state ${kind}` }, shown(state));
}

const textOf = (k) => {
  const m = k.metadata ?? {};
  return [...k.aliases, k.id, m.KeyState, m.KeySpec, m.KeyUsage, m.Origin, m.Description].join(" ").toLowerCase();
};

// order puts what is empty last.
const order = (a, b) => (a === b ? 0 : a === "" ? 1 : b === "" ? -1 : a < b ? -1 : 1);

// openForm goes to the page of a key that one knows, when keys can't be listed.
function openForm() {
  const id = input({ required: true });
  return element("form", { class: "bar", autocomplete: "off", submit(event) {
    event.preventDefault();
    visit(new URL(`/console/keys/${encodeURIComponent(id.value.trim())}`, location.href));
  } }, labelled("Open a key by its id, ARN or alias", id), element("button", { type: "submit" }, "Open"));
}

// turns does so many things at once, and the others in turn, as long as that is wanted.
function turns(free, wanted) {
  const waiting = [];
  return async (work) => {
    if (free > 0) free--;
    else await new Promise((ready) => waiting.push(ready));
    try {
      return wanted() ? await work() : undefined;
    } finally {
      const ready = waiting.shift();
      if (ready) ready();
      else free++;
    }
  };
}
