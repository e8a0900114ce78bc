// Making elements. Text only ever becomes text, so that nothing in an answer can be more than that.

// element makes one with attributes (functions are listeners of events), and with children, which are elements and
// texts.
export function element(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") e.addEventListener(key, value);
    else if (value === true) e.setAttribute(key, "");
    else if (value !== false && value !== undefined) e.setAttribute(key, value);
  }
  e.append(...children);
  return e;
}

// visible writes the characters that change the direction of a text, which could make it look like another one, as JSON
// escapes them.
export const visible = (text) =>
  text.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

let made = 0;

// newId gives an id that no other element has.
export const newId = () => `made-${++made}`;

// labelled makes a control with its label before it.
export function labelled(text, control, ...more) {
  control.id ||= newId();
  return element("div", { class: "field" }, element("label", { for: control.id }, text), control, ...more);
}

// copyButton copies what a function gives, where the browser lets it.
export function copyButton(what, text) {
  const label = `Copy ${what}`;
  const button = element("button", { type: "button", class: "copy", hidden: !navigator.clipboard, async click() {
    await navigator.clipboard.writeText(text());
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1500);
  } }, label);
  return button;
}
