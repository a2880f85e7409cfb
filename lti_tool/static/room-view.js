// What the room looks like: tiles, people, chat, notices. Holds no truth of its own; it is told.

const $ = (id) => document.getElementById(id);
const MOST_TILES = 12;

export function fill(sentence, values) {
  return sentence.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

// A round control. `says` is the whole deed where the label is only a word.
export function setControl(button, { on, icon, label, says = "", pressed = false }) {
  const use = button.querySelector("use");
  use.setAttribute("href", use.getAttribute("href").replace(/#.*/, `#${icon}`));
  button.querySelector(".ctl-name").textContent = label;
  button.classList.toggle("is-off", !on);
  if (says) button.setAttribute("aria-label", says);
  button.setAttribute("aria-pressed", String(pressed));
}

function part(name) {
  return $(`${name}-part`).content.firstElementChild.cloneNode(true);
}

function initials(name) {
  const words = name.split(/\s+/).filter((word) => /^[\p{L}\p{N}]/u.test(word));
  if (!words.length) return "?";
  const first = [...words[0]][0].toUpperCase();
  return words.length === 1 || first.codePointAt(0) > 0x2e80 ? first : first + [...words.at(-1)][0].toUpperCase();
}

function dress(element, person) {
  const avatar = element.querySelector(".avatar");
  avatar.textContent = initials(person.name);
  avatar.dataset.hue = (person.id % 6) + 1;
}

function play(video, stream) {
  if (video.srcObject === stream) return;
  video.srcObject = stream;
  if (stream) video.play().catch(() => {});
}

export class View {
  #words;
  #tiles = new Map();
  #unread = 0;
  #written = new Set();
  #clock = new Intl.DateTimeFormat(document.documentElement.lang, { timeStyle: "short" });

  constructor(words) {
    this.#words = words;
  }

  // `people`: everyone inside, oldest first; `mine`: our own peer; `stream(peer, place)`: what they send;
  // `trouble(peer)`: linking, failed or "".
  render({ people, mine, stream, trouble }) {
    this.#renderStage(people, mine, stream, trouble);
    this.#renderLists(people, mine);
  }

  #renderStage(people, mine, stream, trouble) {
    const hands = handOrder(people);
    const sharer = people.find((person) => person.screen && stream(person.peer, "screen"));
    const shown = [...people].sort((a, b) => b.camera - a.camera || b.moderates - a.moderates || a.seat - b.seat);
    const kept = new Set();
    const room = MOST_TILES - (sharer ? 4 : 0);
    const crowded = shown.length > room;
    if (sharer) {
      const tile = this.#tile("screen", "screen", kept);
      tile.dataset.peer = sharer.peer;
      play(tile.querySelector("video"), stream(sharer.peer, "screen"));
      tile.querySelector("bdi").textContent =
        sharer.peer === mine ? this.#words.you_share : fill(this.#words.shares, { name: sharer.name });
      tile.style.order = -1;
    }
    shown.slice(0, crowded ? room - 1 : room).forEach((person, index) => {
      const tile = this.#tile(`peer ${person.peer}`, "seat", kept);
      tile.dataset.peer = person.peer;
      tile.style.order = index;
      dress(tile, person);
      const own = person.peer === mine;
      const name = tile.querySelector(".tagline bdi");
      name.textContent = own ? fill(this.#words.you, { name: person.name }) : person.name;
      const picture = person.camera ? stream(person.peer, "camera") : null;
      const video = tile.querySelector("video");
      video.hidden = !picture;
      video.classList.toggle("is-mirror", own);
      play(video, picture);
      tile.querySelector(".is-muted").hidden = person.microphone;
      tile.querySelector(".up").hidden = !person.hand;
      tile.querySelector(".up-number").textContent = hands.indexOf(person) + 1 || "";
      this.#renderTrouble(tile, person, own ? "" : trouble(person.peer));
    });
    if (crowded) {
      const tile = this.#tile("more", "more", kept);
      tile.style.order = room;
      tile.firstElementChild.textContent = `+${shown.length - room + 1}`;
    }
    for (const [key, tile] of this.#tiles) {
      if (kept.has(key)) continue;
      tile.remove();
      this.#tiles.delete(key);
    }
    const places = kept.size + (sharer ? 3 : 0);
    $("stage").dataset.places = places;
    $("stage").dataset.columns = places <= 1 ? 1 : places <= 4 && !sharer ? 2 : places <= 9 ? 3 : 4;
  }

  #tile(key, name, kept) {
    kept.add(key);
    let tile = this.#tiles.get(key);
    if (!tile) {
      tile = part(name);
      this.#tiles.set(key, tile);
      $("stage").append(tile);
    }
    return tile;
  }

  #renderTrouble(tile, person, trouble) {
    const note = tile.querySelector(".seat-note");
    note.hidden = !trouble;
    tile.dataset.link = trouble || "connected";
    if (!trouble) return;
    const failed = trouble === "failed";
    note.querySelector("strong").textContent = failed ? fill(this.#words.unreachable, person) : this.#words.linking;
    note.querySelector("span").textContent = failed ? this.#words.unreachable_how : "";
  }

  #renderLists(people, mine) {
    const hands = handOrder(people);
    for (const id of ["count", "tab-count", "people-count"]) $(id).textContent = people.length;
    $("hands").hidden = !hands.length;
    $("hands-count").textContent = hands.length;
    const dot = $("dot-hands");
    dot.hidden = !hands.length;
    dot.textContent = hands.length;
    $("hands-list").replaceChildren(...hands.map((person) => this.#line(person, mine)));
    const order = [...people].sort((a, b) => b.moderates - a.moderates || a.name.localeCompare(b.name));
    $("people-list").replaceChildren(...order.map((person) => this.#line(person, mine)));
  }

  #line(person, mine) {
    const line = part("person");
    dress(line, person);
    line.dataset.peer = person.peer;
    line.querySelector("bdi").textContent = person.peer === mine ? fill(this.#words.you, person) : person.name;
    line.querySelector(".tag").hidden = !person.moderates;
    line.querySelector(".is-hand").hidden = !person.hand;
    line.querySelector(".is-muted").hidden = person.microphone;
    line.querySelector(".is-open").hidden = !person.microphone;
    return line;
  }

  speaking(peer, speaks) {
    this.#tiles.get(`peer ${peer}`)?.classList.toggle("is-speaking", speaks);
  }

  // A line of the chat; `old` ones came before us and are not counted as new.
  write(message, { old = false, own = false } = {}) {
    if (this.#written.has(message.number)) return;
    this.#written.add(message.number);
    const line = part("message");
    line.querySelector("bdi").textContent = message.name;
    const time = line.querySelector("time");
    time.dateTime = message.at;
    time.textContent = this.#clock.format(new Date(message.at));
    line.querySelector("p").append(...linked(message.words));
    const chat = $("chat");
    chat.append(line);
    $("chat-empty").hidden = true;
    $("side-chat").scrollTop = $("side-chat").scrollHeight;
    if (!old && !own && !this.chatIsSeen()) this.#count(this.#unread + 1);
  }

  chatIsSeen() {
    return !$("side-chat").hidden && getComputedStyle($("side")).display !== "none";
  }

  // Which of the two tabs of the side panel; on a phone the panel is a sheet that opens.
  show(tab, { sheet = false, focus = false } = {}) {
    for (const name of ["people", "chat"]) {
      const chosen = name === tab;
      $(`side-${name}`).hidden = !chosen;
      const link = $(`tab-${name}`);
      link.setAttribute("aria-selected", String(chosen));
      link.tabIndex = chosen ? 0 : -1;
    }
    $("say").hidden = tab !== "chat";
    if (sheet) $("inside").classList.add("show-side");
    if (tab === "chat") {
      this.#count(0);
      $("side-chat").scrollTop = $("side-chat").scrollHeight;
    }
    if (focus) (tab === "chat" ? $("words") : $("tab-people")).focus();
    this.markTabs();
  }

  markTabs() {
    const seen = getComputedStyle($("side")).display !== "none";
    for (const name of ["people", "chat"]) {
      document.querySelector(`#controls [data-do=${name}]`).setAttribute("aria-pressed", String(seen && !$(`side-${name}`).hidden));
    }
    if (this.chatIsSeen()) this.#count(0);
  }

  #count(number) {
    this.#unread = number;
    $("tab-new").textContent = number ? fill(this.#words.new_messages, { number }) : "";
    const dot = $("dot-new");
    dot.hidden = !number;
    dot.textContent = number;
  }

  announce(sentence) {
    const line = document.createElement("p");
    line.textContent = sentence;
    $("announce").append(line);
    while ($("announce").children.length > 3) $("announce").firstElementChild.remove();
  }

  // A word at the top; it goes by itself unless it `stays`.
  notice(sentence, { stays = false } = {}) {
    const notice = $("notice");
    notice.textContent = sentence;
    notice.hidden = !sentence;
    clearTimeout(this.#fading);
    if (sentence && !stays) this.#fading = setTimeout(() => (notice.hidden = true), 5000);
  }

  #fading = 0;

  tick(seconds) {
    const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
    if (!parts[0]) parts.shift();
    $("timer").textContent = parts.map((number, index) => (index ? String(number).padStart(2, "0") : number)).join(":");
  }

  over(why) {
    for (const id of ["check", "inside"]) $(id).hidden = true;
    $("over-title").textContent = this.#words[`${why}_title`];
    $("over-text").textContent = this.#words[`${why}_text`];
    $("again").hidden = ["ended", "not_enrolled", "signed_out"].includes(why);
    $("over").hidden = false;
    $("over").dataset.why = why;
    $("over-title").focus();
  }
}

function handOrder(people) {
  return people.filter((person) => person.hand).sort((a, b) => a.hand.localeCompare(b.hand));
}

// Addresses become links; everything else stays text.
function linked(words) {
  return words.split(/(https?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]’”])/u).map((piece, index) => {
    if (index % 2 === 0) return document.createTextNode(piece);
    const link = document.createElement("a");
    link.href = piece;
    link.textContent = piece.replace(/^https?:\/\//, "");
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    return link;
  });
}
