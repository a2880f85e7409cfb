// The person's panel: takes the focus when it opens, gives it back to the row when it closes.

let row = "";

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "side") return;
  const close = document.querySelector("#side [data-panel-close]");
  row = close?.dataset.row ?? "";
  (document.querySelector("#side [aria-invalid]") ?? document.querySelector("#side h2"))?.focus();
});

function close(link) {
  history.pushState({}, "", link.href);
  document.querySelector("#side").replaceChildren();
  const path = link.dataset.row || row;
  document.querySelector(`.rowlink[href="${path}"], .rowlink[href^="${path}?"]`)?.focus();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("#side [data-panel-close]");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  close(link);
});

document.addEventListener("keydown", (event) => {
  const link = document.querySelector("#side [data-panel-close]");
  if (event.key === "Escape" && link && !document.querySelector("dialog[open]")) close(link);
});
