// Moving between pages without leaving the document, so that who has signed in stays so: the next page is fetched, and
// its main part takes the place of this one's.

let shown = location.href;
let pending = null; // the request for the page to come
let arrived = () => {};
let work = null; // what would be lost when the page is left: { unsaved, ask }

// protect has the reader asked before the page is left: unsaved tells whether something would be lost, and ask whether it
// may be. Browsers ask in their own words when it is the document that is left.
export function protect(unsaved, ask) {
  if (!work) addEventListener("beforeunload", stay);
  work = { unsaved, ask };
}

// mayLeave asks, if there is something to lose.
export const mayLeave = async () => !work?.unsaved() || work.ask();

function stay(event) {
  if (work.unsaved()) event.preventDefault();
}

function forgetWork() {
  removeEventListener("beforeunload", stay);
  work = null;
}

// startNavigation follows the links to pages. changed is called when the page has changed.
export function startNavigation(changed) {
  arrived = changed;
  history.scrollRestoration = "manual";
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const url = new URL(link.href);
    if (url.origin !== location.origin || !isPage(url.pathname) || url.pathname === location.pathname) return;
    event.preventDefault();
    visit(url);
  });
  addEventListener("popstate", (event) => {
    const left = shown;
    if (location.pathname === new URL(left).pathname) return; // a fragment of the page
    go(new URL(location.href), () => {}, event.state?.scroll, () => history.pushState({}, "", left));
  });
  mark();
}

// visit goes to a page.
export function visit(url) {
  history.replaceState({ scroll: scrollY }, "");
  go(url, () => history.pushState({}, "", url));
}

const isPage = (path) => /^\/(docs|console)(\/|$)/.test(path) && !path.startsWith("/docs/assets/");

async function go(url, record, scroll, refused = () => {}) {
  pending?.abort();
  if (!await mayLeave()) return refused();
  const request = (pending = new XMLHttpRequest()); // which parses HTML without running it, and without a text becoming HTML
  request.responseType = "document";
  request.open("GET", url.pathname);
  request.onerror = () => location.assign(url);
  request.onload = () => {
    const main = request.response?.getElementById("main");
    if (request.status !== 200 || !main) return location.assign(url);
    record();
    shown = location.href;
    if (work) forgetWork();
    document.title = request.response.title;
    document.getElementById("main").replaceWith(document.adoptNode(main));
    mark();
    arrived();
    const target = url.hash && document.getElementById(decodeURIComponent(url.hash.slice(1)));
    main.focus({ preventScroll: true });
    if (target) target.scrollIntoView();
    else scrollTo(0, scroll ?? 0);
  };
  request.send();
}

// mark tells in the lists of pages which one is shown, and in the areas above them which one it belongs to.
function mark() {
  for (const link of document.querySelectorAll("#page-list a")) current(link, link.pathname === location.pathname && "page");
  const areas = [...document.querySelectorAll(".areas a:not([href^='#'])")];
  const around = areas.filter((a) => `${location.pathname}/`.startsWith(`${a.pathname}/`)).sort(longest)[0];
  for (const link of areas) current(link, link === around && (link.pathname === location.pathname ? "page" : "true"));
}

const longest = (a, b) => b.pathname.length - a.pathname.length;

function current(link, value) {
  if (value) link.setAttribute("aria-current", value);
  else link.removeAttribute("aria-current");
}
