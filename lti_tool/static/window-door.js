// The one button of a frame without cookies: it works once, and not for ever. What to do then is said here,
// since the page cannot be asked for anew.
const form = document.querySelector("form[data-seconds]");

function say(id) {
  form.querySelector("button").disabled = true;
  document.getElementById("once").hidden = true;
  for (const part of ["opened", "stale"]) document.getElementById(part).hidden = part !== id;
}

const going = setTimeout(() => say("stale"), form.dataset.seconds * 1000);
form.addEventListener("submit", () => {
  clearTimeout(going);
  // A button that is disabled at once would not send its form.
  setTimeout(() => say("opened"), 0);
});
