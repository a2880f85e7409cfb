// What every page needs: the reader's zone, closing toasts, copying, busy buttons, dialogs, polling that
// does not disturb, windows of our own.

// The server writes times; only the browser knows in which zone. Partitioned, or frames would not keep it.
const zone = `doorlist-zone=${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
if (!document.cookie.split("; ").includes(zone)) {
  document.cookie = `${zone}; Path=/; Max-Age=31536000; SameSite=None; Secure; Partitioned`;
}

document.addEventListener("click", (event) => {
  const close = event.target.closest("[data-close]");
  if (close) {
    const dialog = close.closest("dialog");
    if (dialog) dialog.close();
    else close.closest(".toast-line")?.remove();
    return;
  }
  const copy = event.target.closest("[data-copy]");
  if (copy) copyText(copy);
  if (event.target.closest("[data-print]")) window.print();
});

// Where the clipboard is not ours (a frame may be without it), the text is marked for copying by hand.
async function copyText(button) {
  const source = document.querySelector(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
  } catch {
    source.closest("details")?.setAttribute("open", "");
    getSelection().selectAllChildren(source);
    return;
  }
  const said = button.parentElement.querySelector("[role=status]");
  button.classList.add("is-copied");
  said.textContent = said.dataset.said;
  setTimeout(() => {
    button.classList.remove("is-copied");
    said.textContent = "";
  }, 2500);
}

// An open menu closes when one goes elsewhere or presses Escape.
document.addEventListener("click", (event) => closeMenus(event.target));
document.addEventListener("focusin", (event) => closeMenus(event.target));
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && event.target.closest("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});
function closeMenus(elsewhere) {
  for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = menu.contains(elsewhere);
}

// On a phone the tabs are wider than the page: the one that is open is in sight.
for (const tab of document.querySelectorAll(".tabs [aria-current]")) {
  tab.parentElement.scrollLeft += tab.getBoundingClientRect().left - tab.parentElement.getBoundingClientRect().left - 48;
}

// A form that came back: reading goes on at the first field that is wrong.
if (document.activeElement === document.body && !document.querySelector("[autofocus]")) {
  document.querySelector("input[aria-invalid], select[aria-invalid], textarea[aria-invalid]")?.focus();
}

// A second click on a slow button does nothing; the spinner shows that the first one counts.
document.addEventListener("submit", (event) => {
  // What opens or downloads something elsewhere leaves this page as it is.
  if (event.defaultPrevented || event.target.target === "_blank" || "download" in event.target.dataset) return;
  event.submitter?.setAttribute("aria-busy", "true");
});
window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll('button[aria-busy="true"]')) button.removeAttribute("aria-busy");
});

// A dialog that htmx put into the page opens as a real one; closing it leaves nothing behind, and gives the
// focus back to the button that opened it, however often its form was answered in between.
let opener = null;
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "dialog") return;
  const dialog = event.detail.target.querySelector("dialog");
  if (!dialog) {
    opener?.focus();
    return;
  }
  if (document.activeElement !== document.body) opener = document.activeElement;
  dialog.showModal();
  dialog.addEventListener("close", () => {
    dialog.remove();
    opener?.focus();
  });
});

// What asks again every few seconds is left alone when the answer says nothing new: focus, an open detail and
// a screen reader's place stay. Tokens differ each time and say nothing.
const SAYS_NOTHING = ["htmx-request", "htmx-settling", "htmx-swapping", "htmx-added"];
function plain(element) {
  const copy = element.cloneNode(true);
  for (const part of [copy, ...copy.querySelectorAll("*")]) {
    part.classList.remove(...SAYS_NOTHING);
    if (!part.classList.length) part.removeAttribute("class");
    if (part.matches("details")) part.removeAttribute("open");
    if (part.matches("[name=csrf_token]")) part.removeAttribute("value");
  }
  return copy;
}
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr, requestConfig, serverResponse } = event.detail;
  if (requestConfig.verb !== "get" || !target.matches("[hx-trigger^='every']") || xhr.status !== 200) return;
  const parts = new DOMParser().parseFromString(serverResponse, "text/html").body.children;
  if (parts.length === 1 && plain(parts[0]).isEqualNode(plain(target))) event.detail.shouldSwap = false;
});

// A swap must not drop the keyboard at the top of the page. htmx finds an element again by its id; where that
// is gone, or cannot be pressed now, reading goes on at what was swapped in, or around it if that goes too.
let lost = null;
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, shouldSwap } = event.detail;
  if (shouldSwap && target.contains(document.activeElement)) lost = { target, around: target.parentElement };
});
document.addEventListener("htmx:afterSettle", () => {
  if (!lost) return;
  const place = lost.target.isConnected ? lost.target : lost.around;
  lost = null;
  if (document.activeElement !== document.body) return;
  place.tabIndex = -1;
  place.focus({ preventScroll: true });
});

// From a frame: a browser keeps the frame's cookie apart from a window's, so the window is let in by a
// ticket. The window is opened in the click itself, or it counts as a popup.
document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-own-window]");
  if (!form) return;
  event.preventDefault();
  const name = form.target && form.target !== "_self" ? form.target : `doorlist-${Date.now()}`;
  const opened = window.open("", name);
  const answer = await fetch(form.action, {
    method: "POST",
    body: new FormData(form),
    headers: { Accept: "application/json" },
  });
  if (!answer.ok) {
    opened?.close();
    location.reload();
    return;
  }
  const { ticket, spend, next } = await answer.json();
  const carrier = document.createElement("form");
  carrier.method = "post";
  carrier.action = spend;
  carrier.target = name;
  for (const [key, value] of Object.entries({ ticket, next })) {
    const input = document.createElement("input");
    input.type = "hidden";
    input.name = key;
    input.value = value;
    carrier.append(input);
  }
  document.body.append(carrier);
  carrier.submit();
  carrier.remove();
});
