// The fields of a form, made of the description of a request's members. Each has an element, and functions that read
// its value and write it; undefined is absent.

import { fromBase64, fromHex, fromText, toBase64, toHex, toText } from "./bytes.js";
import { element, labelled, newId } from "./elements.js";
import { recentBlobs } from "./recent.js";

// fieldsOf makes the fields of a structure.
export function fieldsOf(members, context) {
  const fields = members.map((m) => [m, fieldOf(m, context)]);
  return {
    element: element("div", { class: "fields" }, ...fields.map(([, f]) => f.element)),
    read() {
      const value = {};
      for (const [m, f] of fields) {
        const v = f.read();
        if (v !== undefined) value[m.name] = v;
      }
      return value;
    },
    write(value = {}) {
      for (const [m, f] of fields) f.write(value[m.name]);
    },
  };
}

function fieldOf(m, context) {
  switch (m.kind) {
    case "blob": return blobField(m);
    case "boolean": return choiceField(m, ["true", "false"], (v) => v === "true", String);
    case "integer": case "timestamp": return numberField(m);
    case "map": return rowsField(m, () => mapRow(), Object.fromEntries, Object.entries);
    case "list": return rowsField(m, () => fieldOf({ ...m.element, name: "" }, context), (rows) => rows, (list) => list);
    case "structure": return structureField(m, context);
  }
  if (m.values) return choiceField(m, m.values, (v) => v, (v) => v);
  return textField(m, context);
}

const caption = (m) => (m.required ? `${m.name} (required)` : m.name);

// withLabel gives a control the name of its member, or of its list for an element.
function withLabel(m, control, ...more) {
  if (m.name) return labelled(caption(m), control, ...more);
  control.setAttribute("aria-label", m.label ?? "Element");
  return element("div", { class: "field" }, control, ...more);
}

const valueOf = (control) => (control.value === "" ? undefined : control.value);

function textField(m, context) {
  const long = m.shape === "PolicyType" || m.shape === "TrustAnchorCertificateType";
  const control = long ? element("textarea", { rows: 6, spellcheck: "false" })
    : element("input", { type: m.sensitive ? "password" : "text", autocomplete: "off", spellcheck: "false" });
  if (m.shape === "KeyIdType") {
    control.setAttribute("list", context.keyList);
    control.addEventListener("focus", context.listKeys);
  }
  return { element: withLabel(m, control), read: () => (m.required && !m.min ? control.value : valueOf(control)), write: (v) => (control.value = v ?? "") };
}

function numberField(m) {
  const control = element("input", { type: "text", inputmode: "numeric", autocomplete: "off" });
  return {
    element: withLabel(m, control),
    read() {
      const text = valueOf(control)?.trim();
      if (text === undefined) return undefined;
      if (!/^-?\d+(\.\d+)?$/.test(text)) throw new FieldError(control, `${m.name}: give a number.`);
      return Number(text);
    },
    write: (v) => (control.value = v ?? ""),
  };
}

function choiceField(m, values, read, write) {
  const control = element("select", {}, element("option", { value: "" }, "not sent"), ...values.map((v) => element("option", { value: v }, v)));
  return {
    element: withLabel(m, control),
    read: () => (control.value === "" ? undefined : read(control.value)),
    write: (v) => (control.value = v === undefined ? "" : write(v)),
  };
}

const forms = {
  text: { label: "as text", read: fromText, write: toText },
  hex: { label: "as hex", read: fromHex, write: toHex },
  base64: { label: "as base64", read: fromBase64, write: toBase64 },
};

// blobField takes bytes as text, hex, base64, a file, or a blob of an earlier answer in this tab.
function blobField(m) {
  const control = element("textarea", { rows: 2, spellcheck: "false", autocomplete: "off" });
  const form = element("select", { "aria-label": `Form of ${m.name}` }, ...Object.entries(forms).map(([value, f]) => element("option", { value }, f.label)));
  form.value = m.shape === "PlaintextType" ? "text" : "base64";
  const file = element("input", { type: "file", "aria-label": `File for ${m.name}` });
  const earlier = element("select", { "aria-label": `Earlier answer for ${m.name}` });
  const bytes = () => {
    try {
      return forms[form.value].read(control.value);
    } catch (e) {
      throw new FieldError(control, `${m.name}: ${e.message}`);
    }
  };
  const put = (b) => {
    const text = toText(b);
    form.value = shown = text === null ? "base64" : "text";
    control.value = text ?? toBase64(b);
  };
  let shown = form.value;
  form.addEventListener("change", () => {
    const wanted = form.value;
    form.value = shown;
    try {
      const text = forms[wanted].write(bytes());
      if (text === null) return;
      control.value = text;
    } catch { /* what is there stays, and is read in the new form */ }
    form.value = shown = wanted;
  });
  file.addEventListener("change", async () => {
    if (file.files.length === 1) put(new Uint8Array(await file.files[0].arrayBuffer()));
  });
  const offer = () => {
    const blobs = recentBlobs();
    earlier.replaceChildren(element("option", { value: "" }, "from an earlier answer"), ...blobs.map((b, i) => element("option", { value: i }, b.label)));
    earlier.hidden = blobs.length === 0;
  };
  earlier.addEventListener("change", () => {
    const blob = recentBlobs()[earlier.value];
    if (blob) put(blob.bytes);
    earlier.value = "";
  });
  control.addEventListener("focus", offer);
  offer();
  return {
    element: withLabel(m, control, element("div", { class: "forms" }, form, earlier, file)),
    read: () => (control.value === "" ? undefined : toBase64(bytes())),
    write: (v) => (v === undefined ? (control.value = "") : put(fromBase64(v))),
  };
}

function mapRow() {
  const name = element("input", { type: "text", autocomplete: "off", spellcheck: "false", "aria-label": "Name", placeholder: "name" });
  const value = element("input", { type: "text", autocomplete: "off", spellcheck: "false", "aria-label": "Value", placeholder: "value" });
  return {
    element: element("div", { class: "pair" }, name, value),
    read: () => (name.value === "" && value.value === "" ? undefined : [name.value, value.value]),
    write: (v) => ([name.value, value.value] = v ?? ["", ""]),
  };
}

// rowsField is for maps and lists: rows that can be added and removed.
function rowsField(m, newRow, read, write) {
  let rows = [];
  const list = element("div", { class: "rows" });
  const add = (value) => {
    const row = newRow();
    const remove = element("button", { type: "button", class: "small", "aria-label": `Remove from ${m.name}`, click() {
      rows = rows.filter((r) => r !== row);
      line.remove();
      more.focus();
    } }, "Remove");
    const line = element("div", { class: "row" }, row.element, remove);
    row.write(value);
    rows.push(row);
    list.append(line);
    return line;
  };
  const more = element("button", { type: "button", class: "small", click() {
    add().querySelector("input, select, textarea").focus();
  } }, `Add to ${m.name}`);
  return {
    element: element("fieldset", {}, element("legend", {}, caption(m)), list, more),
    read() {
      const values = rows.map((r) => r.read()).filter((v) => v !== undefined);
      return values.length === 0 ? undefined : read(values);
    },
    write(value) {
      rows = [];
      list.replaceChildren();
      for (const v of value === undefined ? [] : write(value)) add(v);
    },
  };
}

function structureField(m, context) {
  const inner = fieldsOf(m.members, context);
  const children = m.name ? [element("legend", {}, caption(m)), inner.element] : [inner.element];
  return {
    element: element("fieldset", m.name ? {} : { "aria-label": "Element" }, ...children),
    read() {
      const value = inner.read();
      return Object.keys(value).length === 0 ? undefined : value;
    },
    write: inner.write,
  };
}

// FieldError is a value that can't be sent.
export class FieldError extends Error {
  constructor(control, message) {
    super(message);
    control.id ||= newId();
    this.control = control;
  }
}
