// The live room: from the check to leaving it. The server decides who is what; this page asks and shows.

import { Check } from "./room-check.js";
import { Devices } from "./room-devices.js";
import { Line } from "./room-line.js";
import { Links } from "./room-links.js";
import { fill, setControl, View } from "./room-view.js";

const $ = (id) => document.getElementById(id);
const main = $("main");
const words = JSON.parse(main.dataset.words);

const devices = new Devices();
const check = new Check(devices, words);
const view = new View(words);
const people = new Map();
const troubles = new Map();
const players = new Map();
const own = { camera: null, screen: null };

let me = null;
let wish = { microphone: false, camera: false, screen: false, hand: false };
let line = null;
let began = 0;
let cameras = 0;
let ending = false;

const links = new Links({
  signal: (peer, message) => line.send({ kind: "signal", to: peer, ...message }),
  media: (peer) => {
    listenTo(peer);
    render();
  },
  trouble: (peer, state) => {
    if (state === "failed" && troubles.get(peer) !== state) view.announce(fill(words.unreachable, people.get(peer) ?? { name: "" }));
    troubles.set(peer, state);
    render();
  },
});

// For whoever looks into a room from outside, such as a test or a person with the console open.
window.doorlistRoom = { people, links };

const ready = check.start();
$("enter").addEventListener("click", async () => {
  // Whoever presses before the camera is there still wants to come with it.
  $("enter").setAttribute("aria-busy", "true");
  await ready;
  $("enter").removeAttribute("aria-busy");
  if (!$("enter").hidden && !$("check").hidden) enter({ microphone: !check.muted, camera: !check.cameraOff });
});
$("enter-without").addEventListener("click", () => {
  devices.stopAll();
  enter({ microphone: false, camera: false });
});

function enter(wanted) {
  check.stop();
  $("check").hidden = true;
  $("inside").hidden = false;
  view.markTabs();
  view.notice(words.connecting, { stays: true });
  wish = { ...wish, microphone: wanted.microphone && !!devices.microphone, camera: wanted.camera && !!devices.camera };
  devices.mute(!wish.microphone);
  line = new Line(main.dataset.socket, { message: hear, lost: () => view.notice(words.lost, { stays: true }), shut: () => location.reload() });
  line.open();
  view.show("people");
  render();
  setInterval(() => began && view.tick((Date.now() - began) / 1000), 500);
  setInterval(watchVoices, 300);
  $("controls").querySelector("button").focus();
}

const hearing = {
  welcome({ you, people: inside, history, started, now, ice, cameras: places }) {
    const again = me !== null;
    me = you.peer;
    cameras = places;
    began = Date.now() - (new Date(now) - new Date(started));
    links.ice = ice;
    links.partAll();
    troubles.clear();
    people.clear();
    for (const person of inside) people.set(person.peer, person);
    for (const message of history) view.write(message, { old: true });
    for (const person of inside) meet(person);
    view.notice(again ? words.back : "");
    show();
  },
  joined({ person }) {
    if (person.peer === me) return;
    const known = people.get(person.peer);
    people.set(person.peer, person);
    meet(person);
    if (!known) {
      view.announce(fill(words.joined, person));
      view.notice(fill(words.joined, person));
    }
  },
  left({ peer }) {
    if (peer === me || !people.has(peer)) return;
    view.announce(fill(words.left, people.get(peer)));
    view.notice(fill(words.left, people.get(peer)));
    part(peer);
  },
  // Everybody who is there, in case a word was lost.
  people({ people: inside }) {
    const there = new Set(inside.map((person) => person.peer));
    for (const peer of [...people.keys()]) if (!there.has(peer)) part(peer);
    for (const person of inside) {
      people.set(person.peer, person);
      meet(person);
    }
    apply();
  },
  shown({ person }) {
    const before = people.get(person.peer);
    if (!before) return;
    people.set(person.peer, person);
    if (person.peer === me) apply();
    else if (person.hand && !before.hand) view.announce(fill(words.hand, person));
  },
  signal: ({ from, ...message }) => links.hear(from, message),
  said({ message }) {
    const mine = people.get(me)?.id === message.id;
    view.write(message, { own: mine });
  },
  refused({ why }) {
    const said = {
      cameras: fill(words.cameras_full, { number: cameras }),
      screen: words.screen_refused,
      words: words.words_refused,
      too_many: words.too_many,
    }[why];
    if (said) view.notice(said);
    apply();
  },
  moved: () => finish("moved"),
  ended: () => finish("ended"),
  removed: ({ reason }) => finish(reason),
  closed() {
    line.close();
    location.reload();
  },
};

function hear(message) {
  if (ending) return;
  hearing[message.kind]?.(message);
  if (message.kind !== "signal" && !ending) render();
}

function meet(person) {
  if (person.peer !== me) links.meet(person.peer, person.seat, people.get(me).seat > person.seat);
}

function part(peer) {
  people.delete(peer);
  troubles.delete(peer);
  links.part(peer);
  players.get(peer)?.pause();
  players.delete(peer);
}

// Sound plays outside the page: it must not stop when a tile is rearranged.
function listenTo(peer) {
  const stream = links.media(peer, "microphone");
  if (!stream || players.get(peer)?.srcObject === stream) return;
  const player = players.get(peer) ?? new Audio();
  players.set(peer, player);
  player.srcObject = stream;
  devices.useSpeaker(player);
  player.play().catch(() => {});
}

// Say what we wish to send; what is granted comes back as `shown`.
function show() {
  line.send({ kind: "show", ...wish });
}

// Send to the others what the server granted, no more.
function apply() {
  const granted = people.get(me);
  if (!granted) return;
  if (wish.camera && !granted.camera) devices.stop("camera");
  if (wish.screen && !granted.screen) devices.stop("screen");
  wish = { microphone: granted.microphone, camera: granted.camera, screen: granted.screen, hand: !!granted.hand };
  devices.mute(!granted.microphone);
  links.send({
    microphone: devices.microphone,
    camera: granted.camera ? devices.camera : null,
    screen: granted.screen ? devices.screen : null,
  });
}

function stream(peer, place) {
  if (peer !== me) return links.media(peer, place);
  const track = devices[place];
  if (own[place]?.getTracks()[0] !== track) own[place] = track ? new MediaStream([track]) : null;
  return own[place];
}

function render() {
  // Who is muted is not heard, whatever their browser sends; pictures are treated the same in the view.
  for (const [peer, player] of players) player.muted = !people.get(peer)?.microphone;
  view.render({ people: [...people.values()], mine: me, stream, trouble: (peer) => troubles.get(peer) ?? "linking" });
  const ctl = (name) => document.querySelector(`#controls [data-do=${name}]`);
  setControl(ctl("microphone"), { on: wish.microphone, icon: wish.microphone ? "mic" : "mic-off", label: wish.microphone ? words.mute : words.unmute });
  setControl(ctl("camera"), { on: wish.camera, icon: wish.camera ? "video" : "video-off", label: words.camera_name, says: wish.camera ? words.camera_off : words.camera_on });
  if (ctl("screen")) setControl(ctl("screen"), { on: true, icon: "screen", label: wish.screen ? words.stop_sharing : words.share, pressed: wish.screen });
  setControl(ctl("hand"), { on: true, icon: "hand", label: ctl("hand").textContent.trim(), pressed: wish.hand });
}

function watchVoices() {
  for (const { peer, microphone } of people.values()) {
    view.speaking(peer, microphone && (peer === me ? devices.level() > 0.3 : links.speaks(peer)));
  }
}

function finish(why) {
  if (ending) return;
  ending = true;
  line?.close();
  links.partAll();
  for (const player of players.values()) player.pause();
  devices.stopAll();
  view.over(why);
}

// A device is asked for only when it is switched on; without one, say why nothing happens.
async function have(kind) {
  if (devices[kind]) return true;
  const trouble = await devices.start(kind);
  if (trouble) view.notice(words[trouble], { stays: false });
  return !trouble;
}

const doing = {
  async microphone() {
    if (!wish.microphone && !(await have("microphone"))) return;
    wish.microphone = !wish.microphone;
    devices.mute(!wish.microphone);
    show();
  },
  async camera() {
    if (wish.camera) devices.stop("camera");
    else if (!(await have("camera"))) return;
    wish.camera = !wish.camera;
    show();
  },
  async screen() {
    if (wish.screen) devices.stop("screen");
    else if (!(await devices.shareScreen())) return;
    wish.screen = !wish.screen;
    show();
  },
  hand() {
    wish.hand = !wish.hand;
    show();
  },
  people: (event) => openSide("people", event),
  chat: (event) => openSide("chat", event),
  "close-side": closeSide,
  end: () => $("end").showModal(),
  stay: () => $("end").close(),
  leave() {
    line.send({ kind: "leave" });
    finish("left");
  },
};

devices.onScreenStopped = () => {
  if (wish.screen) doing.screen().then(render);
};

// A phone that is turned hides or shows the panel beside the picture.
addEventListener("resize", () => view.markTabs());

let opener = null;

function openSide(tab, event) {
  const sheet = getComputedStyle($("side")).position === "fixed" || getComputedStyle($("side")).display === "none";
  if (sheet && $("inside").classList.contains("show-side") && !$(`side-${tab}`).hidden) return closeSide();
  opener = event?.target.closest("button") ?? null;
  view.show(tab, { sheet, focus: true });
}

function closeSide() {
  $("inside").classList.remove("show-side");
  view.markTabs();
  opener?.focus();
}

$("inside").addEventListener("click", async (event) => {
  const action = event.target.closest("[data-do]")?.dataset.do;
  const tab = event.target.closest("[data-tab]")?.dataset.tab;
  if (tab) {
    event.preventDefault();
    view.show(tab);
  }
  if (!doing[action]) return;
  await doing[action](event);
  if (!ending) render();
});

document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
  if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
  const other = $("side-chat").hidden ? "chat" : "people";
  view.show(other);
  $(`tab-${other}`).focus();
});

document.addEventListener("keydown", async (event) => {
  if ($("inside").hidden || ending) return;
  if (event.key === "Escape" && $("inside").classList.contains("show-side")) closeSide();
  const typing = event.target.closest("input, textarea, select, [contenteditable], dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const action = { m: "microphone", v: "camera" }[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  await doing[action]();
  render();
});

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const said = $("words").value.trim();
  if (!said) return;
  line.send({ kind: "say", words: said });
  $("words").value = "";
});

// Ended by us: the answer is the course's page, and the socket says the rest.
$("end")?.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const answer = await fetch(form.action, { method: "POST", body: new FormData(form), redirect: "manual" });
  if (answer.type === "opaqueredirect" || answer.ok) finish("ended");
  else form.submit();
});

// Shown again from the browser's memory, nothing here runs any more.
window.addEventListener("pageshow", (event) => event.persisted && location.reload());
window.addEventListener("pagehide", () => line?.send({ kind: "leave" }));
