// LTI platform storage, the tool's side (1EdTech LTI Client Side postMessages 0.1, OIDC by postMessage 0.1):
// values that the LMS's page keeps for us where our cookies do not come back.

const TRY_AGAIN = 400;
const PATIENCE = 2400;
const PATIENCE_BEFORE_ASKING = 600;

// crypto.randomUUID is missing where the LMS's own page came over http.
const newId = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

// The window that holds the LMS's page: around this frame, or the one that opened this window.
const host = () => (window.parent !== window ? window.parent : window.opener);

// The LMS's window that keeps values; a frame that is not there cannot even be looked for in silence.
function findFrame(target) {
  if (!target || target === "_parent") return host();
  for (const around of [host(), window.top]) {
    try {
      if (around?.frames[target]) return around.frames[target];
    } catch {
      // no frame of that name in a page of another site
    }
  }
  return null;
}

// One message and its answer, which counts only from that window, that origin and to that message. Sent again
// now and then, since the frame may still be loading; the answer to the first copy is as good.
function ask(frame, origin, message) {
  const message_id = newId();
  return new Promise((resolve, reject) => {
    const send = () => frame.postMessage({ ...message, message_id }, origin);
    const done = (settle, value) => {
      window.removeEventListener("message", hear);
      clearInterval(again);
      clearTimeout(end);
      settle(value);
    };
    const hear = (event) => {
      const said = event.data;
      if (event.source !== frame || (origin !== "*" && event.origin !== origin)) return;
      if (said?.subject !== `${message.subject}.response` || said.message_id !== message_id) return;
      if (said.error) done(reject, new Error(said.error.code));
      else done(resolve, said);
    };
    window.addEventListener("message", hear);
    const again = setInterval(send, TRY_AGAIN);
    const end = setTimeout(() => done(reject, new Error("no answer")), PATIENCE);
    send();
  });
}

// What the LMS calls its storage and in which frame it keeps it: Blackboard and Sakai name the frame here,
// Brightspace puts org.imsglobal before the subjects. Nothing secret is asked, so any origin may answer.
async function findCapability(subject) {
  const names = ["lti.capabilities", "org.imsglobal.lti.capabilities"];
  const said = await Promise.any(names.map((name) => ask(host(), "*", { subject: name })));
  const known = [subject, `org.imsglobal.${subject}`];
  const able = said.supported_messages?.find((one) => known.includes(one?.subject));
  if (!able) throw new Error("no storage");
  return able;
}

// Where a value was kept or found, and under which subjects.
let place = null;

// The frame that the login named, as it was named; where that says nothing for a moment, whatever the LMS's page
// says of itself. Not both at once: Canvas counts what is kept twice as twice.
async function exchange({ target, origin }, message) {
  if (!host()) throw new Error("no page around this one");
  const frame = findFrame(target);
  let answered = false;
  const named = async () => {
    if (!frame) throw new Error("no such frame");
    const said = await ask(frame, origin, message);
    answered = true;
    place = { frame, origin, subject: message.subject };
    return said;
  };
  const found = async () => {
    if (frame) await new Promise((resolve) => setTimeout(resolve, PATIENCE_BEFORE_ASKING));
    if (answered) throw new Error("answered");
    const able = await findCapability(message.subject);
    const other = findFrame(able.frame);
    if (!other || (other === frame && able.subject === message.subject)) throw new Error("no other frame");
    const said = await ask(other, origin, { ...message, subject: able.subject });
    place = { frame: other, origin, subject: able.subject };
    return said;
  };
  return Promise.any([named(), found()]);
}

export const put = (storage, key, value) => exchange(storage, { subject: "lti.put_data", key, value });

export const get = async (storage, key) => (await exchange(storage, { subject: "lti.get_data", key })).value;

// Nobody waits for this: LMSs keep little, some of them for good.
export function forget(key) {
  if (!place) return;
  const subject = place.subject.replace("get_data", "put_data");
  place.frame.postMessage({ subject, message_id: newId(), key, value: null }, place.origin);
}
