// A mail takes a moment: the button that sends another one counts down first. Without script it is there at once.
const button = document.querySelector("button[data-wait]");
const words = button.textContent;
const until = Date.now() + Number(button.dataset.wait) * 1000;

function tick() {
  const left = Math.ceil((until - Date.now()) / 1000);
  button.disabled = left > 0;
  if (left <= 0) {
    button.textContent = words;
    return;
  }
  const time = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  button.textContent = button.dataset.waiting.replace("TIME", time);
  setTimeout(tick, 250);
}
tick();

// Come back by the browser's own button, the time has gone on.
addEventListener("pageshow", (event) => event.persisted && tick());
