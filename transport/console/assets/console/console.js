// The console: which view a page has, for whoever has signed in.

import { element } from "../elements.js";
import { onChange, signedIn } from "../session.js";
import { auditLog } from "./auditlog.js";
import { createKey } from "./createkey.js";
import { keyPage } from "./keypage.js";
import { keyTable } from "./keytable.js";
import { principalPage } from "./principalpage.js";
import { principalTable } from "./principals.js";
import { report } from "./report.js";

// views make what the pages of the console show, by the addresses of consolePages in keypages.go. A view gets the element
// that it fills, what the page knows of the service, and a function that gives the page another title.
const views = {
  "/console": (view) => keyTable(view),
  "/console/create": createKey,
  "/console/keys/": keyPage,
  "/console/principals": principalTable,
  "/console/principals/": principalPage,
  "/console/audit": auditLog,
  "/console/report": report,
};

// startConsole makes the view of the page that is shown. What belongs to an earlier view finds that it is not connected.
export function startConsole() {
  const root = document.getElementById("console");
  if (!root) return;
  entitle(document.getElementById("title").dataset.title);
  const view = element("div");
  root.replaceChildren(view);
  if (!signedIn()) {
    view.append(element("div", { class: "panel" },
      element("p", {}, "Sign in with an access key to see and administer keys. The page sends only requests that you sign, and you can do " +
        "no more than policies allow you."),
      element("button", { type: "button", class: "primary", "data-sign-in": true }, "Sign in")));
    return;
  }
  const schema = JSON.parse(document.getElementById("console-schema").textContent);
  views[root.dataset.page](view, schema, entitle);
}

function entitle(name) {
  document.getElementById("title").textContent = name;
  document.title = `${name} · Verenc KMS`;
}

onChange(startConsole);
