// The script of every page.

import { startNavigation } from "./navigate.js";
import { startSearch } from "./search.js";
import { startSignIn } from "./signin.js";
import { startTry } from "./try.js";

// start makes what the page that is shown has. Only the console's pages need its scripts.
async function start() {
  startTry();
  if (document.getElementById("console")) (await import("./console/console.js")).startConsole();
}

startSignIn();
startSearch();
startNavigation(start);
start();
