// Inside the LMS's frame while Doorlist is connected: tell whoever waits on Doorlist's own page that this page
// was seen, and close the frame at the end.
const main = document.querySelector("main");

if (main.dataset.seen) {
  const body = new URLSearchParams({ seen: main.dataset.said });
  fetch(main.dataset.seen, { method: "POST", body }).catch(() => {});
}

if ("connected" in main.dataset) {
  const lms = window.opener || window.parent;
  // Both Moodle and Canvas listen for it; it says nothing that others may not hear.
  const close = () => lms.postMessage({ subject: "org.imsglobal.lti.close" }, "*");
  if (lms !== window) {
    const button = document.querySelector("[data-close-frame]");
    button.hidden = false;
    button.addEventListener("click", close);
    if (main.dataset.closes) {
      const said = document.querySelector("[data-closing]");
      said.hidden = false;
      const closing = setTimeout(close, Number(main.dataset.closes) * 1000);
      // Whoever reads on or reaches for something is not interrupted.
      const stay = () => {
        clearTimeout(closing);
        said.hidden = true;
      };
      for (const sign of ["keydown", "pointerdown", "wheel", "touchstart"]) {
        addEventListener(sign, stay, { once: true, passive: true });
      }
    }
  }
}
