"""Scripts that a browser runs to check that a page can be read and used by everyone."""

CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const paperOf = (element) => {
    for (; element; element = element.parentElement) {
      const colour = rgb(getComputedStyle(element).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const parts = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.textContent.trim());
    const text = parts.join("");
    if (!text || !element.checkVisibility() || ["SCRIPT", "OPTION", "title"].includes(element.tagName)) continue;
    const style = getComputedStyle(element), ink = element.closest("svg") ? style.fill : style.color;
    const [a, b] = [luminance(rgb(ink)), luminance(paperOf(element))];
    found.push([text.slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
  }
  return found;
}"""
"""[text, ratio of contrast as WCAG 2.1 defines it] of each element with visible text."""

UNLABELLED = """() => {
  const labelOf = (element) => element.getAttribute("aria-label") || element.textContent.trim()
    || [...(element.labels || [])].map((label) => label.textContent.trim()).join("") || element.querySelector("title");
  const all = [...document.querySelectorAll("button, select, input, canvas, [role=img], a, meter")];
  return all.filter((element) => !labelOf(element)).map((element) => element.outerHTML.slice(0, 100));
}"""
"""The controls and pictures without a name for screen readers."""

COLOURS_IN_CANVAS = """(id) => {
  const canvas = document.getElementById(id);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size;
}"""
"""Number of different pixels in a canvas."""

SCENE_PIXELS = """(() => {
  const { renderer, scene, camera } = sfmReport.view;
  renderer.render(scene, camera); // the pixels are gone after the frame
  return document.getElementById("scene").toDataURL();
})()"""
"""What the 3D view of a report shows, as the address of a picture."""

NO_WEBGL = """HTMLCanvasElement.prototype.getContext = ((get) => function (kind, ...more) {
  return kind.startsWith("webgl") ? null : get.call(this, kind, ...more);
})(HTMLCanvasElement.prototype.getContext);"""
"""Makes a browser one without WebGL."""

SLOW_PHOTO = """(name) => {
  const { set } = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, "src");
  Object.defineProperty(HTMLImageElement.prototype, "src", { set(url) {
    setTimeout(() => set.call(this, url), url.endsWith(name) ? 500 : 0);
  } });
}"""
"""Lets the photo of a name load half a second late."""
