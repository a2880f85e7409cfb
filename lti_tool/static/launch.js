// Before the authorization request: what will tell us in the answer that it is this browser's? Our cookie, if
// it comes back from here, else a proof that the LMS's page keeps for us.
import { forget, put } from "./platform-storage.js";

const main = document.querySelector("main");
const { authorize, cookie, key, origin, proof, storage: target } = main.dataset;
const storage = { target, origin };

function show(id) {
  for (const part of main.querySelectorAll("[data-part]")) part.hidden = part.id !== id;
  const heading = document.querySelector(`#${id} h1`);
  heading.setAttribute("tabindex", "-1");
  heading.focus();
}

// Reading document.cookie says nothing about HttpOnly cookies, and lies in some browsers: ask the server.
async function askForCookie() {
  const answer = await fetch(cookie, { credentials: "include", cache: "no-store" });
  return (await answer.json()).held;
}

const stored = proof ? put(storage, key, proof).then(() => true, () => false) : Promise.resolve(false);
let held = false;
let reached = true;
try {
  held = await askForCookie();
} catch {
  reached = false;
}
if (held) forget(key);
if (held || (await stored)) location.replace(authorize);
else if (!reached) show("offline");
else show(window.parent === window ? "withheld" : "blocked");
