// axe-core, which finds what keeps people from using a page; transport/console/accessibility_test.go runs it.
import axe from "axe-core";

globalThis.axe = axe;
