// The users and roles of the account. They are shown and not changed: that is for verenc apply.

import { element, labelled } from "../elements.js";
import { own } from "../session.js";
import { code, input, pages, problem, shown, table, time } from "./parts.js";

const perRequest = 100; // principals

export const principalPath = (arn) => `/console/principals/${encodeURIComponent(arn)}`;

// shortName is an ARN without the account: user/alice.
export const shortName = (arn) => shown(arn.split(":").slice(5).join(":"));

// howToChange says why there are no buttons.
export const howToChange = () => element("p", { class: "note" }, "Users and roles can't be changed here. They are declared in a file, " +
  "which ", element("code", {}, "verenc apply"), " makes true; ", element("code", {}, "verenc access-key"),
" makes and deletes access keys.");

export async function principalTable(view) {
  const filter = input({ type: "search", placeholder: "name, path, kind, policy, access key", input: show });
  const status = element("p", { class: "hint", role: "status" });
  const rows = element("div");
  let all = [];
  let more = false;
  view.append(howToChange(), element("div", { class: "bar" }, labelled("Filter", filter)), status);
  try {
    view.append(await pages(async (marker) => {
      const answer = await own("ListPrincipals", { Limit: perRequest, ...marker });
      more = answer.Truncated;
      return { entries: answer.Principals, marker: answer.NextMarker };
    }, (entries) => {
      all = entries;
      show();
      return rows;
    }));
  } catch (e) {
    view.replaceChildren(problem(e));
  }

  function show() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = all.filter((p) => words.every((w) => textOf(p).includes(w)));
    status.textContent = `${found.length} of ${all.length} users and roles${more ? " that are listed so far; there are more" : ""}.`;
    rows.replaceChildren(table("Users and roles", ["Name", "Kind", "Policies", "Access keys", "Client certificates", "Created"],
      found.map(row)));
  }
}

const row = (p) => [
  element("a", { href: principalPath(p.Arn) }, shortName(p.Arn)), shown(p.Kind),
  shown([...(p.PolicyNames ?? []), ...(p.HasPermissionsBoundary ? ["with a permissions boundary"] : [])].join(", ") || "–"),
  lines((p.AccessKeys ?? []).map(accessKey)), lines((p.Certificates ?? []).map(certificate)),
  p.CreationDate ? time(p.CreationDate) : "–",
];

const lines = (all) => (all.length === 0 ? "–" : element("ul", { class: "plain" }, ...all.map((line) => element("li", {}, ...line))));

// accessKey and certificate describe one.
export const accessKey = (k) => [code(k.AccessKeyId), ` ${shown(k.Status.toLowerCase())}, `,
  ...(k.LastUsedDate ? ["last used ", time(k.LastUsedDate), ` for ${shown(k.LastUsedService)}`] : ["never used"]),
  ...(k.ExpirationDate ? [", expires ", time(k.ExpirationDate)] : [", never expires"])];

export const certificate = (c) => [code(c.Fingerprint ?? c.Name), " since ", time(c.MappedDate)];

const textOf = (p) => [p.Arn, p.Kind, ...(p.PolicyNames ?? []), ...(p.AccessKeys ?? []).map((k) => `${k.AccessKeyId} ${k.Status}`),
  ...(p.Certificates ?? []).map((c) => c.Fingerprint ?? c.Name)].join(" ").toLowerCase();
