// The auditor's report: plots with their numbers, and what to look at.

import { element, labelled } from "../elements.js";
import { own } from "../session.js";
import { button, code, list, problem, shown, table, time } from "./parts.js";

const periods = [["TEN_MINUTES", "the last ten minutes"], ["HOUR", "the last hour"], ["DAY", "the last day"]];
const dark = matchMedia("(prefers-color-scheme: dark)");

export function report(view) {
  const period = element("select", { change: load }, ...periods.map(([value, text]) => element("option", { value, selected: value === "HOUR" }, text)));
  const status = element("p", { class: "hint", role: "status" });
  const body = element("div");
  view.append(element("div", { class: "bar" }, labelled("Numbers of the server in", period), button("Load again", load)), status, body);
  const restyle = () => (view.isConnected ? load() : dark.removeEventListener("change", restyle));
  dark.addEventListener("change", restyle);
  let turn = 0; // of the report that is wanted
  load();

  async function load() {
    const mine = ++turn;
    body.setAttribute("aria-busy", "true");
    status.textContent = "Loading …";
    try {
      const answer = await own("GetReport", { Period: period.value, ColorScheme: dark.matches ? "DARK" : "LIGHT" });
      if (mine !== turn || !view.isConnected) return;
      body.replaceChildren(...contents(answer));
      status.textContent = "";
    } catch (e) {
      if (mine !== turn) return;
      status.textContent = "";
      body.replaceChildren(problem(e, { role: "alert" }));
    }
    body.removeAttribute("aria-busy");
  }
}

function contents(r) {
  const first = r.MoreKeys ? `the first ${r.KeyCount}; there are more. Their ids are random, so these are a fair sample` : String(r.KeyCount);
  const ofServer = r.Plots.some((p) => p.Name === "requests");
  return [
    list([["Account", code(r.AccountId)], ["Region", code(r.Region)], ["Keys", first], ["Counted at", time(r.CreationDate)]]),
    element("p", { class: "hint" }, ofServer
      ? "Operations, errors, latency and the audit log are those of the server that has answered, since it was started; other servers have their own."
      : "Operations, errors, latency and the audit log's size are for the account that operates the server."),
    element("div", { class: "plots" }, ...r.Plots.map(plot)),
    element("h2", {}, "What to look at"), findings(r),
  ];
}

// plot shows a picture, and its numbers for who would rather read them. An image runs no scripts.
function plot(p) {
  const url = URL.createObjectURL(new Blob([p.SVG], { type: "image/svg+xml" }));
  const done = () => URL.revokeObjectURL(url);
  return element("section", {}, element("h2", {}, shown(p.Title)), p.Note ? element("p", { class: "hint" }, shown(p.Note)) : "",
    element("img", { src: url, alt: `${shown(p.Title)}, drawn. The same numbers are in the table below.`, load: done, error: done }),
    element("details", {}, element("summary", {}, "Numbers"),
      table(p.Title, p.Columns.map((c) => shown(c || "Keys that are")), p.Rows.map((row) => [shown(row.Label), ...row.Values.map(shown)]))));
}

function findings(r) {
  const more = "verenc report tells who may use each key, and judges all keys.";
  if (r.FindingsOmitted) return element("p", {}, `There are too many keys and principals to judge them all here. ${more}`);
  if (r.Findings.length === 0) return element("p", {}, `Nothing is unusual. ${more}`);
  return element("div", {}, table("Findings", ["Severity", "About", "Finding"], r.Findings.map((f) => [shown(f.Severity), code(f.About), shown(f.Text)])),
    element("p", { class: "hint" }, more));
}
