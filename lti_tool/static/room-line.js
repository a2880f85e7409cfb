// The WebSocket to the server: reconnects by itself, a little later after each try.

const PATIENCE = [500, 1000, 2000, 4000, 8000];

export class Line {
  #socket = null;
  #tries = 0;
  #over = false;
  #url;
  #on;

  // `on`: message(message), lost(), shut() when the page has to be asked anew.
  constructor(path, on) {
    const url = new URL(path, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    // The same for as long as this page lives: the server tells a renewed connection from a new window.
    url.searchParams.set("page", Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join(""));
    this.#url = url;
    this.#on = on;
    window.addEventListener("online", () => this.#hurry());
  }

  open() {
    if (this.#over) return;
    const socket = new WebSocket(this.#url);
    let opened = false;
    this.#socket = socket;
    socket.addEventListener("open", () => (opened = true));
    socket.addEventListener("message", (event) => {
      const message = JSON.parse(event.data);
      if (message.kind === "welcome") this.#tries = 0;
      this.#on.message(message);
    });
    socket.addEventListener("close", () => {
      if (this.#over || socket !== this.#socket) return;
      this.#on.lost();
      this.#again(opened);
    });
  }

  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  // No more: the person left, or the server said why it is over.
  close() {
    this.#over = true;
    this.#socket?.close();
  }

  async #again(opened) {
    const wait = PATIENCE[Math.min(this.#tries, PATIENCE.length - 1)];
    this.#tries += 1;
    await new Promise((resolve) => {
      this.#hurry = resolve;
      setTimeout(resolve, wait * (0.75 + Math.random() / 2));
    });
    if (this.#over) return;
    if (!opened) {
      // A socket never says why it was refused; the page's own address does.
      const answer = await fetch(location.href, { redirect: "manual" }).catch(() => null);
      if (answer && answer.status < 500 && !answer.ok) {
        this.close();
        this.#on.shut();
        return;
      }
    }
    this.open();
  }

  #hurry = () => {};
}
