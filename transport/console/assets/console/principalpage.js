// The page of a user, a role or the root user: its policies, and what it signs in with.

import { element } from "../elements.js";
import { own } from "../session.js";
import { readable } from "./keypolicy.js";
import { code, list, problem, shown, table, time } from "./parts.js";
import { accessKey, certificate, howToChange, shortName } from "./principals.js";

export async function principalPage(view, schema, entitle) {
  const arn = decodeURIComponent(location.pathname.slice("/console/principals/".length));
  entitle(shortName(arn));
  let answer;
  try {
    answer = await own("DescribePrincipal", { PrincipalArn: arn });
  } catch (e) {
    view.append(problem(e));
    return;
  }
  const p = answer.Principal;
  view.append(howToChange(), part("Details", list([
    ["ARN", code(p.Arn)], ["Kind", shown(p.Kind)], ["Unique id", p.UniqueId && code(p.UniqueId)],
    ["Created", p.CreationDate && time(p.CreationDate)],
    ["Longest session", answer.MaxSessionDuration && `${answer.MaxSessionDuration} seconds`],
  ])));
  if (p.Kind === "root") view.append(element("p", {}, "The root user of the account may do everything that key policies let the account do."));
  else view.append(...policies(answer));
  if (p.Kind !== "role") view.append(...credentials(p));
  const tags = Object.entries(answer.Tags ?? {});
  if (tags.length > 0) view.append(part("Tags", table("Tags", ["Name", "Value"], tags.map((t) => t.map(shown)))));
}

const part = (title, ...children) => element("section", { class: "part" }, element("h2", {}, title), ...children);

function policies(answer) {
  const all = [part("Identity policies", ...(answer.Policies ?? []).flatMap((p) => [element("h3", {}, shown(p.PolicyName)), text(p.PolicyDocument)]),
    ...(answer.Policies ? [] : [element("p", {}, "It has no policy. Key policies and grants can still allow it something.")]))];
  const boundary = answer.PermissionsBoundary;
  if (boundary) all.push(part("Permissions boundary", element("p", { class: "hint" }, "Its policies allow no more than this allows, too."), text(boundary)));
  const trust = answer.TrustPolicy;
  if (trust) all.push(part("Who may assume the role", text(trust)));
  return all;
}

const credentials = (p) => [
  part("Access keys", items(p.AccessKeys, accessKey, "It has no access key.")),
  part("Client certificates", items(p.Certificates, certificate, "No client certificate is mapped to it."),
    element("p", { class: "hint" }, "Certificates are known here by the SHA-256 of their bytes. When one expires, it says itself.")),
];

const items = (all, line, none) => (all ? element("ul", { class: "plain" }, ...all.map((x) => element("li", {}, ...line(x)))) : element("p", {}, none));

// text shows a document, which is scrolled with the keyboard, too.
const text = (document) => element("pre", { tabindex: "0" }, element("code", {}, shown(readable(document))));
