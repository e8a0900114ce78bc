// The attestation of a key: what the token says of its material, signed with the key of the audit log, and verified here.

import { element, labelled } from "../elements.js";
import { own } from "../session.js";
import { jsonError } from "./jsonerror.js";
import { button, code, input, list, problem, save, section, shown, table } from "./parts.js";
import { openNote, readKey, refuse } from "./signednote.js";

const head = /^verenc-kms attestation v[12]\n/;

// verifyAttestation gives the statement of an attestation that a key has signed, or fails with the reason. It reads nothing
// but the bytes that are signed.
export async function verifyAttestation(signed, keyText) {
  const key = await readKey(keyText.trim());
  const text = await openNote(signed, key);
  if (!head.test(text)) refuse("What is signed is no attestation of a version that this page knows.");
  const body = text.replace(head, "");
  if (jsonError(body)) refuse("The statement that is signed can't be read."); // nor one with a name twice
  return { statement: JSON.parse(body), algorithm: key.algorithm };
}

// bornInToken tells whether, as the token says, every object was generated in it and could never be read or wrapped.
export function bornInToken({ Materials: materials }) {
  const objects = materials.flatMap((m) => m.Objects ?? []);
  return objects.length > 0 && objects.every((o) => o.Local && o.NeverExtractable && o.AlwaysSensitive && o.Sensitive && !o.Extractable);
}

export const attestation = (key) => section("Attestation", ["GetKeyAttestation"], key.id, async () => {
  const place = element("div", { "aria-live": "polite" });
  const get = button("Get the attestation", async () => {
    get.disabled = true;
    try {
      const answer = await own("GetKeyAttestation", { KeyId: key.id });
      place.replaceChildren(...attested(answer));
    } catch (e) {
      place.replaceChildren(problem(e));
    }
    get.disabled = false;
  });
  return [element("p", {}, "The token is asked where the material of the key is and what can be done with it. The answer is signed, so that " +
    "it can be shown to others."), element("div", { class: "actions" }, get), place];
});

// attested shows an attestation and verifies it, again when another key is given.
function attested({ KeyId: id, Attestation: signed, VerifierKey: served }) {
  const result = element("div");
  const key = input({ value: served, change: verify });
  verify();
  return [
    labelled("Public key of the audit log", key, element("p", { class: "hint" }, "This server gave it with the attestation. Put in its place " +
      "the one that you have kept, or compare them: ", element("code", {}, "verenc audit keys"), " prints it.")),
    result,
    element("div", { class: "actions" }, button("Download the attestation", () => save(`attestation-${id}.txt`, signed))),
    element("details", {}, element("summary", {}, "The attestation as it is signed"), element("pre", { tabindex: "0" }, element("code", {}, shown(signed)))),
  ];

  async function verify() {
    try {
      const verified = await verifyAttestation(signed, key.value);
      if (verified.statement.Key.ID !== id) refuse("It is the attestation of another key.");
      result.replaceChildren(...report(verified, key.value.trim() === served));
    } catch (e) {
      result.replaceChildren(element("p", { class: "warning", role: "alert" }, element("strong", {}, "Not verified. "), shown(e.message)));
    }
  }
}

function report({ statement: s, algorithm }, served) {
  const born = bornInToken(s);
  return [
    element("p", { class: "verified" }, element("strong", {}, "Verified. "), `This browser has checked the signature (${algorithm}) over exactly the ` +
      `bytes below. ${served ? "The key is the one that this server gave: that it is the audit log's, you still have to compare." : "The key is yours."}`),
    element("p", {}, element("strong", {}, born ? "Made in the token, and never outside. " : "Not all of it is bound to the token. "),
      born ? "The token says that all material of the key was generated in it, and could never be read or taken out."
        : "The token does not say of all material of the key that it was generated in it and could never be read or taken out."),
    list([
      ["Time", shown(s.Time)], ["Key", code(s.Key.ARN)], ["Spec and usage", shown(`${s.Key.Spec}, ${s.Key.Usage}`)],
      ["Origin", shown(s.Key.Origin)], ["State", shown(s.Key.State)],
      ["Token", shown(`${s.Token.Label}: ${s.Token.Manufacturer} ${s.Token.Model}, serial ${s.Token.Serial}, firmware ${s.Token.Firmware}`)],
      ["SHA-256 of the key policy", code(s.Key.PolicySHA256)],
    ]),
    table("Objects of the key in the token", ["Material", "Object", "Generated there", "Can't be read", "Can't be taken out", "Mechanism"],
      s.Materials.flatMap((m) => [...(m.Objects ?? []), ...(m.WrappedUnder ? [m.WrappedUnder] : [])].map((o) => object(m, o)))),
    element("p", { class: "hint" }, "Whoever relies on this trusts the token and its vendor, whose word it is; this server's program, which asked the " +
      "token; and whoever has the signing key. This page comes from the server, too. To verify without it, download the attestation and run ",
    element("code", {}, "verenc attest --verify FILE --key PUBLICKEY"), " on another machine."),
  ];
}

const object = (m, o) => [`${shown(m.Ordinal)}${m.Current ? ", current" : ""}`, shown(o.Role), yes(o.Local), always(o.Sensitive, o.AlwaysSensitive),
  always(!o.Extractable, o.NeverExtractable), shown(o.Mechanism || "–")];

const yes = (value) => (value ? "yes" : "no");

const always = (now, ever) => (now && ever ? "never could" : now ? "not now" : "it can");
