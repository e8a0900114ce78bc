// The dialog for signing in, and who is signed in at the head of the page.

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
  by("open-sign-in").addEventListener("click", openSignIn);
  by("close-sign-in").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    by("secret").value = by("session-token").value = "";
    error.hidden = true;
  });
  by("use-certificate").addEventListener("click", () => {
    signInByCertificate(by("region").value.trim());
    dialog.close();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await signIn({
        accessKeyId: by("access-key-id").value.trim(), secret: by("secret").value.trim(),
        sessionToken: by("session-token").value.trim(), region: by("region").value.trim(),
      });
      dialog.close();
    } catch (e) {
      error.textContent = e.message;
      error.hidden = false;
    }
  });
  by("sign-out").addEventListener("click", () => {
    signOut();
    forget();
  });
  onChange(show);
  show();
}

function show() {
  const who = signedIn();
  by("who").textContent = who ? who.accessKeyId ?? "client certificate" : "";
  by("open-sign-in").hidden = Boolean(who);
  by("sign-out").hidden = !who;
}
