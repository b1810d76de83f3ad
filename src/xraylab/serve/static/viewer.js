"use strict";

const START = { zoom: 1, x: 0.5, y: 0.5, brightness: 0, contrast: 0 };

/* Films on canvases that zoom, move and change their window together, each under the overlay of its own model. */
class Viewer {
  constructor(changed) {
    this.changed = changed;
    this.clear();
    Object.assign(this, START);
  }

  reset() {
    Object.assign(this, START);
    this.applyWindow();
    this.draw();
  }

  clear() {
    this.panes = [];
    this.levels = this.picture = null;
  }

  /* The film (an image) that all canvases show. */
  show(image) {
    this.picture = document.createElement("canvas");
    this.picture.width = image.width;
    this.picture.height = image.height;
    const context = this.picture.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    this.levels = context.getImageData(0, 0, image.width, image.height);
    this.applyWindow();
  }

  /* Window and level: gray levels from `level - width / 2` to `level + width / 2` fill the range from black to white. */
  applyWindow() {
    if (!this.levels) return;
    const level = 127.5 - 1.275 * this.brightness;
    const width = 255 * (this.contrast > 0 ? 1 - 0.0096 * this.contrast : 1 - 0.02 * this.contrast);
    const table = Uint8ClampedArray.from({ length: 256 }, (_, gray) => ((gray - level) / width + 0.5) * 255);
    const { data, width: wide, height } = this.levels, shown = new ImageData(wide, height);
    for (let i = 0; i < data.length; i += 4) {
      shown.data[i] = shown.data[i + 1] = shown.data[i + 2] = table[data[i]];
      shown.data[i + 3] = 255;
    }
    this.picture.getContext("2d").putImageData(shown, 0, 0);
  }

  /* A canvas for the film under `overlay` ({image, box} or null) of one model. */
  add(canvas) {
    const pane = { canvas, overlay: null };
    this.panes.push(pane);
    this.listen(canvas);
    return pane;
  }

  set(overlayShown, opacity) {
    this.overlayShown = overlayShown;
    this.opacity = opacity;
    this.draw();
  }

  zoomBy(factor, x = 0.5, y = 0.5) {
    const zoom = Math.min(16, Math.max(1, this.zoom * factor));
    /* the point under the pointer, x and y in canvases, stays where it is */
    this.x += (x - 0.5) * (1 / this.zoom - 1 / zoom);
    this.y += (y - 0.5) * (1 / this.zoom - 1 / zoom);
    this.zoom = zoom;
    this.draw();
  }

  moveBy(x, y) {
    this.x -= x / this.zoom;
    this.y -= y / this.zoom;
    this.draw();
  }

  draw() {
    const half = 0.5 / this.zoom;
    this.x = Math.min(1 - half, Math.max(half, this.x));
    this.y = Math.min(1 - half, Math.max(half, this.y));
    for (const pane of this.panes) this.drawPane(pane);
    this.changed(this);
  }

  drawPane({ canvas, overlay }) {
    const { picture } = this;
    const side = Math.max(1, Math.round(canvas.clientWidth * (window.devicePixelRatio || 1)));
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, side, side);
    if (!picture) return;
    const scale = (side * this.zoom) / Math.max(picture.width, picture.height);
    const width = picture.width * scale, height = picture.height * scale;
    const left = side / 2 - this.x * side * this.zoom + (side * this.zoom - width) / 2;
    const top = side / 2 - this.y * side * this.zoom + (side * this.zoom - height) / 2;
    context.imageSmoothingEnabled = scale < 4;
    context.drawImage(picture, left, top, width, height);
    if (!this.overlayShown || !overlay) return;
    context.save();
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    context.globalAlpha = this.opacity;
    context.imageSmoothingEnabled = true;
    const [x, y, w, h] = overlay.box;
    context.drawImage(overlay.image, left + x * width, top + y * height, w * width, h * height);
    context.restore();
  }

  listen(canvas) {
    const pointers = new Map();
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
    };
    const distance = () => {
      const [a, b] = [...pointers.values()];
      return Math.hypot(a.x - b.x, a.y - b.y);
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, at(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const now = at(event), apart = pointers.size === 2 ? distance() : 0;
      pointers.set(event.pointerId, now);
      if (pointers.size === 2) {
        const [a, b] = [...pointers.values()];
        this.zoomBy(distance() / (apart || 1), (a.x + b.x) / 2, (a.y + b.y) / 2);
      } else if (event.shiftKey) {
        this.window(this.brightness - (now.y - before.y) * 100, this.contrast + (now.x - before.x) * 100);
      } else {
        this.moveBy(now.x - before.x, now.y - before.y);
      }
    });
    const end = (event) => pointers.delete(event.pointerId);
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const { x, y } = at(event);
      this.zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, x, y);
    }, { passive: false });
  }

  window(brightness, contrast) {
    this.brightness = Math.max(-100, Math.min(100, brightness));
    this.contrast = Math.max(-100, Math.min(100, contrast));
    this.applyWindow();
    this.draw();
  }
}
