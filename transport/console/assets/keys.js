// The keys and aliases that a field for a key id is completed from.

import { element, newId } from "./elements.js";
import { call, signedIn } from "./session.js";

const most = { keys: 1000, aliases: 100 }; // that one request lists

// completer gives a datalist, a note about it, and a function that fills it when somebody is signed in.
export function completer(id) {
  const list = element("datalist", { id });
  const note = element("p", { class: "hint", role: "status", id: newId() });
  let filled = "";
  async function fill() {
    const who = signedIn();
    if (!who || filled === who.accessKeyId + who.region) return;
    filled = who.accessKeyId + who.region;
    try {
      const { Aliases } = await call("ListAliases", { Limit: most.aliases });
      const { Keys } = await call("ListKeys", { Limit: most.keys });
      list.replaceChildren(...Aliases.map((a) => element("option", { value: a.AliasName })), ...Keys.map((k) => element("option", { value: k.KeyId })));
      note.textContent = `To choose from: ${Keys.length} key ids, ${Aliases.length} aliases.`;
    } catch (e) {
      note.textContent = `Keys can't be listed: ${e.name}. Type a key id or an alias.`;
    }
  }
  return { list, note, fill };
}
