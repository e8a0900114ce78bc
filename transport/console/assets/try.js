// Try it out: a form for the operation of the page, and the answer to what it sends.

import { fromBase64, toBase64, toHex, toText } from "./bytes.js";
import { cli, curl } from "./commands.js";
import { copyButton, element, newId, visible } from "./elements.js";
import { exampleKey, missingKey, withKnownKeys } from "./examples.js";
import { FieldError, fieldsOf } from "./fields.js";
import { painted } from "./json.js";
import { completer } from "./keys.js";
import { latestBlob, rememberBlob, rememberNames, withLatestNames } from "./recent.js";
import { onChange, send, signedIn } from "./session.js";
import { openSignIn } from "./signin.js";

const drafts = new Map(); // what was filled in on the pages of this tab, by operation
const by = (id) => document.getElementById(id);
let current = null; // the form on the page

// startTry makes the form of the page that is shown, if it is an operation's.
export function startTry() {
  current = by("try-form") && newForm(JSON.parse(by("schema").textContent));
  show();
}

onChange(() => {
  if (!signedIn()) drafts.clear(); // which may have plaintexts
  show();
});

function show() {
  if (!current) return;
  by("try-note").replaceChildren(...(signedIn() ? [] : [
    element("button", { type: "button", class: "link", "data-sign-in": true }, "Sign in"), " with an access key to send requests."]));
}

function newForm(schema) {
  const keys = completer(newId());
  const fields = fieldsOf(schema.request, { keyList: keys.list.id, listKeys: keys.fill });
  const form = by("try-form");
  const answer = by("answer");
  by("fields").replaceChildren(fields.element, keys.list, keys.note);
  fields.write(withLinkedKey(schema, drafts.get(schema.operation) ?? exampleOf(schema)));
  const keep = () => {
    try {
      drafts.set(schema.operation, fields.read());
    } catch { /* a field is half filled in; the draft before it stays */ }
  };
  form.addEventListener("input", keep);
  by("fill-example").addEventListener("click", () => {
    drafts.delete(schema.operation);
    fields.write(exampleOf(schema));
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!signedIn()) return openSignIn();
    keep();
    await submit(form, fields, schema, answer);
  });
  form.hidden = false;
  return form;
}

// withLinkedKey gives a request with the key that a link to the page has named.
function withLinkedKey({ request: members }, request) {
  const id = new URLSearchParams(location.search).get("KeyId");
  const member = members.find((m) => ["KeyId", "TargetKeyId", "SourceKeyId"].includes(m.name));
  return id && member ? { ...request, [member.name]: id } : request;
}

// made are blobs that an example can't have, since each server makes its own.
const made = ["CiphertextBlob", "ImportToken", "Mac", "SharedSecretCiphertextBlob", "Signature"];

// exampleOf gives the example with what this tab knows: keys, names, and the latest blobs, each with the encryption
// context that it was made with.
function exampleOf(schema) {
  const { request, example } = schema;
  const value = withLatestNames(withKnownKeys(schema, example));
  const members = request.map((m) => m.name);
  for (const name of made.filter((n) => members.includes(n))) {
    const blob = latestBlob(name);
    if (!blob) continue;
    value[name] = toBase64(blob.bytes);
    for (const standIn of ["DryRun", "DryRunModifiers"]) delete value[standIn];
    if (members.includes("EncryptionContext")) value.EncryptionContext = blob.context;
  }
  return value;
}

async function submit(form, fields, schema, answer) {
  let request;
  try {
    request = fields.read();
  } catch (e) {
    if (!(e instanceof FieldError)) throw e;
    answer.replaceChildren(element("p", { class: "warning", role: "alert" }, e.message));
    e.control.focus();
    return;
  }
  const button = form.querySelector("button[type=submit]");
  button.disabled = true;
  const body = JSON.stringify(request, null, 2);
  try {
    const sent = await send(schema.target, body);
    answer.replaceChildren(...answerOf(schema, request, sent), ...offerKey(form, fields, schema, request, sent), commandsOf(schema, request, body));
    answer.querySelector("h3").focus();
    answer.scrollIntoView({ block: "nearest" });
  } catch (e) {
    answer.replaceChildren(element("p", { class: "warning", role: "alert" }, `The request was not answered: ${e.message}`));
  } finally {
    button.disabled = false;
  }
}

// answerOf shows an answer: status, request id, time, JSON, blobs and headers.
function answerOf(schema, request, { status, headers, requestId, text, took }) {
  let value = null;
  try {
    value = text === "" ? {} : JSON.parse(text);
  } catch { /* no JSON: it is shown as it is */ }
  const ok = status === 200;
  const shown = text === "" ? "" : visible(value === null ? text : JSON.stringify(value, null, 2));
  const parts = [
    element("h3", { tabindex: "-1", class: ok ? "status good" : "status bad" }, `Status ${status}`, ok ? "" : ` ${value?.__type ?? ""}`),
    element("p", { class: "facts" }, `${took.toFixed(1)} ms · request `, element("code", {}, requestId ?? "without id")),
  ];
  if (!ok && value?.message) parts.push(element("p", {}, visible(value.message)));
  parts.push(shown === "" ? element("p", {}, "The body is empty.")
    : element("div", { class: "copied" }, element("pre", { tabindex: "0", class: "json" }, element("code", {}, ...painted(shown))), copyButton("JSON", () => shown)));
  if (ok && value) {
    rememberNames(value);
    parts.push(...nextOf(value));
    parts.push(...blobsOf(schema, request, value));
  }
  parts.push(element("details", {}, element("summary", {}, "Response headers"),
    element("pre", { tabindex: "0" }, element("code", {}, headers.map(([n, v]) => `${n}: ${v}`).join("\n")))));
  return parts;
}

// nextOf links to the operation that takes what an answer has. Its form has that filled in.
function nextOf(value) {
  const taking = { CiphertextBlob: "Decrypt", Signature: "Verify", Mac: "VerifyMac" };
  return Object.entries(taking).filter(([name]) => value[name]).map(([name, operation]) => element("p", { class: "next" },
    "Next: ", element("a", { href: `/docs/${operation}#Try`, click: () => drafts.delete(operation) }, operation), `, with this ${name} filled in.`));
}

// offerKey offers to make the key of the example, when it is that which was not found.
function offerKey(form, fields, schema, request, { status, text }) {
  const missing = status === 400 && text.includes('"NotFoundException"') && missingKey(schema, request);
  if (!missing) return [];
  const { member, alias, byId } = missing;
  const note = element("p", { class: "note" }, `The example needs a key that this server does not have. `,
    element("button", { type: "button", async click() {
      try {
        const id = await exampleKey(alias);
        if (byId) fields.write({ ...request, [member]: id });
        form.requestSubmit();
      } catch (e) {
        note.replaceChildren(`The key ${alias} could not be made: ${e.name}. ${e.message}`);
      }
    } }, byId ? `Use ${alias}, and send again` : `Make ${alias}, and send again`));
  return [note];
}

function blobsOf(schema, request, value) {
  const parts = [];
  const walk = (members, object) => {
    for (const m of members) {
      const v = object[m.name];
      if (v === undefined || v === null) continue;
      if (m.kind === "blob") parts.push(blobOf(schema, request, m.name, v));
      else if (m.kind === "structure") walk(m.members, v);
    }
  };
  walk(schema.response, value);
  return parts;
}

function blobOf(schema, request, name, base64) {
  const bytes = fromBase64(base64);
  rememberBlob(name, schema.operation, bytes, request.EncryptionContext);
  const text = toText(bytes);
  const rows = [["base64", base64], ["hex", toHex(bytes)]];
  if (text !== null && text !== "") rows.unshift(["text", text]);
  return element("details", { class: "blob" }, element("summary", {}, `${name}: ${bytes.length} bytes`),
    ...rows.map(([form, v]) => element("div", { class: "copied" }, element("p", {}, form), element("pre", { tabindex: "0" }, element("code", {}, visible(v))), copyButton(form, () => v))));
}

function commandsOf(schema, request, body) {
  const { region, temporary } = signedIn() ?? { region: "us-east-1" };
  const call = { target: schema.target, operation: schema.operation, members: schema.request, request, body, origin: location.origin, region, temporary };
  const of = (name, text) => element("div", { class: "copied" }, element("p", {}, name), element("pre", { tabindex: "0" }, element("code", {}, text)),
    copyButton(name, () => text));
  return element("details", { class: "commands" }, element("summary", {}, "The same call as a command"), of("curl", curl(call)), ...(schema.ofAWS ? [of("AWS CLI", cli(call))] : []));
}
