// The rotation and the materials of a key.

import { element, labelled } from "../elements.js";
import { call } from "../session.js";
import { needs } from "./allowed.js";
import { ask } from "./dialog.js";
import { button, code, input, pages, section, shown, table, time } from "./parts.js";

// rotation gives the parts for keys that can have several materials: those for symmetric encryption.
export function rotation(key) {
  if (key.metadata && key.metadata.KeySpec !== "SYMMETRIC_DEFAULT") return [];
  return [automatic(key), materials(key)];
}

const operations = ["GetKeyRotationStatus", "EnableKeyRotation", "DisableKeyRotation"];

const automatic = (key) => section("Automatic rotation", operations, key.id, async (act) => {
  const answer = await call("GetKeyRotationStatus", { KeyId: key.id });
  if (answer.KeyRotationEnabled) {
    const next = answer.NextRotationDate ? [", next on ", time(answer.NextRotationDate)] : [];
    const disable = () => call("DisableKeyRotation", { KeyId: key.id });
    return [element("p", {}, `The key rotates every ${shown(answer.RotationPeriodInDays)} days`, ...next, "."),
      button("Disable rotation", () => act(disable, "The automatic rotation is disabled."), needs("DisableKeyRotation"))];
  }
  const origin = key.metadata?.Origin ?? "AWS_KMS";
  if (origin !== "AWS_KMS") return [element("p", {}, `Keys of origin ${shown(origin)} don't rotate by themselves.`)];
  const days = input({ value: "365", inputmode: "numeric", required: true, pattern: "[0-9]+" });
  return [element("p", {}, "The key does not rotate by itself."), element("form", { class: "bar", autocomplete: "off", submit(event) {
    event.preventDefault();
    const request = { KeyId: key.id, RotationPeriodInDays: Number(days.value) };
    act(() => call("EnableKeyRotation", request), "The automatic rotation is enabled.");
  } }, labelled("Period in days, 90 to 2,560", days), element("button", { type: "submit", ...needs("EnableKeyRotation") }, "Enable rotation"))];
});

const materials = (key) => section("Materials", ["ListKeyRotations", "RotateKeyOnDemand"], key.id, async (act) => {
  const all = await pages(async (marker) => {
    const request = { KeyId: key.id, IncludeKeyMaterial: "ALL_KEY_MATERIAL", Limit: 100, ...marker };
    const answer = await call("ListKeyRotations", request);
    return { entries: answer.Rotations, marker: answer.NextMarker };
  }, (entries) => entries.length === 0 ? element("p", {}, "The key has no material yet.")
    : table("Materials of the key", ["Material", "State", "Since", "Rotation", "Description"], entries.map((m) => [
      code(m.KeyMaterialId), shown(m.KeyMaterialState), m.RotationDate ? time(m.RotationDate) : "creation",
      shown(m.RotationType ?? "–"), shown(m.KeyMaterialDescription ?? "–")])));
  return [all, button("Rotate now", async () => {
    const text = "New material encrypts from now on; the old one stays for decryption. A key can be rotated on demand 25 times.";
    if (!await ask({ title: "Rotate the key now?", action: "Rotate", text })) return;
    act(() => call("RotateKeyOnDemand", { KeyId: key.id }), "The key is rotated.");
  }, needs("RotateKeyOnDemand"))];
});
