// Changing the state of a key.

import { element, labelled } from "../elements.js";
import { call } from "../session.js";
import { needs } from "./allowed.js";
import { ask } from "./dialog.js";
import { button, code, input, problem, time } from "./parts.js";

// stateActions gives the buttons for the state that a key has, and a place for what fails.
export function stateActions(key) {
  const { KeyState: state, DeletionDate: date } = key.metadata;
  const failure = element("div");
  let busy = false;
  async function act(operation, request, message) {
    if (busy) return;
    busy = true;
    failure.replaceChildren();
    try {
      await call(operation, { KeyId: key.id, ...request });
      await key.reload(message);
    } catch (e) {
      failure.replaceChildren(problem(e, { role: "alert" }));
    } finally {
      busy = false;
    }
  }
  const enable = button("Enable", () => act("EnableKey", {}, "The key is enabled."), needs("EnableKey"));
  const disable = button("Disable", () => act("DisableKey", {}, "The key is disabled."), needs("DisableKey"));
  const cancel = button("Cancel deletion", () => act("CancelKeyDeletion", {}, "The deletion is cancelled."), needs("CancelKeyDeletion"));
  const remove = button("Schedule deletion", async () => {
    const days = await askForDeletion(key);
    const message = `The key is deleted in ${days} days, unless the deletion is cancelled.`;
    if (days) await act("ScheduleKeyDeletion", { PendingWindowInDays: days }, message);
  }, { class: "danger", ...needs("ScheduleKeyDeletion") });
  const buttons = date || state.startsWith("Pending") && state !== "PendingImport" ? [cancel]
    : [...(state === "Enabled" ? [disable] : state === "Disabled" ? [enable] : []), remove];
  return [element("div", { class: "actions", id: "state-actions" }, ...buttons), failure];
}

// askForDeletion gives the days of the waiting period, or null.
async function askForDeletion(key) {
  const days = input({ value: "30", inputmode: "numeric" });
  const name = input({ id: "confirm-name" });
  const names = [key.metadata.KeyId, ...key.aliases];
  const accepted = await ask({
    title: "Schedule deletion", action: "Schedule deletion",
    text: "What only this key can decrypt is lost for ever when the waiting period is over. Until then the key can't be used, " +
      "and the deletion can be cancelled.",
    controls: [
      element("p", { class: "hint" }, "Key ", code(key.metadata.KeyId), " of ", time(key.metadata.CreationDate)),
      labelled("Waiting period in days, 7 to 30", days),
      labelled("To confirm, type the key's id or one of its aliases", name)],
    check() {
      const wanted = Number(days.value);
      if (!Number.isInteger(wanted) || wanted < 7 || wanted > 30) return "The waiting period is 7 to 30 days.";
      return names.includes(name.value.trim()) ? "" : "This is neither the key's id nor one of its aliases.";
    },
  });
  return accepted ? Number(days.value) : null;
}
