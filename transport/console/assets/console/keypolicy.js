// The key policy.

import { element } from "../elements.js";
import { protect } from "../navigate.js";
import { call, onChange, signedIn } from "../session.js";
import { needs } from "./allowed.js";
import { ask } from "./dialog.js";
import { jsonError } from "./jsonerror.js";
import { diffOf } from "./linediff.js";
import { button, section } from "./parts.js";
import { policyEditor } from "./policyeditor.js";

// drafts are policies that are not saved, by what they are for. They survive that the page of a key is made again.
const drafts = new Map();
onChange(() => signedIn() || drafts.clear());

// keepDraft has the reader asked before a policy that is not saved is lost; undefined is none.
export function keepDraft(name, draft) {
  if (draft === undefined) return drafts.delete(name);
  drafts.set(name, draft);
  protect(() => drafts.size > 0, async () => {
    const text = "The changes of the policy are not saved.";
    if (!await ask({ title: "Leave the page?", text, action: "Leave without saving", stay: "Stay" })) return false;
    drafts.clear();
    return true;
  });
}

export const policy = (key) => section("Key policy", ["GetKeyPolicy", "PutKeyPolicy"], key.id, async (act) => {
  const saved = readable((await call("GetKeyPolicy", { KeyId: key.id })).Policy);
  const draft = drafts.get(key.id);
  const editor = policyEditor("Policy document", { describe, edited });
  const save = button("Save policy …", async () => {
    if (!editor.isJSON()) return;
    const text = editor.value();
    const accepted = await ask({ title: "Save the policy?", action: "Save policy", kind: "primary",
      text: sameValue(saved, text) ? "Only the layout of the text changes." : "It decides from now on who can use and administer the key.",
      controls: [diffOf(saved, text)] });
    if (!accepted) return;
    save.disabled = true;
    try {
      await call("PutKeyPolicy", { KeyId: key.id, Policy: text });
    } catch (e) {
      save.disabled = false;
      return editor.refuse(e);
    }
    keepDraft(key.id, undefined);
    act(async () => {}, "The policy is saved.");
  }, { class: "primary", ...needs("PutKeyPolicy") });
  const undo = button("Undo changes", () => {
    editor.set(saved);
    editor.focus();
  });
  editor.set(draft?.text ?? saved);
  return [editor.element, element("div", { class: "actions" }, save, undo)];

  function describe() {
    if (editor.value() === saved) return "This is the policy that is saved.";
    return draft && draft.saved !== saved ? "This is JSON. It is not saved yet, and somebody has changed the saved policy meanwhile."
      : "This is JSON. It is not saved yet.";
  }

  function edited() {
    const text = editor.value();
    save.disabled = undo.disabled = text === saved;
    keepDraft(key.id, text === saved ? undefined : { text, saved: draft?.saved ?? saved });
  }
});

function sameValue(a, b) {
  return !jsonError(a) && JSON.stringify(JSON.parse(a)) === JSON.stringify(JSON.parse(b));
}

// readable puts a policy of one line into several. Characters that a policy can't have stay escapes.
export function readable(text) {
  if (text.includes("\n") || jsonError(text)) return text;
  const escaped = (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0");
  return JSON.stringify(JSON.parse(text), null, 2).replace(/[\u007f-\uffff]/g, escaped);
}
