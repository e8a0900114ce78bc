// The script of every page.

import { startNavigation } from "./navigate.js";
import { startSearch } from "./search.js";
import { startSignIn } from "./signin.js";
import { startTry } from "./try.js";

startSignIn();
startSearch();
startNavigation(startTry);
startTry();
