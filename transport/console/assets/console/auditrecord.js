// One record of the audit log, and the verification that the log holds it.

import { element, labelled, visible } from "../elements.js";
import { own } from "../session.js";
import { verifyProof } from "./auditproof.js";
import { button, code, problem, save, shown } from "./parts.js";
import { refuse } from "./signednote.js";

let trusted = ""; // the key that the user has pinned, in this tab's memory

// trustForm lets the user pin the public key of the log.
export function trustForm() {
  const key = element("textarea", { rows: "2", spellcheck: "false", autocomplete: "off", maxlength: "2048" });
  key.value = trusted;
  const status = element("p", { class: "done", role: "status" });
  return element("details", { class: "trust" }, element("summary", {}, "Public key of the log"),
    element("p", {}, "Records are verified with the key that you pin here. Take it from who operates the server, not from this page: ",
      code("verenc audit keys"), " prints it. It stays until you reload or close the tab."),
    element("form", { autocomplete: "off", submit(event) {
      event.preventDefault();
      trusted = key.value.trim();
      status.textContent = trusted ? "The key is pinned." : "No key is pinned.";
    } }, labelled("Public key (name+id+base64)", key), element("div", { class: "actions" }, element("button", { type: "submit" }, "Pin this key"))),
    status);
}

// auditRecord shows a record.
export function auditRecord(entry) {
  const heading = element("h2", { tabindex: "-1" }, `Record ${entry.LogIndex}`);
  const outcome = element("div", { role: "status", class: "says" });
  const verify = button("Verify that it is in the log", async () => {
    verify.disabled = true;
    outcome.replaceChildren(...await verification(entry));
    verify.disabled = false;
  }, { class: "primary" });
  return element("section", { class: "part" }, heading, element("div", { class: "actions" }, verify), outcome,
    element("pre", { class: "json" }, readable(entry.Record)));
}

// verification asks for the proof of a record, verifies it, and says what was verified.
async function verification(entry) {
  let answer;
  try {
    answer = await own("GetAuditProof", { LogIndex: entry.LogIndex });
  } catch (e) {
    return [problem(e)];
  }
  const key = trusted || (answer.LogKeys.at(-1) ?? "");
  try {
    const proven = await verifyProof(answer.Proof, key);
    if (proven.record !== entry.Record || String(proven.index) !== entry.LogIndex) refuse("The proof is of another record than the one that is shown.");
    return said(proven, key, answer.Proof);
  } catch (e) {
    if (e.name !== "ProofError") return [problem(e)];
    const other = trusted && answer.LogKeys.includes(trusted) && answer.LogKeys.at(-1) !== trusted
      ? " The key that you have pinned is an earlier one of this log. Pin the current one." : "";
    return [element("p", { class: "warning" }, element("strong", {}, "Not verified. "), shown(e.message) + other + " Do not rely on this record.")];
  }
}

function said(proven, key, proof) {
  const what = `This browser has verified that this is record ${proven.index} of the audit log ${shown(proven.origin)}: ` +
    `a hash of it and ${proven.hashes} further hashes give the root of the checkpoint that the log had with ${proven.size} records, ` +
    `and the checkpoint's signature (${proven.algorithm}) is good for the key `;
  const trust = trusted ? ", which you have pinned."
    : ", which this server has given. So the server's answers agree with each other, but a server that lies could use a key of its own: pin the key that you know.";
  return [
    element("p", { class: "verified" }, element("strong", {}, trusted ? "Verified. " : "Verified with the server's own key. "), what, code(key), trust),
    element("p", { class: "hint" }, "It does not show that no other record is missing: ", element("code", {}, "verenc audit verify"), " does, with a copy of " +
      "the log's folder. This page comes from the server, too. To verify without it, download the proof and run ",
    element("code", {}, "verenc audit check-proof FILE --key PUBLICKEY"), " on another machine."),
    element("div", { class: "actions" }, button("Download the proof", () => save(`record-${proven.index}.tlog-proof`, proof))),
  ];
}

// readable puts JSON into lines.
function readable(text) {
  try {
    return visible(JSON.stringify(JSON.parse(text), null, 2));
  } catch {
    return visible(text);
  }
}
