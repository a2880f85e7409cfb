// Camera, microphone, speaker and screen of this browser.

const CAMERA = { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 20, max: 30 } };
const MICROPHONE = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const TROUBLES = {
  NotAllowedError: "blocked",
  SecurityError: "blocked",
  NotFoundError: "none",
  OverconstrainedError: "none",
  NotReadableError: "busy",
  AbortError: "busy",
};

export class Devices {
  microphone = null;
  camera = null;
  screen = null;
  speaker = "";
  // Which devices the person chose; empty: the browser's choice.
  chosen = { camera: "", microphone: "" };
  onScreenStopped = () => {};

  #sound = null;
  #meter = null;

  // Ask for both; if that fails, for each alone, so that a missing camera does not cost the microphone.
  // Returns "" or what stands in the way: blocked, none, busy, insecure.
  async open() {
    if (!navigator.mediaDevices) return "insecure";
    try {
      this.#keep(await navigator.mediaDevices.getUserMedia({ audio: this.#wish("microphone"), video: this.#wish("camera") }));
      return "";
    } catch (error) {
      if (TROUBLES[error.name] === "blocked") return "blocked";
      const troubles = [await this.#openOne("microphone"), await this.#openOne("camera")];
      return troubles.every(Boolean) ? troubles[0] : "";
    }
  }

  // Another device, or the same one after it was let go.
  async start(kind, id = this.chosen[kind]) {
    this.chosen[kind] = id;
    this.stop(kind);
    return this.#openOne(kind);
  }

  stop(kind) {
    this[kind]?.stop();
    this[kind] = null;
  }

  stopAll() {
    for (const kind of ["microphone", "camera", "screen"]) this.stop(kind);
    this.#meter = null;
    this.#sound?.close();
    this.#sound = null;
  }

  mute(muted) {
    if (this.microphone) this.microphone.enabled = !muted;
  }

  // The browser asks which window; false: the person thought better of it.
  async shareScreen() {
    try {
      const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 15 } } });
      this.screen = stream.getVideoTracks()[0];
      this.screen.contentHint = "detail";
      this.screen.addEventListener("ended", () => this.onScreenStopped());
      return true;
    } catch {
      return false;
    }
  }

  async list(kind) {
    const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    return all.filter((device) => device.kind === kind && device.deviceId);
  }

  // How loud the microphone is now, 0 to 1.
  level() {
    if (!this.microphone?.enabled) return 0;
    if (this.#meter?.track !== this.microphone) {
      this.#sound ??= new AudioContext();
      const analyser = this.#sound.createAnalyser();
      analyser.fftSize = 512;
      this.#sound.createMediaStreamSource(new MediaStream([this.microphone])).connect(analyser);
      this.#meter = { track: this.microphone, analyser, wave: new Float32Array(analyser.fftSize) };
    }
    if (this.#sound.state === "suspended") this.#sound.resume().catch(() => {});
    this.#meter.analyser.getFloatTimeDomainData(this.#meter.wave);
    const loudest = this.#meter.wave.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    return Math.min(1, Math.sqrt(loudest) * 1.2);
  }

  // Two soft tones out of the chosen speaker.
  async trySpeaker() {
    const sound = new AudioContext();
    const out = sound.createMediaStreamDestination();
    for (const [pitch, at] of [[523, 0], [659, 0.35]]) {
      const tone = sound.createOscillator();
      const volume = sound.createGain();
      tone.frequency.value = pitch;
      volume.gain.setValueAtTime(0, sound.currentTime + at);
      volume.gain.linearRampToValueAtTime(0.2, sound.currentTime + at + 0.05);
      volume.gain.linearRampToValueAtTime(0, sound.currentTime + at + 0.4);
      tone.connect(volume).connect(out);
      tone.start(sound.currentTime + at);
      tone.stop(sound.currentTime + at + 0.45);
    }
    const player = new Audio();
    player.srcObject = out.stream;
    await this.useSpeaker(player);
    await player.play().catch(() => {});
    setTimeout(() => sound.close(), 1200);
  }

  async useSpeaker(player) {
    if (this.speaker && player.setSinkId) await player.setSinkId(this.speaker).catch(() => {});
  }

  #wish(kind) {
    const id = this.chosen[kind];
    return { ...(kind === "camera" ? CAMERA : MICROPHONE), ...(id ? { deviceId: { exact: id } } : {}) };
  }

  async #openOne(kind) {
    if (!navigator.mediaDevices) return "insecure";
    const name = kind === "camera" ? "video" : "audio";
    try {
      this.#keep(await navigator.mediaDevices.getUserMedia({ [name]: this.#wish(kind) }));
      return "";
    } catch (error) {
      return TROUBLES[error.name] ?? "busy";
    }
  }

  #keep(stream) {
    for (const track of stream.getTracks()) {
      const kind = track.kind === "video" ? "camera" : "microphone";
      this.stop(kind);
      this[kind] = track;
    }
  }
}
