// The script of pages that are in files.

import { startSearch } from "./search.js";

startSearch();
