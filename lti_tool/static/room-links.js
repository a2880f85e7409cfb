// WebRTC: one connection to every other person, found through the line.
//
// Each connection has three fixed places: microphone, camera, screen. What is sent in a place changes
// without a new negotiation. Of two people, who sat down later makes the offer; after that perfect
// negotiation settles offers that cross, which happens when both mend a broken connection.

const PLACES = ["microphone", "camera", "screen"];
const BITRATES = { camera: 600_000, screen: 1_500_000 };
const MENDS = 5;
// A browser that finds no way at all does not always say so.
const PATIENCE = 20_000;

export class Links {
  ice = [];
  #links = new Map();
  #tracks = { microphone: null, camera: null, screen: null };
  #on;

  // `on`: signal(peer, message), media(peer), trouble(peer, state) with state linking, failed or "".
  constructor(on) {
    this.#on = on;
  }

  meet(peer, seat, offering) {
    const known = this.#links.get(peer);
    if (known?.seat === seat) return;
    this.part(peer);
    const link = this.#open(peer, seat, offering);
    if (offering) {
      for (const place of PLACES) link.pc.addTransceiver(place === "microphone" ? "audio" : "video", { direction: "sendrecv" });
      this.#fill(link);
    }
  }

  part(peer) {
    const link = this.#links.get(peer);
    if (!link) return;
    clearTimeout(link.waiting);
    link.pc.close();
    this.#links.delete(peer);
  }

  partAll() {
    for (const peer of [...this.#links.keys()]) this.part(peer);
  }

  // What everyone gets from us from now on; null: nothing.
  send(tracks) {
    Object.assign(this.#tracks, tracks);
    for (const link of this.#links.values()) this.#fill(link);
  }

  media(peer, place) {
    return this.#links.get(peer)?.media[place] ?? null;
  }

  // Is this person's voice heard now?
  speaks(peer) {
    const receiver = this.#links.get(peer)?.pc.getReceivers().find((one) => one.track.kind === "audio");
    return (receiver?.getSynchronizationSources?.()[0]?.audioLevel ?? 0) > 0.03;
  }

  async stats(peer) {
    return this.#links.get(peer)?.pc.getStats();
  }

  async hear(peer, { description, candidate }) {
    let link = this.#links.get(peer);
    if (!link && description?.type === "offer") link = this.#open(peer, 0, false);
    if (!link) return;
    const { pc } = link;
    try {
      if (description) {
        const crossed = description.type === "offer" && (link.making || pc.signalingState !== "stable");
        link.ignoring = crossed && link.offering;
        if (link.ignoring) return;
        await pc.setRemoteDescription(description);
        if (description.type === "offer") {
          for (const transceiver of pc.getTransceivers()) transceiver.direction = "sendrecv";
          this.#fill(link);
          await pc.setLocalDescription();
          this.#on.signal(peer, { description: pc.localDescription });
        }
      } else if (candidate) {
        await pc.addIceCandidate(candidate);
      }
    } catch (error) {
      // Candidates of an offer that we ignored do not fit; a closed connection takes nothing.
      if (!link.ignoring && pc.signalingState !== "closed") throw error;
    }
  }

  #open(peer, seat, offering) {
    const pc = new RTCPeerConnection({ iceServers: this.ice, bundlePolicy: "max-bundle" });
    const link = { pc, seat, offering, making: false, ignoring: false, mends: 0, media: {} };
    this.#links.set(peer, link);
    link.waiting = setTimeout(() => this.#fail(peer, link), PATIENCE);
    pc.onnegotiationneeded = async () => {
      try {
        link.making = true;
        await pc.setLocalDescription();
        this.#on.signal(peer, { description: pc.localDescription });
      } finally {
        link.making = false;
      }
    };
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) this.#on.signal(peer, { candidate: candidate.toJSON() });
    };
    pc.ontrack = ({ track, transceiver }) => {
      const place = PLACES[pc.getTransceivers().indexOf(transceiver)];
      link.media[place] = new MediaStream([track]);
      this.#on.media(peer);
    };
    pc.onconnectionstatechange = () => this.#watch(peer, link);
    return link;
  }

  #watch(peer, link) {
    const state = link.pc.connectionState;
    if (state === "connected") {
      clearTimeout(link.waiting);
      link.mends = 0;
      this.#on.trouble(peer, "");
    } else if (state === "failed") {
      this.#fail(peer, link);
    } else if (state !== "closed" && !link.mends) {
      this.#on.trouble(peer, "linking");
    }
  }

  // Said at once, and tried again: a laptop may have changed networks.
  #fail(peer, link) {
    clearTimeout(link.waiting);
    this.#on.trouble(peer, "failed");
    if (link.mends++ < MENDS) link.pc.restartIce();
  }

  #fill(link) {
    link.pc.getTransceivers().forEach((transceiver, index) => {
      const place = PLACES[index];
      const { sender } = transceiver;
      if (sender.track === this.#tracks[place]) return;
      sender
        .replaceTrack(this.#tracks[place])
        .then(() => limit(sender, BITRATES[place]))
        // The connection was closed meanwhile.
        .catch(() => {});
    });
  }
}

async function limit(sender, bitrate) {
  const parameters = sender.getParameters();
  if (!bitrate || !parameters.encodings?.length) return;
  parameters.encodings[0].maxBitrate = bitrate;
  await sender.setParameters(parameters);
}
