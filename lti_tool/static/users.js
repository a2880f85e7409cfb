// Whom one ticks stays ticked while the list is searched and paged. Without this script the boxes of one page
// are posted as they are.
const chosen = new Set();
let everybody = false;
let asked = "";
let touched = null;

const bar = () => document.querySelector("#bulk");
const boxes = () => [...document.querySelectorAll('#list input[name="user"]')];

function show() {
  if (!bar()) return;
  const all = bar().querySelector("#all");
  everybody &&= Boolean(all);
  if (all) all.checked = everybody;
  for (const box of boxes()) {
    box.checked = everybody || chosen.has(box.value);
    box.closest("tr").setAttribute("aria-selected", box.checked);
  }
  const page = document.querySelector("#page-all");
  const ticked = boxes().filter((box) => box.checked).length;
  page.hidden = false;
  page.checked = ticked === boxes().length;
  page.indeterminate = ticked > 0 && !page.checked;
  bar().toggleAttribute("data-idle", !everybody && !chosen.size);
  bar().hidden = !everybody && !chosen.size;
  bar().querySelector("[data-clear]").hidden = false;
  const words = everybody ? bar().dataset.all : bar().dataset.some.replace("#", chosen.size);
  const said = bar().querySelector("[data-selected]");
  if (said.textContent !== words) said.textContent = words;
}

function tick(box, on) {
  if (on) chosen.add(box.value);
  else chosen.delete(box.value);
}

// What was all of one search is not all of another.
function wish() {
  const names = ["q", "role", "status", "course", "source"];
  return names.map((name) => bar()?.querySelector(`input[type="hidden"][name="${name}"]`)?.value ?? "").join("\n");
}

document.addEventListener("change", (event) => {
  const box = event.target;
  if (box.id === "all") {
    everybody = box.checked;
    asked = wish();
    chosen.clear();
  } else if (box.id === "page-all" || (box.name === "user" && box.closest("#list"))) {
    // Whoever unticks one of all keeps those who are in sight.
    if (everybody) for (const one of boxes()) tick(one, true);
    everybody = false;
    for (const one of box.id === "page-all" ? boxes() : range(box)) tick(one, box.checked);
  } else return;
  show();
});

// With Shift held, everybody from the box before to this one.
let shifted = false;
document.addEventListener("click", (event) => {
  if (event.target.name === "user") shifted = event.shiftKey;
}, true);
function range(box) {
  const all = boxes();
  const from = shifted ? all.findIndex((one) => one.value === touched) : -1;
  const to = all.indexOf(box);
  touched = box.value;
  return from < 0 ? [box] : all.slice(Math.min(from, to), Math.max(from, to) + 1);
}

document.addEventListener("click", (event) => {
  if (!event.target.closest("#bulk [data-clear]")) return;
  chosen.clear();
  everybody = false;
  show();
  document.querySelector("#page-all")?.focus();
});

document.addEventListener("submit", (event) => {
  if (event.target.id !== "bulk") return;
  for (const old of event.target.querySelectorAll("[data-elsewhere]")) old.remove();
  // Coming back here finds the same people ticked.
  history.replaceState({ ...history.state, chosen: [...chosen], everybody }, "");
  if (everybody) return;
  const here = new Set(boxes().map((box) => box.value));
  for (const value of chosen) {
    if (here.has(value)) continue;
    const input = Object.assign(document.createElement("input"), { type: "hidden", name: "user", value });
    input.dataset.elsewhere = "";
    event.target.append(input);
  }
  // A file is saved; the page stays, and so must its button.
  if (event.submitter?.hasAttribute("data-stays")) {
    setTimeout(() => event.submitter.removeAttribute("aria-busy"), 1500);
  }
});

document.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target.id !== "list") return;
  if (everybody && wish() !== asked) everybody = false;
  show();
});

// What was ticked when one left this page, or what the browser kept ticked.
for (const value of history.state?.chosen ?? []) chosen.add(value);
everybody = Boolean(history.state?.everybody);
asked = wish();
for (const box of boxes()) if (box.checked) chosen.add(box.value);
show();

// The person's panel: takes the focus when it opens, gives it back to the row when it closes.

let row = "";

function entered(event) {
  if (event.detail.target.id !== "side") return;
  const close = document.querySelector("#side [data-panel-close]");
  row = close?.dataset.row ?? "";
  (document.querySelector("#side [aria-invalid]") ?? document.querySelector("#side h2"))?.focus();
}
document.addEventListener("htmx:afterSwap", entered);
// Renewed beside a dialog that has done its work.
document.addEventListener("htmx:oobAfterSwap", entered);

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
