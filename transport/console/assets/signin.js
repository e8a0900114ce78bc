// The dialog for signing in, and who is signed in at the head of the page.

import { visible } from "./elements.js";
import { mayLeave } from "./navigate.js";
import { forget } from "./recent.js";
import { onChange, signIn, signInByCertificate, signedIn, signOut } from "./session.js";

const by = (id) => document.getElementById(id);
const insecure = "This page came without TLS from another machine, and browsers don't let such pages sign requests. Open it over https://, or at " +
  "http://127.0.0.1 or http://localhost, for example through an SSH tunnel.";

// openSignIn shows the dialog.
export const openSignIn = () => by("sign-in").showModal();

export function startSignIn() {
  const dialog = by("sign-in");
  if (!dialog) return; // pages in files
  const form = by("sign-in-form");
  const error = by("sign-in-error");
  if (!window.isSecureContext) {
    by("insecure").textContent = insecure;
    by("insecure").hidden = false;
    for (const control of form.querySelectorAll("input, button[type=submit]")) control.disabled = true;
  }
  by("use-certificate").hidden = location.protocol !== "https:";
  document.addEventListener("click", (event) => event.target.closest?.("[data-sign-in]") && openSignIn());
  by("close-sign-in").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    by("secret").value = by("session-token").value = "";
    error.hidden = true;
  });
  by("access-key-id").addEventListener("paste", (event) => {
    if (fillIn(event.clipboardData.getData("text"))) event.preventDefault();
  });
  by("use-certificate").addEventListener("click", () => enter(() => signInByCertificate(by("region").value.trim())));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    enter(() => signIn({
      accessKeyId: by("access-key-id").value.trim(), secret: by("secret").value.trim(),
      sessionToken: by("session-token").value.trim(), region: by("region").value.trim(),
    }));
  });
  // enter tries to sign in, and says what is wrong, where it is.
  async function enter(attempt) {
    if (form.ariaBusy === "true") return;
    form.ariaBusy = "true";
    error.hidden = true;
    try {
      await attempt();
      dialog.close();
    } catch (e) {
      const { field, text } = mistakes.find((m) => m.code === e.name && e.message.startsWith(m.message ?? "")) ?? {};
      error.textContent = text ?? (e.name === "TypeError" ? `The server did not answer: ${e.message}` : e.message);
      error.hidden = false;
      if (field) by(field).select();
    }
    form.ariaBusy = "false";
  }
  by("sign-out").addEventListener("click", async () => {
    if (!await mayLeave()) return;
    signOut();
    forget();
  });
  onChange(show);
  show();
}

// mistakes are what STS answers to wrong credentials, with the field that is wrong. The same code has other messages: of
// regions and clocks.
const mistakes = [
  { code: "InvalidClientTokenId", field: "access-key-id", text: "This server knows no such access key, session token or client certificate." },
  { code: "SignatureDoesNotMatch", message: "The request signature we calculated", field: "secret",
    text: "The secret access key is not the one of this access key ID." },
];

// fillIn takes the fields from the lines of a credentials file, and tells whether the text was one.
function fillIn(text) {
  const values = new Map([...text.matchAll(/^\s*(?:export\s+)?(aws_\w+)\s*=\s*"?([^\s"]+)/gim)].map(([, name, v]) => [name.toLowerCase(), v]));
  const fields = { aws_access_key_id: "access-key-id", aws_secret_access_key: "secret", aws_session_token: "session-token",
    aws_default_region: "region", aws_region: "region" };
  if (!values.has("aws_access_key_id")) return false;
  for (const [name, field] of Object.entries(fields)) if (values.has(name)) by(field).value = values.get(name);
  by("secret").focus();
  return true;
}

function show() {
  const who = signedIn();
  by("who").textContent = who ? nameOf(who.arn) : "";
  by("who").title = who ? [who.arn, who.accessKeyId].filter(Boolean).join("\n") : "";
  by("open-sign-in").hidden = Boolean(who);
  by("sign-out").hidden = !who;
}

// nameOf is the end of an ARN: root, user/alice, assumed-role/operator/session.
const nameOf = (arn) => visible(arn.split(":").slice(5).join(":"));
