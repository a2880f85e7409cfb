// The practice LMS keeps values for tools (1EdTech LTI Client Side postMessages 0.1, OIDC by postMessage 0.1),
// in the page around the tool ("_parent") or in a frame beside it, as strictly as Canvas: each tool's origin has
// a store of its own, of 500 keys and 4,096 characters in all.
"use strict";

const MOST_KEYS = 500;
const MOST_CHARACTERS = 4096;

const stores = new Map();
const target = document.body.dataset.storage;
const subjects = ["lti.put_data", "lti.get_data"];

const able = () => [
  { subject: "lti.capabilities" },
  ...subjects.map((subject) => (target === "_parent" ? { subject } : { subject, frame: target })),
];

function keep(store, key, value) {
  store.delete(key);
  if (value === null || value === undefined) return null;
  if (typeof value !== "string") return ["bad_request", "value must be a string"];
  const characters = [...store].reduce((sum, [name, held]) => sum + name.length + held.length, 0);
  if (store.size >= MOST_KEYS) return ["storage_exhaustion", "too many keys"];
  if (characters + key.length + value.length > MOST_CHARACTERS) return ["storage_exhaustion", "too many characters"];
  store.set(key, value);
  return null;
}

function answer({ data: { subject, message_id, key, value }, origin }) {
  const said = { subject: `${subject}.response`, message_id };
  if (subject === "lti.capabilities") return { ...said, supported_messages: able() };
  if (typeof key !== "string" || key === "") return { ...said, error: { code: "bad_request", message: "no key" } };
  const store = stores.get(origin) ?? new Map();
  stores.set(origin, store);
  if (subject === "lti.get_data") return { ...said, key, value: store.get(key) ?? null };
  const wrong = keep(store, key, value);
  return wrong ? { ...said, key, error: { code: wrong[0], message: wrong[1] } } : { ...said, key, value };
}

window.addEventListener("message", (event) => {
  const { subject, message_id } = event.data ?? {};
  const ours = subject === "lti.capabilities" || (target === "_parent" && subjects.includes(subject));
  if (event.source && ours && typeof message_id === "string") event.source.postMessage(answer(event), event.origin);
});
