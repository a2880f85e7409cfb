// The check before going in: what the camera sees, what the microphone hears, which devices to use.

import { fill, setControl } from "./room-view.js";

const $ = (id) => document.getElementById(id);
const KINDS = { camera: "videoinput", microphone: "audioinput" };

export class Check {
  muted = false;
  cameraOff = false;
  #devices;
  #words;
  #ticking = 0;

  constructor(devices, words) {
    this.#devices = devices;
    this.#words = words;
    for (const kind of ["camera", "microphone"]) {
      $(`pick-${kind}`).addEventListener("change", async (event) => {
        await devices.start(kind, event.target.value);
        this.#show();
      });
    }
    $("pick-speaker").addEventListener("change", (event) => (devices.speaker = event.target.value));
    $("try-speaker").addEventListener("click", () => devices.trySpeaker());
    $("check").addEventListener("click", (event) => {
      const action = event.target.closest("[data-do]")?.dataset.do;
      if (action === "microphone") this.#toggleMicrophone();
      if (action === "camera") this.#toggleCamera();
    });
  }

  async start() {
    const trouble = await this.#devices.open();
    if (trouble) this.#explain(trouble);
    await this.#list();
    this.#show();
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#list());
    this.#ticking = setInterval(() => this.#listen(), 120);
  }

  stop() {
    clearInterval(this.#ticking);
    $("self").srcObject = null;
  }

  #toggleMicrophone() {
    this.muted = !this.muted;
    this.#devices.mute(this.muted);
    this.#show();
  }

  async #toggleCamera() {
    this.cameraOff = !this.cameraOff;
    if (this.cameraOff) this.#devices.stop("camera");
    else await this.#devices.start("camera");
    this.#show();
  }

  #show() {
    const { camera, microphone } = this.#devices;
    const self = $("self");
    self.hidden = !camera;
    if (camera && self.srcObject?.getVideoTracks()[0] !== camera) self.srcObject = new MediaStream([camera]);
    this.#devices.mute(this.muted);
    const [mic, cam] = $("check").querySelectorAll(".ctl");
    mic.disabled = !microphone;
    cam.disabled = !camera && !this.cameraOff;
    setControl(mic, { on: !this.muted, icon: this.muted ? "mic-off" : "mic", label: this.muted ? this.#words.unmute : this.#words.mute });
    setControl(cam, { on: !this.cameraOff, icon: this.cameraOff ? "video-off" : "video", label: this.#words.camera_name, says: this.cameraOff ? this.#words.camera_on : this.#words.camera_off });
    $("hearing").hidden = !microphone;
  }

  #listen() {
    const level = this.#devices.level();
    const bars = [...$("level").children];
    bars.forEach((bar, index) => bar.classList.toggle("on", index < Math.round(level * bars.length)));
    const words = this.muted ? this.#words.mic_muted : level > 0.2 ? this.#words.hear : "";
    const heard = $("heard");
    // Said once heard, it stays; a screen reader must not be told at every pause.
    if (words && heard.textContent !== words) heard.textContent = words;
    else if (!heard.textContent) heard.textContent = this.#words.no_sound;
  }

  async #list() {
    for (const [kind, browserKind] of Object.entries(KINDS)) {
      const found = await this.#devices.list(browserKind);
      const pick = $(`pick-${kind}`);
      if (!found.length || !this.#devices[kind]) continue;
      const now = this.#devices[kind].getSettings().deviceId;
      pick.replaceChildren(
        ...found.map((device, index) => new Option(device.label || fill(this.#words[kind], { number: index + 1 }), device.deviceId, false, device.deviceId === now)),
      );
      pick.disabled = false;
    }
    const speakers = await this.#devices.list("audiooutput");
    if (speakers.length && "setSinkId" in HTMLMediaElement.prototype) {
      $("pick-speaker").replaceChildren(...speakers.map((device, index) => new Option(device.label || fill(this.#words.speaker, { number: index + 1 }), device.deviceId)));
      $("speaker").hidden = false;
    }
  }

  #explain(trouble) {
    const note = $("note-part").content.cloneNode(true);
    note.querySelector("strong").textContent = this.#words[trouble];
    note.querySelector("p").textContent = this.#words[`${trouble}_how`];
    $("trouble").replaceChildren(note);
    // There is one way in then, and nothing to switch.
    $("enter").hidden = true;
    $("enter-without").classList.replace("btn-quiet", "btn-primary");
    $("check").querySelector(".controls").hidden = true;
  }
}
