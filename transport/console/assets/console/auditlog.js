// The audit log: a search in it, newest first, and the records that are found.

import { element, labelled } from "../elements.js";
import { own } from "../session.js";
import { auditRecord, trustForm } from "./auditrecord.js";
import { button, input, problem, shown } from "./parts.js";

const perPage = 50;
const furthest = 10; // requests that a search without a finding makes by itself; each reads a part of the log

export function auditLog(view) {
  const fields = {
    StartTime: input({ type: "datetime-local", step: "1" }),
    EndTime: input({ type: "datetime-local", step: "1" }),
    Principal: input({ maxlength: "256", placeholder: "part of an ARN, a name, an access key ID" }),
    OperationName: input({ maxlength: "128", placeholder: "Decrypt" }),
    KeyId: input({ maxlength: "2048", placeholder: "key ID or ARN" }),
    Result: element("select", {}, ...[["", "any"], ["SUCCESS", "success"], ["ERROR", "error"]].map(([value, text]) =>
      element("option", { value }, text))),
    ErrorCode: input({ maxlength: "128", placeholder: "AccessDeniedException" }),
    Text: input({ maxlength: "256", placeholder: "any part of a record" }),
  };
  const labels = { StartTime: "From (UTC)", EndTime: "Until (UTC)", Principal: "Who", OperationName: "Operation", KeyId: "Key", Result: "Result", ErrorCode: "Error", Text: "Text" };
  const form = element("form", { autocomplete: "off", submit(event) {
    event.preventDefault();
    begin();
  } }, element("div", { class: "filters" }, ...Object.entries(fields).map(([name, field]) => labelled(labels[name], field))),
    element("div", { class: "actions" }, element("button", { type: "submit", class: "primary" }, "Search")));
  const which = element("p", { class: "hint" });
  const status = element("p", { class: "hint", role: "status" });
  const notes = element("div");
  const body = element("tbody");
  const found = element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Audit records", hidden: true },
    element("table", { class: "keys" }, element("thead", {}, element("tr", {}, ...["Record", "Time", "Operation", "Result", "Who", "Key"].map((h) =>
      element("th", { scope: "col" }, h)))), body));
  const more = button("Search further back", () => search(), { hidden: true });
  const selected = element("div");
  view.append(which, trustForm(), form, notes, status, found, element("div", { class: "actions" }, more), selected);

  let request = {};
  let read = 0;
  let turn = 0; // of the search that is wanted
  begin();

  function begin() {
    request = { Limit: perPage };
    for (const [name, field] of Object.entries(fields)) {
      const value = field.value.trim();
      if (value) request[name] = field.type === "datetime-local" ? Date.parse(value + "Z") / 1000 : value;
    }
    read = 0;
    body.replaceChildren();
    selected.replaceChildren();
    search();
  }

  // search looks for the next records, and goes on by itself as long as it finds none.
  async function search() {
    const mine = ++turn;
    more.hidden = true;
    notes.replaceChildren();
    found.setAttribute("aria-busy", "true");
    try {
      for (let i = 0, records = []; i < furthest && records.length === 0 && (i === 0 || request.Marker); i++) {
        const answer = await own("ListAuditRecords", request);
        if (mine !== turn || !view.isConnected) return;
        records = answer.Records;
        request.Marker = answer.NextMarker;
        read += answer.RecordsRead;
        which.textContent = `This is the log ${shown(answer.LogOrigin)} of the server that has answered; other servers of the service keep their own. ` +
          "The list proves nothing: verify a record below, or the whole log with verenc audit verify.";
        if (answer.UnreadableLines > 0) notes.append(element("p", { class: "warning" }, element("strong", {}, "The log is damaged. "),
          `${answer.UnreadableLines} lines are no records. verenc audit verify says where.`));
        body.append(...records.map(rowOf));
        tell();
      }
      more.hidden = !request.Marker;
    } catch (e) {
      if (mine === turn) notes.append(problem(e, { role: "alert" }));
    }
    if (mine === turn) found.removeAttribute("aria-busy");
  }

  function tell() {
    const n = body.childElementCount;
    found.hidden = n === 0;
    status.textContent = `${n} ${n === 1 ? "record" : "records"} found in the newest ${read}${request.Marker ? "; there are older ones" : ""}.`;
  }

  function rowOf(entry) {
    const r = parsed(entry.Record);
    const show = button(shown(entry.LogIndex), () => {
      const part = auditRecord(entry);
      selected.replaceChildren(part);
      part.querySelector("h2").focus();
    }, { class: "link", "aria-label": `Show record ${entry.LogIndex}` });
    const keys = (r.resources ?? []).map((about) => String(about.ARN).replace(/^.*:key\//, ""));
    const who = r.userIdentity?.arn ?? r.userIdentity?.userName ?? r.userIdentity?.type;
    return element("tr", {}, element("th", { scope: "row" }, show), ...[
      shown(r.eventTime).replace("T", " ").replace("Z", ""), shown(r.eventName),
      r.errorCode ? element("span", { class: "tag bad" }, shown(r.errorCode)) : element("span", { class: "tag good" }, "success"),
      shown(who), keys.map(shown).join(", "),
    ].map((cell) => element("td", {}, cell)));
  }
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}
