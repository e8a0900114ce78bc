// The grants of a key.

import { element } from "../elements.js";
import { call } from "../session.js";
import { needs } from "./allowed.js";
import { ask } from "./dialog.js";
import { button, code, pages, section, shown, table, time } from "./parts.js";

const headings = ["Grant", "Grantee", "Operations", "Constraints", "May retire it", "Created", "Action"];

const grantee = (g) => g.GranteePrincipal ?? g.GranteeServicePrincipal;

export const grants = (key) => section("Grants", ["ListGrants", "CreateGrant", "RevokeGrant"], key.id, async (act) => {
  return [await pages(async (marker) => {
    const answer = await call("ListGrants", { KeyId: key.id, Limit: 50, ...marker });
    return { entries: answer.Grants, marker: answer.NextMarker };
  }, (entries) => entries.length === 0 ? element("p", {}, "The key has no grants.")
    : table("Grants of the key", headings, entries.map((g) => [
      element("span", {}, shown(g.Name ?? ""), " ", element("code", { class: "id" }, shown(g.GrantId))),
      code(grantee(g)), shown(g.Operations.join(", ")), g.Constraints ? code(JSON.stringify(g.Constraints)) : "–",
      g.RetiringPrincipal ? code(g.RetiringPrincipal) : "–", time(g.CreationDate), revoker(g)])))];

  function revoker(g) {
    return button("Revoke", async () => {
      const text = `${shown(grantee(g))} loses what the grant allows: ${shown(g.Operations.join(", "))}.`;
      if (!await ask({ title: "Revoke the grant?", action: "Revoke", text })) return;
      act(() => call("RevokeGrant", { KeyId: key.id, GrantId: g.GrantId }), "The grant is revoked.");
    }, { class: "small", ...needs("RevokeGrant"), "aria-label": `Revoke the grant ${shown(g.Name ?? g.GrantId)}` });
  }
});
