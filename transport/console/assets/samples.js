// The examples of a page: in colours, and with a button that copies the one that is shown.

import { copyButton } from "./elements.js";
import { painted } from "./json.js";

export function startSamples() {
  for (const code of document.querySelectorAll(".in-json code, #Syntax + pre code")) code.replaceChildren(...painted(code.textContent));
  for (const tabs of document.querySelectorAll(".tabs")) {
    const shown = () => [...tabs.querySelectorAll("pre")].find((pre) => pre.checkVisibility());
    tabs.append(copyButton("example", () => shown().textContent));
  }
}
