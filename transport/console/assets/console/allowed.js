// Buttons for what the principal may not do. They stay there, and say why not.

import { element, newId } from "../elements.js";
import { own } from "../session.js";
import { shown } from "./parts.js";

// needs marks a button with the operation that it calls.
export const needs = (operation) => ({ "data-needs": operation });

// markNotAllowed marks the buttons in a part of a page, also those that come later, when whoever has signed in may not call
// their operation: on the key or, without one, at all. The service decides on each request all the same. Where it does not
// tell, all stay as they are.
export async function markNotAllowed(root, keyId) {
  let answer;
  try {
    answer = await own("GetCallerAccess", keyId === undefined ? {} : { KeyId: keyId });
  } catch {
    return;
  }
  const reasons = new Map(answer.Access.filter((a) => a.Verdict === "DENIED").map((a) => [a.Operation, a.Reason]));
  const texts = element("div", { hidden: true }); // which the buttons are described by
  const ids = new Map([...reasons].map(([operation, reason]) => {
    const text = element("span", { id: newId() }, `Not allowed. ${shown(reason)}`);
    texts.append(text);
    return [operation, text.id];
  }));
  root.append(texts);
  new MutationObserver(mark).observe(root, { childList: true, subtree: true });
  mark();
  root.addEventListener("click", (event) => {
    const button = event.target.closest("[data-needs][aria-disabled]");
    if (!button) return;
    event.preventDefault();
    event.stopPropagation();
    say(button);
  }, { capture: true });

  function mark() {
    for (const button of root.querySelectorAll("[data-needs]:not([aria-disabled])")) {
      const id = ids.get(button.dataset.needs);
      if (!id) continue;
      button.setAttribute("aria-disabled", "true");
      button.setAttribute("aria-describedby", id);
      button.title = document.getElementById(id)?.textContent ?? "";
    }
  }

  // say shows the reason below the button. There is one at a time.
  function say(button) {
    root.querySelector(".why-not")?.remove();
    const text = reasons.get(button.dataset.needs);
    const place = button.closest(".actions, form, .wide") ?? button;
    place.after(element("p", { class: "warning why-not", role: "alert" }, element("strong", {}, "Not allowed. "), shown(text)));
  }
}
