// Who can use a key: principals and operations in a grid, with the reason for each.

import { element, newId } from "../elements.js";
import { own } from "../session.js";
import { pages, section, shown } from "./parts.js";
import { principalPath, shortName } from "./principals.js";

const verdicts = {
  ALLOWED: { sign: "✓", text: "allowed" },
  DENIED: { sign: "–", text: "not allowed" },
  DEPENDS: { sign: "?", text: "depends on the request" },
};

const legend = Object.values(verdicts).map((v) => `${v.sign} ${v.text}`).join(", ");

// access shows the operations that such a key is for before those that administer it.
export const access = (key, uses) => section("Who can use it", ["ListKeyAccess", "GetKeyPolicy", "ListGrants"], key.id, async () => {
  const reason = element("p", { class: "reason", role: "status", id: newId() }, "Choose a field to read why.");
  const all = await pages(async (marker) => {
    const answer = await own("ListKeyAccess", { KeyId: key.id, ...marker });
    return { entries: answer.Principals, marker: answer.NextMarker };
  }, (entries) => grid(entries, uses, reason));
  return [element("p", { class: "hint" }, `${legend}. As policies and grants say now, whatever the state of the key. Services and principals ` +
    "of other accounts are not listed: the key policy and the grants name them."), all, reason];
});

function grid(principals, uses, reason) {
  const rank = ({ Operation: o }) => (uses.some(({ operation }) => o.startsWith(operation)) ? 0 : 1); // ReEncrypt: ReEncryptFrom, ReEncryptTo
  const operations = (principals[0]?.Access ?? []).toSorted((a, b) => rank(a) - rank(b)).map((a) => a.Operation);
  const rows = principals.map((p) => {
    const of = new Map(p.Access.map((a) => [a.Operation, a]));
    return element("tr", {}, element("th", { scope: "row" }, element("a", { href: principalPath(p.PrincipalArn) }, shortName(p.PrincipalArn))),
      ...operations.map((o) => field(p, of.get(o))));
  });
  const table = element("table", { class: "access", role: "grid", "aria-label": "Principals and what they may do with the key",
    keydown: move, focusin: select },
  element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Principal"),
    ...operations.map((o) => element("th", { scope: "col" }, element("span", {}, shown(o)))))),
  element("tbody", {}, ...rows));
  table.querySelector("td")?.setAttribute("tabindex", "0");
  return element("div", { class: "wide" }, table);

  function field(p, { Operation: operation, Verdict: verdict, Reason: why }) {
    const { sign, text } = verdicts[verdict];
    const td = element("td", { tabindex: "-1", class: verdict.toLowerCase(), "aria-label": text }, sign);
    td.explanation = `${shortName(p.PrincipalArn)}, ${shown(operation)}. ${shown(why)}.`;
    return td;
  }

  // move goes to the field beside, as an arrow key says.
  function move(event) {
    const at = event.target.closest("td");
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [];
    if (!at || down === undefined) return;
    event.preventDefault();
    const next = at.closest("tbody").rows[at.parentElement.sectionRowIndex + down]?.cells[at.cellIndex + right];
    if (next?.matches("td")) next.focus();
  }

  function select({ target }) {
    if (!target.explanation) return;
    for (const td of table.querySelectorAll("td[tabindex='0'], td[aria-selected]")) {
      td.setAttribute("tabindex", "-1");
      td.removeAttribute("aria-selected");
    }
    target.setAttribute("tabindex", "0"); // where the tab key comes back to
    target.setAttribute("aria-selected", "true");
    reason.textContent = target.explanation;
  }
}
