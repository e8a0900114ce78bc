// Creating a key, with its alias, tags and rotation.

import { element, labelled } from "../elements.js";
import { fieldsOf } from "../fields.js";
import { visit } from "../navigate.js";
import { call, signedIn } from "../session.js";
import { markNotAllowed, needs } from "./allowed.js";
import { aliasName } from "./keynames.js";
import { keepDraft } from "./keypolicy.js";
import { input, problem, sayNext } from "./parts.js";
import { policyEditor } from "./policyeditor.js";

// uses are the KeyUsages in the order in which they are offered, with what they are for.
const uses = {
  ENCRYPT_DECRYPT: "encrypt and decrypt, and protect data keys",
  SIGN_VERIFY: "sign and verify",
  GENERATE_VERIFY_MAC: "authenticate messages (MAC)",
  KEY_AGREEMENT: "agree on a secret (ECDH)",
  ENCAPSULATE_DECAPSULATE: "agree on a secret that quantum computers can't learn (ML-KEM)",
};

const hints = {
  SYMMETRIC_DEFAULT: "AES-256. Data of any size is encrypted with data keys. Right for most.",
  RSA: "A key pair: others use the public key, which GetPublicKey gives.",
  ECC: "A key pair on an elliptic curve.",
  HMAC: "A secret that signs and verifies.",
  ML: "A key pair that quantum computers can't break.",
  SM2: "A key pair as in Chinese standards.",
};

const option = (value, text) => element("option", { value }, text);

export function createKey(view, { keySpecs }) {
  const offered = Object.entries(uses).filter(([u]) => keySpecs.some((s) => s.usages.includes(u)));
  const usage = element("select", {}, ...offered.map(([u, text]) => option(u, text)));
  const spec = element("select");
  const hint = element("p", { class: "hint", role: "status" });
  const description = input({ maxlength: "8192" });
  const alias = input({ placeholder: "alias/…", pattern: "[a-zA-Z0-9\\/_\\-]+" });
  const tags = fieldsOf([{ name: "Tags", kind: "map" }], {});
  const rotates = element("input", { type: "checkbox" });
  const days = input({ value: "365", inputmode: "numeric", pattern: "[0-9]+" });
  const period = labelled("Period in days, 90 to 2,560", days);
  const rotation = element("fieldset", {}, element("legend", {}, "Rotation"),
    check("Give the key new material automatically", rotates), period);
  const ownPolicy = element("input", { type: "checkbox" });
  const usual = defaultPolicy(signedIn().arn);
  const editor = policyEditor("Policy document", {
    describe: () => (editor.value() === usual ? "This is the policy that a key gets without one of its own." : "This is JSON."),
    edited: () => keepDraft("new key", ownPolicy.checked && editor.value() !== usual ? {} : undefined),
  });
  const permissions = element("fieldset", {}, element("legend", {}, "Key policy"),
    check("Write a policy for the key", ownPolicy), editor.element);
  const answer = element("div");
  const submit = element("button", { type: "submit", class: "primary", ...needs("CreateKey") }, "Create key");

  usage.addEventListener("change", chooseSpecs);
  spec.addEventListener("change", chooseRest);
  rotates.addEventListener("change", chooseRest);
  ownPolicy.addEventListener("change", chooseRest);
  chooseSpecs();
  editor.set(usual);
  view.append(element("form", { class: "create", autocomplete: "off", submit: create },
    labelled("The key is to", usage), labelled("Kind of key (KeySpec)", spec, hint),
    labelled("Description (optional)", description),
    labelled("Alias (optional)", alias,
      element("p", { class: "hint" }, "A name for clients, which can be given to another key later. The examples of the documentation use alias/example.")),
    tags.element, element("p", { class: "hint" }, "Description, alias and tags are not secret."),
    rotation, permissions, element("p", { class: "hint" }, "Without a policy of its own, the key can be used and administered by ",
      "the account's root user, and by the users and roles that their policies allow it."), answer, element("div", { class: "actions" }, submit)));
  markNotAllowed(view);

  function chooseSpecs() {
    spec.replaceChildren(...keySpecs.filter((s) => s.usages.includes(usage.value)).map((s) => option(s.name, s.name)));
    chooseRest();
  }

  function chooseRest() {
    hint.textContent = hints[spec.value] ?? hints[spec.value.split("_")[0]] ?? "";
    rotation.hidden = spec.value !== "SYMMETRIC_DEFAULT"; // no other kind rotates
    period.hidden = !rotates.checked;
    editor.element.hidden = !ownPolicy.checked;
    days.disabled = rotation.hidden || period.hidden; // so that it is not validated
  }

  async function create(event) {
    event.preventDefault();
    if (submit.disabled || ownPolicy.checked && !editor.isJSON()) return;
    submit.disabled = true;
    const named = Object.entries(tags.read().Tags ?? {}).map(([TagKey, TagValue]) => ({ TagKey, TagValue }));
    const request = { KeySpec: spec.value, KeyUsage: usage.value, Tags: named };
    if (description.value) request.Description = description.value;
    if (ownPolicy.checked) request.Policy = editor.value();
    let id;
    try {
      answer.replaceChildren();
      id = (await call("CreateKey", request)).KeyMetadata.KeyId;
    } catch (e) {
      submit.disabled = false;
      if (e.name === "MalformedPolicyDocumentException") editor.refuse(e);
      else answer.replaceChildren(problem(e, { role: "alert" }));
      return;
    }
    keepDraft("new key", undefined);
    const href = `/console/keys/${encodeURIComponent(id)}`;
    const failures = [];
    const attempt = (what, operation, more) => call(operation, more).catch((e) => failures.push([what, e]));
    if (alias.value.trim()) {
      const wanted = { AliasName: aliasName(alias.value), TargetKeyId: id };
      await attempt("The key is made, but not its alias.", "CreateAlias", wanted);
    }
    if (!rotation.hidden && rotates.checked) {
      const wanted = { KeyId: id, RotationPeriodInDays: Number(days.value) };
      await attempt("The key is made, but does not rotate.", "EnableKeyRotation", wanted);
    }
    if (!view.isConnected) return;
    if (failures.length === 0) {
      sayNext("The key is created. Below is what it is for.");
      return visit(new URL(href, location.href));
    }
    // The button stays disabled, so that no second key is made.
    answer.replaceChildren(
      element("div", { role: "alert" }, ...failures.flatMap(([what, e]) => [element("p", {}, what), problem(e)])),
      element("p", {}, element("a", { href }, "Open the page of the key"), ", where both can be set."));
  }
}

// check is a check box with its label behind it.
function check(text, box) {
  return element("label", { class: "check" }, box, ` ${text}`);
}

// defaultPolicy is what a key gets without a policy of its own: the policies of the account's users and roles decide.
function defaultPolicy(arn) {
  const root = arn.replace(/^(arn:[^:]+):(?:iam|sts)::(\d+):.*$/, "$1:iam::$2:root");
  return JSON.stringify({ Version: "2012-10-17", Statement: [
    { Sid: "Enable IAM User Permissions", Effect: "Allow", Principal: { AWS: root }, Action: "kms:*", Resource: "*" }] }, null, 2);
}
