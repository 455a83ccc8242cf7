// Search without a server: browsers start no worker from a file, so its script runs in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      const inside = frame.contentWindow
      // what the script posts is the worker's message, and what is posted to the worker is the script's
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.deliver = data => inside.dispatchEvent(new inside.MessageEvent("message", { data }))
      const script = inside.document.createElement("script")
      script.src = url
      script.onload = () => {
        for (const data of this.waiting.splice(0)) this.deliver(data)
        this.ready = true
      }
      inside.document.body.appendChild(script)
    }
    postMessage(data) {
      if (this.ready) this.deliver(data)
      else this.waiting.push(data)
    }
    terminate() {}
  }
}
