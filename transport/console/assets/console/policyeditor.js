// An editor for a policy. The text is in a textarea, which lies over the same text in colours; both are as large as the text,
// and scrolled together.

import { element, newId } from "../elements.js";
import { painted } from "../json.js";
import { jsonError } from "./jsonerror.js";
import { button, problem, shown } from "./parts.js";

const pause = 200; // milliseconds after which what was typed is judged, so that a screen reader is not told of each key
const step = "  ";
const help = "While you type, Tab and Shift+Tab indent. To leave the editor with the keyboard, press Esc, then Tab.";

// policyEditor makes one with a label. describe says in words how a text that is JSON stands; edited is called when the
// text has changed.
export function policyEditor(label, { describe, edited }) {
  const says = element("div", { id: newId(), class: "says", role: "status" });
  const hint = element("p", { id: newId(), class: "hint" }, help);
  const numbers = element("div", { class: "numbers", "aria-hidden": "true" });
  const paper = element("pre", { class: "paper", "aria-hidden": "true" });
  const area = element("textarea", { id: newId(), class: "policy", spellcheck: "false", autocomplete: "off", autocapitalize: "off", wrap: "off",
    "aria-describedby": `${says.id} ${hint.id}`, input: typed });
  const frame = element("div", { class: "editor" }, numbers, element("div", { class: "sheet" }, paper, area));
  let timer = 0;
  indentWithTab(area);
  indentNewLines(area);

  function typed() {
    paint();
    clearTimeout(timer);
    timer = setTimeout(check, pause);
    edited();
  }

  function paint(at = -1) {
    paper.replaceChildren(...painted(area.value, at), "\n"); // the last line has its height even when it is empty
    const lines = area.value.split("\n").length;
    if (numbers.childElementCount === lines) return;
    numbers.replaceChildren(...Array.from({ length: lines }, (_, i) => element("span", {}, String(i + 1))));
  }

  // check says where the text is wrong as JSON, and returns that, or null.
  function check() {
    clearTimeout(timer);
    const wrong = jsonError(area.value);
    area.setAttribute("aria-invalid", String(Boolean(wrong)));
    paint(wrong?.at);
    says.replaceChildren(...(wrong ? [where(wrong)] : [element("p", { class: "hint" }, describe())]));
    return wrong;
  }

  const where = (wrong) => element("p", { class: "warning" }, element("strong", {}, `Line ${wrong.line}, column ${wrong.column}: `),
    `${shown(wrong.message)}. `, button("Go there", () => goTo(wrong), { class: "link" }));

  function goTo({ at }) {
    area.focus({ preventScroll: true });
    area.setSelectionRange(at, Math.min(at + 1, area.value.length));
    paper.querySelector(".json-wrong")?.scrollIntoView({ block: "center", inline: "nearest" });
  }

  return {
    element: element("div", { class: "field" }, element("label", { for: area.id }, label), frame, says, hint),
    value: () => area.value,
    set(text) {
      area.value = text;
      check();
      edited();
    },
    focus: () => area.focus(),
    // isJSON tells whether the text can be sent. If not, it goes to the place where it is wrong.
    isJSON() {
      const wrong = check();
      if (wrong) goTo(wrong);
      return !wrong;
    },
    // refuse shows why the service did not take the text.
    refuse(e) {
      area.setAttribute("aria-invalid", "true");
      says.replaceChildren(problem(e, { role: "alert" }));
      area.focus();
    },
  };
}

// indentWithTab has Tab indent while somebody types. It moves the focus for those who only come past, and after Esc.
function indentWithTab(area) {
  let indents = false;
  area.addEventListener("blur", () => (indents = false));
  area.addEventListener("pointerdown", () => (indents = true));
  area.addEventListener("keydown", (event) => {
    if (event.isComposing || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Escape") indents = false;
    else if (event.key === "Tab" && indents) {
      event.preventDefault();
      indent(area, event.shiftKey);
    } else if (event.key !== "Tab" && event.key !== "Shift") indents = true;
  });
}

// indentNewLines begins each line that is typed where it belongs.
function indentNewLines(area) {
  area.addEventListener("beforeinput", (event) => {
    if (event.inputType !== "insertLineBreak") return;
    event.preventDefault();
    breakLine(area);
  });
}

// indent moves the selected lines, or what is behind the cursor.
function indent(area, back) {
  const { selectionStart: from, selectionEnd: to, value } = area;
  if (!back && from === to) return insert(area, step);
  const begin = value.lastIndexOf("\n", from - 1) + 1;
  const old = value.slice(begin, to);
  const lines = back ? old.replace(/^( {1,2}|\t)/gm, "") : old.replace(/^(?=.)/gm, step);
  if (lines === old) return;
  area.setSelectionRange(begin, to);
  insert(area, lines);
  if (from === to) area.setSelectionRange(Math.max(begin, to - (old.length - lines.length)), Math.max(begin, to - (old.length - lines.length)));
  else area.setSelectionRange(begin, begin + lines.length);
}

// breakLine begins a line that is indented like this one, and more behind a bracket that opens.
function breakLine(area) {
  const before = area.value.slice(0, area.selectionStart);
  const line = before.slice(before.lastIndexOf("\n") + 1);
  insert(area, `\n${/^\s*/.exec(line)[0]}${/[[{]\s*$/.test(line) ? step : ""}`);
}

// insert puts a text in the place of the selection, so that the browser can undo it.
function insert(area, text) {
  const done = text === "" ? document.execCommand("delete") : document.execCommand("insertText", false, text);
  if (done) return;
  area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
  area.dispatchEvent(new Event("input"));
}
