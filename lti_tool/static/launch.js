// Reading document.cookie says nothing about HttpOnly cookies, and lies in some browsers: ask the server.
const main = document.querySelector("main");

function show(id) {
  for (const part of ["checking", "blocked", "offline"]) document.getElementById(part).hidden = part !== id;
  document.querySelector(`#${id} h1`).setAttribute("tabindex", "-1");
  document.querySelector(`#${id} h1`).focus();
}

try {
  const answer = await fetch(main.dataset.cookie, { credentials: "include", cache: "no-store" });
  const { held } = await answer.json();
  if (held) location.replace(main.dataset.authorize);
  else show("blocked");
} catch {
  show("offline");
}
