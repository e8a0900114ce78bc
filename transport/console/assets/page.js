// The script of every page.

import { startNavigation } from "./navigate.js";
import { startSamples } from "./samples.js";
import { startSearch } from "./search.js";
import { startSignIn } from "./signin.js";
import { startTry } from "./try.js";

// start makes what the page that is shown has. Only the console's pages need its scripts.
async function start() {
  startTry();
  startSamples();
  if (document.getElementById("console")) (await import("./console/console.js")).startConsole();
}

startSignIn();
startSearch(new URL("../../", import.meta.url), async () => (await fetch(new URL("search.json", import.meta.url))).json()); // this file is below assets
startNavigation(start);
start();
