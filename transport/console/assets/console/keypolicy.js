// The key policy, in an editor that says where it is wrong as JSON.

import { element, labelled, newId } from "../elements.js";
import { call } from "../session.js";
import { jsonError } from "./jsonerror.js";
import { button, section, shown } from "./parts.js";

export const policy = (key) => section("Key policy", ["GetKeyPolicy", "PutKeyPolicy"], key.id, async (act) => {
  const { Policy: saved } = await call("GetKeyPolicy", { KeyId: key.id });
  const text = readable(saved);
  const says = element("div", { id: newId(), class: "says", role: "status" });
  const editor = element("textarea", { class: "policy", rows: Math.min(30, text.split("\n").length + 2),
    spellcheck: "false", autocomplete: "off", "aria-describedby": says.id, input: check });
  editor.value = text;
  const save = button("Save policy", () => {
    const wrong = check();
    if (wrong) return goTo(wrong);
    act(() => call("PutKeyPolicy", { KeyId: key.id, Policy: editor.value }), "The policy is saved.");
  }, { class: "primary" });
  const undo = button("Undo changes", () => {
    editor.value = text;
    check();
    editor.focus();
  });
  check();
  return [labelled("Policy document", editor), says, element("div", { class: "actions" }, save, undo)];

  function check() {
    const wrong = jsonError(editor.value);
    editor.setAttribute("aria-invalid", String(Boolean(wrong)));
    const changed = editor.value !== text;
    undo.disabled = !changed;
    const right = changed ? "This is JSON. It is not saved yet." : "This is the policy that is saved.";
    says.replaceChildren(...(wrong ? where(wrong) : [element("p", { class: "hint" }, right)]));
    return wrong;
  }

  // where says what is wrong, and shows the line.
  function where(wrong) {
    const { message, line, column } = wrong;
    const begin = Math.max(0, column - 60);
    const excerpt = editor.value.split("\n")[line - 1].slice(begin, column + 30).replaceAll("\t", " ");
    return [
      element("p", { class: "warning" }, element("strong", {}, `Line ${line}, column ${column}: `), `${shown(message)}. `,
        button("Go there", () => goTo(wrong), { class: "link" })),
      element("pre", { "aria-hidden": "true" }, element("code", {}, `${shown(excerpt)}\n${" ".repeat(column - 1 - begin)}^`)),
    ];
  }

  function goTo({ at, line }) {
    editor.focus();
    editor.setSelectionRange(at, Math.min(at + 1, editor.value.length));
    editor.scrollTop = (editor.scrollHeight * (line - 3)) / editor.value.split("\n").length;
  }
});

// readable puts a policy of one line into several. Characters that a policy can't have stay escapes.
export function readable(text) {
  if (text.includes("\n") || jsonError(text)) return text;
  const escaped = (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0");
  return JSON.stringify(JSON.parse(text), null, 2).replace(/[\u007f-\uffff]/g, escaped);
}
