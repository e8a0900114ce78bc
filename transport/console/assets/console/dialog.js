// Asking before something is done.

import { element, newId } from "../elements.js";
import { button } from "./parts.js";

// ask shows a dialog, and tells whether it was accepted. kind is the class of its button, stay the text of the other one.
// check says what is wrong with the controls, which keeps it open.
export function ask({ title, text, action, kind = "danger", stay = "Cancel", controls = [], check = () => "" }) {
  const heading = element("h2", { id: newId() }, title);
  const wrong = element("p", { class: "warning", role: "alert", hidden: true });
  const cancel = button(stay, () => dialog.close());
  const form = element("form", { method: "dialog", autocomplete: "off" }, heading, element("p", {}, text), ...controls, wrong,
    element("div", { class: "actions" }, element("button", { type: "submit", class: kind }, action), cancel));
  const dialog = element("dialog", { "aria-labelledby": heading.id, class: "ask" }, form);
  document.getElementById("console").append(dialog);
  return new Promise((done) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault(); // form-action is none
      wrong.textContent = check();
      wrong.hidden = wrong.textContent === "";
      if (wrong.hidden) dialog.close("accepted");
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      done(dialog.returnValue === "accepted");
    });
    dialog.showModal();
    (form.querySelector("input") ?? cancel).focus();
  });
}
