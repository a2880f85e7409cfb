// The practice LMS: forms that send themselves, and platform storage for tools in the frame.
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

// LTI platform storage (1EdTech LTI Client Side postMessages 0.1, OIDC state by postMessage 0.1).
// Each tool's origin has a store of its own.
if (document.body.dataset.storage) {
  const stores = new Map();
  const subjects = ["lti.capabilities", "lti.put_data", "lti.get_data"];

  const answer = (event) => {
    const { subject, message_id, key, value } = event.data;
    const said = { subject: `${subject}.response`, message_id };
    if (subject === "lti.capabilities") {
      return { ...said, supported_messages: subjects.map((name) => ({ subject: name })) };
    }
    if (typeof key !== "string" || key === "" || key.length > 4096) {
      return { ...said, error: { code: "bad_request", message: "key must be a short string" } };
    }
    const store = stores.get(event.origin) ?? new Map();
    stores.set(event.origin, store);
    if (subject === "lti.put_data") {
      if (value === null || value === undefined) {
        store.delete(key);
      } else if (typeof value !== "string" || value.length > 4096) {
        return { ...said, key, error: { code: "bad_request", message: "value must be a short string" } };
      } else {
        store.set(key, value);
      }
      return { ...said, key, value };
    }
    return { ...said, key, value: store.get(key) ?? null };
  };

  window.addEventListener("message", (event) => {
    const sent = event.data;
    if (event.source && sent && subjects.includes(sent.subject) && typeof sent.message_id === "string") {
      event.source.postMessage(answer(event), event.origin);
    }
  });
}
