// What differs between two texts, line by line.

import { element } from "../elements.js";
import { shown } from "./parts.js";

const most = 1_000_000; // comparisons; texts that need more are shown as removed and added
const around = 3; // equal lines that are shown beside others

// lineDiff lists the lines of both texts, each as [kind, line], where kind is "same", "removed" or "added".
export function lineDiff(before, after) {
  const [a, b] = [before.split("\n"), after.split("\n")];
  const same = (line) => ["same", line];
  let begin = 0;
  while (begin < Math.min(a.length, b.length) && a[begin] === b[begin]) begin++;
  let end = 0;
  while (end < Math.min(a.length, b.length) - begin && a.at(-1 - end) === b.at(-1 - end)) end++;
  const middle = changes(a.slice(begin, a.length - end), b.slice(begin, b.length - end));
  return [...a.slice(0, begin).map(same), ...middle, ...a.slice(a.length - end).map(same)];
}

// changes finds a longest common subsequence of lines.
function changes(a, b) {
  const all = [];
  let [i, j] = [0, 0];
  if (a.length * b.length <= most) {
    const width = b.length + 1;
    const common = new Uint32Array((a.length + 1) * width); // of the rests from i and j on
    for (let x = a.length - 1; x >= 0; x--) {
      for (let y = b.length - 1; y >= 0; y--) {
        const [down, right] = [common[(x + 1) * width + y], common[x * width + y + 1]];
        common[x * width + y] = a[x] === b[y] ? common[(x + 1) * width + y + 1] + 1 : Math.max(down, right);
      }
    }
    while (i < a.length && j < b.length) {
      if (a[i] === b[j]) {
        all.push(["same", a[i++]]);
        j++;
      } else if (common[(i + 1) * width + j] >= common[i * width + j + 1]) all.push(["removed", a[i++]]);
      else all.push(["added", b[j++]]);
    }
  }
  return [...all, ...a.slice(i).map((line) => ["removed", line]), ...b.slice(j).map((line) => ["added", line])];
}

// diffOf shows what differs, with a few of the equal lines around it.
export function diffOf(before, after) {
  const lines = lineDiff(before, after);
  const near = lines.map((_, i) => lines.slice(Math.max(0, i - around), i + around + 1).some(([kind]) => kind !== "same"));
  const parts = [];
  let hidden = 0;
  const gap = () => {
    if (hidden > 0) parts.push(element("span", { class: "gap" }, hidden === 1 ? "… 1 equal line" : `… ${hidden} equal lines`));
    hidden = 0;
  };
  lines.forEach(([kind, line], i) => {
    if (!near[i]) return hidden++;
    gap();
    if (kind === "same") parts.push(element("span", {}, `  ${shown(line)}`));
    else if (kind === "removed") parts.push(element("del", {}, `- ${shown(line)}`));
    else parts.push(element("ins", {}, `+ ${shown(line)}`));
  });
  gap();
  return element("pre", { class: "diff", tabindex: "0", role: "region", "aria-label": "What changes" }, element("code", {}, ...parts));
}
