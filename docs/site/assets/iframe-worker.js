/* A page that was opened as a file may start no worker. There the search's runs in a frame of the page's own. */
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.onmessage = this.onerror = null;
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inner = this.frame.contentWindow;
      // As from a worker, messages are copies, and come when the one who sends them has ended.
      inner.postMessage = (message) => {
        const data = structuredClone(message);
        setTimeout(() => this.onmessage && this.onmessage({ data }));
      };
      const script = inner.document.createElement("script");
      script.src = new URL(url, location.href).href;
      script.onload = () => {
        this.ready = true;
        this.waiting.splice(0).forEach((data) => this.deliver(data));
      };
      script.onerror = (error) => this.onerror && this.onerror(error);
      inner.document.body.append(script);
    }
    deliver(data) {
      const inner = this.frame.contentWindow;
      setTimeout(() => inner && inner.dispatchEvent(new inner.MessageEvent("message", { data })));
    }
    postMessage(message) {
      const data = structuredClone(message);
      this.ready ? this.deliver(data) : this.waiting.push(data);
    }
    terminate() {
      this.frame.remove();
    }
  };
}
