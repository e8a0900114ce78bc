// The page of a key: what there is to see of it, each part with what can be done. Each part is asked for by itself, so that
// what is not allowed is missing alone.

import { element } from "../elements.js";
import { call } from "../session.js";
import { markNotAllowed } from "./allowed.js";
import { attestation } from "./attestation.js";
import { access } from "./keyaccess.js";
import { grants } from "./keygrants.js";
import { aliases, tags } from "./keynames.js";
import { policy } from "./keypolicy.js";
import { rotation } from "./keyrotation.js";
import { stateActions } from "./keystate.js";
import { stateTag } from "./keytable.js";
import { code, list, problem, said, section, shown, time, tryLink, tryLinks } from "./parts.js";

export async function keyPage(view, schema, entitle) {
  const id = decodeURIComponent(location.pathname.slice("/console/keys/".length));
  const done = element("p", { class: "done", role: "status" });
  const parts = element("div");
  view.append(done, parts);
  await load(said());
  await markNotAllowed(view, id);

  // load makes all parts, after something was done that concerns them all.
  async function load(message) {
    parts.setAttribute("aria-busy", "true");
    let metadata = null;
    let failure = null;
    try {
      metadata = (await call("DescribeKey", { KeyId: id })).KeyMetadata;
    } catch (e) {
      failure = e;
    }
    if (!view.isConnected) return;
    parts.removeAttribute("aria-busy");
    if (failure && failure.name !== "AccessDeniedException") {
      parts.replaceChildren(problem(failure));
      return;
    }
    // Operations that administer a key take no alias.
    const key = { id: metadata && /(^|:)alias\//.test(id) ? metadata.KeyId : id, metadata, aliases: [], reload: load };
    entitle(shown(id));
    parts.replaceChildren(
      ...(failure ? [problem(failure)] : [head(key), ...stateActions(key), use(key, schema), details(metadata)]),
      aliases(key, (names) => entitle(shown(names[0] ?? id))), tags(key), policy(key), grants(key),
      access(key, schema.uses[metadata?.KeyUsage] ?? []), ...rotation(key), attestation(key), lastUse(key));
    done.textContent = message;
    if (message) document.getElementById("title").focus();
  }
}

function head({ metadata: m }) {
  const until = m.DeletionDate ? [" The key is deleted on ", time(m.DeletionDate), "."]
    : m.KeyState === "PendingReplicaDeletion" ? [" The waiting period begins when the last replica is gone."] : [];
  return element("p", { class: "state-line" }, stateTag(m.KeyState), ...until);
}

function details(m) {
  const part = element("section", { class: "part" }, element("h2", {}, "Details"));
  const names = ["EncryptionAlgorithms", "EncapsulationAlgorithms", "SigningAlgorithms", "KeyAgreementAlgorithms", "MacAlgorithms"];
  const multi = m.MultiRegionConfiguration;
  part.append(list([
    ["Description", shown(m.Description)], ["Key id", code(m.KeyId)], ["ARN", code(m.Arn)],
    ["Spec", shown(m.KeySpec)], ["Usage", shown(m.KeyUsage)], ["Algorithms", names.flatMap((n) => m[n] ?? []).map(shown).join(", ")],
    ["Origin", shown(m.Origin)], ["Created", time(m.CreationDate)],
    ["Expires", m.ValidTo && time(m.ValidTo)], ["Custom key store", m.CustomKeyStoreId && shown(m.CustomKeyStoreId)],
    ["Current material", m.CurrentKeyMaterialId && code(m.CurrentKeyMaterialId)],
    ["Multi-Region", multi && shown(`${multi.MultiRegionKeyType}; primary key in ${multi.PrimaryKey?.Region}; replicas in ` +
      `${(multi.ReplicaKeys ?? []).map((r) => r.Region).join(", ") || "no Region"}`)],
  ]), tryLinks(["DescribeKey", "UpdateKeyDescription"], m.KeyId));
  return part;
}

// use links to the operations that such a key is for, and says what each does.
const use = (key, schema) => element("section", { class: "part" }, element("h2", {}, "Use the key"),
  element("dl", { class: "index" }, ...(schema.uses[key.metadata.KeyUsage] ?? []).map(({ operation, text }) => element("div", {},
    element("dt", {}, tryLink(operation, key.id)), element("dd", {}, text)))));

const lastUse = (key) => section("Last use", ["GetKeyLastUsage"], key.id, async () => {
  const { KeyLastUsage: last, TrackingStartDate: since } = await call("GetKeyLastUsage", { KeyId: key.id });
  if (!last) return [element("p", {}, "Not used since ", time(since), ", when tracking began.")];
  return [list([["Operation", shown(last.Operation)], ["Time", time(last.Timestamp)], ["Request", code(last.KmsRequestId)]])];
});
