// The aliases and the tags of a key.

import { element, labelled } from "../elements.js";
import { call } from "../session.js";
import { needs } from "./allowed.js";
import { ask } from "./dialog.js";
import { button, code, input, pages, section, shown, table, time } from "./parts.js";

// aliasName gives the name of an alias with its prefix, which need not be typed.
export const aliasName = (text) => (text.trim().startsWith("alias/") ? text.trim() : `alias/${text.trim()}`);

// aliases tells which there are by found.
export const aliases = (key, found) => section("Aliases", ["ListAliases", "CreateAlias", "UpdateAlias"], key.id, async (act) => {
  const all = await pages(async (marker) => {
    const answer = await call("ListAliases", { KeyId: key.id, Limit: 100, ...marker });
    key.aliases.push(...answer.Aliases.map((a) => a.AliasName));
    return { entries: answer.Aliases, marker: answer.NextMarker };
  }, (entries) => entries.length === 0 ? element("p", {}, "The key has no alias.")
    : table("Aliases of the key", ["Alias", "Changed", "Action"],
      entries.map((a) => [code(a.AliasName), time(a.LastUpdatedDate), remover(a.AliasName)])));
  found(key.aliases);
  const name = input({ required: true, placeholder: "alias/…" });
  return [all, element("form", { class: "bar", autocomplete: "off", submit(event) {
    event.preventDefault();
    act(() => {
      key.aliases.length = 0;
      return call("CreateAlias", { AliasName: aliasName(name.value), TargetKeyId: key.id });
    }, "The alias is added.");
  } }, labelled("New alias", name), element("button", { type: "submit", ...needs("CreateAlias") }, "Add alias"))];

  function remover(alias) {
    return button("Remove", async () => {
      const text = `Clients that use ${shown(alias)} will not find the key any more.`;
      if (!await ask({ title: "Remove the alias?", action: "Remove", text })) return;
      act(() => {
        key.aliases.length = 0;
        return call("DeleteAlias", { AliasName: alias });
      }, "The alias is removed.");
    }, { class: "small", ...needs("DeleteAlias"), "aria-label": `Remove ${shown(alias)}` });
  }
});

export const tags = (key) => section("Tags", ["ListResourceTags", "TagResource", "UntagResource"], key.id, async (act) => {
  const all = await pages(async (marker) => {
    const answer = await call("ListResourceTags", { KeyId: key.id, Limit: 50, ...marker });
    return { entries: answer.Tags, marker: answer.NextMarker };
  }, (entries) => entries.length === 0 ? element("p", {}, "The key has no tags.")
    : table("Tags of the key", ["Name", "Value", "Action"],
      entries.map((t) => [shown(t.TagKey), shown(t.TagValue), remover(t.TagKey)])));
  const name = input({ required: true });
  const value = input();
  return [all, element("form", { class: "bar", autocomplete: "off", submit(event) {
    event.preventDefault();
    act(() => call("TagResource", { KeyId: key.id, Tags: [{ TagKey: name.value, TagValue: value.value }] }), "The tag is set.");
  } }, labelled("Name of the tag", name), labelled("Its value", value), element("button", { type: "submit", ...needs("TagResource") }, "Set tag"))];

  function remover(tag) {
    return button("Remove", async () => {
      const text = `Policies that ask for the tag ${shown(tag)} may decide otherwise without it.`;
      if (!await ask({ title: "Remove the tag?", action: "Remove", text })) return;
      act(() => call("UntagResource", { KeyId: key.id, TagKeys: [tag] }), "The tag is removed.");
    }, { class: "small", ...needs("UntagResource"), "aria-label": `Remove the tag ${shown(tag)}` });
  }
});
