// Runs the search of pages that are opened from a disk, where browsers start no worker, in an empty frame of the page.
// The plugin `offline` loads such a script from a server, unless one of this name is there.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      this.inside = this.frame.contentWindow;
      this.inside.postMessage = data => setTimeout(() => this.onmessage?.({data}));
      const script = this.inside.document.createElement("script");
      script.src = new URL(url, document.baseURI);
      this.ready = new Promise((loaded, failed) => Object.assign(script, {onload: loaded, onerror: failed}));
      this.ready.catch(event => this.onerror?.(event));
      this.inside.document.head.append(script);
    }
    postMessage(data) {
      this.ready.then(() => this.inside.onmessage?.({data}));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
