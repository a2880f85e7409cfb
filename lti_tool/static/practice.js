// The practice LMS: forms that send themselves, and the frame in sight when something is launched in it.
"use strict";

for (const form of document.querySelectorAll("form[data-autosubmit]")) {
  form.submit();
}

// A launch in the frame shows the frame, which a small screen keeps below the choices.
for (const form of document.querySelectorAll("form[target=tool]")) {
  form.addEventListener("submit", (event) => {
    const target = event.submitter?.getAttribute("formtarget") ?? form.target;
    if (target === "tool") {
      document.getElementById("frame").scrollIntoView();
    }
  });
}

// A tool that has registered itself asks to be closed, as Moodle and Canvas understand it.
const registering = document.querySelector("iframe[data-registering]");
window.addEventListener("message", (event) => {
  if (registering && event.source === registering.contentWindow && event.data?.subject === "org.imsglobal.lti.close") {
    location.assign("/install");
  }
});
