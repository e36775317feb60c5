// The model in 3D. Colours go through the shaders as they are, so that they look as in the photos.

const POINT_VERTEX = `
  attribute vec3 rgb; uniform float size; uniform float reach; varying vec3 shade;
  void main() {
    shade = rgb;
    vec4 place = modelViewMatrix * vec4(position, 1.0);
    gl_Position = projectionMatrix * place;
    gl_PointSize = clamp(size * reach / -place.z, 0.6 * size, 4.0 * size);
  }`;
const POINT_FRAGMENT = `
  varying vec3 shade;
  void main() {
    if (length(gl_PointCoord - 0.5) > 0.5) discard;
    gl_FragColor = vec4(shade, 1.0);
  }`;
const LINE_VERTEX = `
  attribute vec3 rgb; varying vec3 shade;
  void main() { shade = rgb; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }`;
const LINE_FRAGMENT = "varying vec3 shade; void main() { gl_FragColor = vec4(shade, 1.0); }";
const FACE_VERTEX = `
  varying vec2 place;
  void main() { place = uv; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }`;
const FACE_FRAGMENT = `
  uniform sampler2D atlas; varying vec2 place;
  void main() { gl_FragColor = vec4(texture2D(atlas, place).rgb, 0.92); }`;

const CLICK_PX = 9;
const CHOSEN = [255, 47, 208];
const CHOSEN_SCALE = 1.35;

class SceneView {
  constructor(canvas, model, callbacks) {
    this.canvas = canvas; this.model = model; this.callbacks = callbacks;
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true });
    this.renderer.setClearColor(0, 0);
    this.scene = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(model.view.fov, 1.5, model.radius * 1e-3, model.radius * 1e3);
    this.camera.up.fromArray(model.view.up);
    this.cameraScale = 1; this.chosen = null; this.frames = 0; this.pending = false;
    this.camera.position.fromArray(model.view.eye);
    this.controls = new THREE.OrbitControls(this.camera, canvas);
    this.resetPose(); // the controls looked at the origin
    this.controls.zoomToCursor = true;
    this.controls.addEventListener("change", () => this.draw());
    this.addPoints();
    this.addCameras();
    this.marks = new THREE.LineSegments(new THREE.BufferGeometry(), this.lineMaterial({ depthTest: false, transparent: true }));
    this.marks.renderOrder = 3;
    this.marks.frustumCulled = false;
    this.scene.add(this.marks);
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
    this.listen();
  }

  resetPose() {
    this.camera.position.fromArray(this.model.view.eye);
    this.camera.lookAt(...this.model.view.target);
    this.controls.target.fromArray(this.model.view.target);
    this.controls.update();
    this.draw();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio || 1, 2));
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    // The first view was chosen for 3:2; a narrower canvas shows the same width.
    const half = Math.tan(this.model.view.fov * Math.PI / 360) * Math.max(1, 1.5 / this.camera.aspect);
    this.camera.fov = Math.atan(half) * 360 / Math.PI;
    this.camera.updateProjectionMatrix();
    this.draw();
  }

  draw() {
    if (this.pending || !this.scene) return;
    this.pending = true;
    requestAnimationFrame(() => { this.pending = false; this.frames++; this.renderer.render(this.scene, this.camera); });
  }

  addPoints() {
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(this.model.xyz, 3));
    geometry.setAttribute("rgb", new THREE.BufferAttribute(this.model.rgb.slice(), 3, true));
    const eye = new THREE.Vector3().fromArray(this.model.view.eye);
    const reach = eye.distanceTo(new THREE.Vector3().fromArray(this.model.view.target));
    this.points = new THREE.Points(geometry, new THREE.ShaderMaterial({
      vertexShader: POINT_VERTEX, fragmentShader: POINT_FRAGMENT,
      uniforms: { size: { value: 3 }, reach: { value: reach } },
    }));
    this.points.frustumCulled = false;
    this.scene.add(this.points);
  }

  lineMaterial(more) {
    return new THREE.ShaderMaterial({ vertexShader: LINE_VERTEX, fragmentShader: LINE_FRAGMENT, ...more });
  }

  addCameras() {
    const { cameras } = this.model, { columns, rows } = report.atlas;
    this.lines = new THREE.LineSegments(new THREE.BufferGeometry(), this.lineMaterial({}));
    this.faces = new THREE.Mesh(new THREE.BufferGeometry(), new THREE.ShaderMaterial({
      vertexShader: FACE_VERTEX, fragmentShader: FACE_FRAGMENT, side: THREE.DoubleSide, transparent: true,
      uniforms: { atlas: { value: null } },
    }));
    const uv = [], index = [];
    cameras.forEach(({ image }, row) => {
      const left = image % columns / columns, top = 1 - Math.floor(image / columns) / rows;
      uv.push(left, top, left + 1 / columns, top, left + 1 / columns, top - 1 / rows, left, top - 1 / rows);
      index.push(4 * row, 4 * row + 1, 4 * row + 2, 4 * row, 4 * row + 2, 4 * row + 3);
    });
    this.faces.geometry.setAttribute("uv", new THREE.BufferAttribute(new Float32Array(uv), 2));
    this.faces.geometry.setIndex(index);
    for (const object of [this.lines, this.faces]) { object.frustumCulled = false; this.scene.add(object); }
    const picture = new Image();
    picture.onload = () => {
      const texture = new THREE.Texture(picture);
      texture.generateMipmaps = true;
      texture.needsUpdate = true;
      this.faces.material.uniforms.atlas.value = texture;
      this.draw();
    };
    picture.src = report.atlas.url;
    this.placeCameras();
  }

  cornersOf(row) {
    const { center, corners } = this.model.cameras[row], scale = this.cameraScale * (row === this.chosen ? CHOSEN_SCALE : 1);
    return corners.map((corner) => corner.map((value, i) => center[i] + scale * (value - center[i])));
  }

  placeCameras() {
    const { cameras } = this.model, lines = [], colours = [], faces = [];
    cameras.forEach((camera, row) => {
      const corners = this.cornersOf(row), rgb = row === this.chosen ? CHOSEN : camera.color;
      const segments = [];
      for (let k = 0; k < 4; k++) segments.push(camera.center, corners[k], corners[k], corners[(k + 1) % 4]);
      // A roof over the upper edge tells which side is up.
      const [a, b, , d] = corners, mix = (p, q, t) => p.map((value, i) => value + t * (q[i] - value));
      const peak = mix(a, b, 0.5).map((value, i) => value + 0.25 * (a[i] - d[i]));
      segments.push(mix(a, b, 0.33), peak, peak, mix(a, b, 0.67));
      for (const vertex of segments) { lines.push(...vertex); colours.push(...rgb); }
      for (const corner of corners) faces.push(...corner);
    });
    this.lines.geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(lines), 3));
    this.lines.geometry.setAttribute("rgb", new THREE.BufferAttribute(new Uint8Array(colours), 3, true));
    this.faces.geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(faces), 3));
    this.lines.visible = this.cameraScale > 0;
    this.faces.visible = this.lines.visible && this.showsPhotos !== false && report.images.some((image) => image.photo);
    this.draw();
  }

  colourPoints(kind) {
    const { model } = this, rgb = this.points.geometry.getAttribute("rgb");
    for (let point = 0; point < model.num_points; point++) {
      let colour = null;
      const start = model.starts[point], stop = model.starts[point + 1];
      if (kind === "error") {
        let sum = 0;
        for (let i = start; i < stop; i++) sum += residualOf(model, i);
        colour = scaleColour(sum / Math.max(stop - start, 1) / model.scale_px);
      } else if (kind === "length") colour = scaleColour(1 - (stop - start - 2) / 8);
      for (let i = 0; i < 3; i++) rgb.array[3 * point + i] = colour ? colour[i] : model.rgb[3 * point + i];
    }
    rgb.needsUpdate = true;
    this.draw();
  }

  choose(row) { this.chosen = row; this.placeCameras(); }

  // Lines from a point to the cameras that see it, or from a camera to the points that it sees.
  mark(ends, rgb) {
    const geometry = this.marks.geometry;
    geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(ends.flat()), 3));
    geometry.setAttribute("rgb", new THREE.BufferAttribute(new Uint8Array(ends.flatMap(() => rgb)), 3, true));
    this.draw();
  }

  onScreen([x, y, z]) {
    const place = new THREE.Vector3(x, y, z).applyMatrix4(this.camera.matrixWorldInverse);
    const depth = -place.z;
    place.applyMatrix4(this.camera.projectionMatrix);
    return { x: (place.x + 1) / 2 * this.canvas.clientWidth, y: (1 - place.y) / 2 * this.canvas.clientHeight, depth };
  }

  cameraAt(x, y) {
    this.camera.updateMatrixWorld();
    let best = null;
    this.model.cameras.forEach((camera, row) => {
      const corners = this.cornersOf(row).map((corner) => this.onScreen(corner)), apex = this.onScreen(camera.center);
      const all = [apex, ...corners];
      if (all.some((corner) => corner.depth <= 0)) return;
      const sides = [corners, ...[0, 1, 2, 3].map((k) => [apex, corners[k], corners[(k + 1) % 4]])];
      const near = Math.hypot(apex.x - x, apex.y - y) < CLICK_PX;
      if ((near || sides.some((side) => isInside(side, x, y))) && (!best || apex.depth < best.depth)) best = { row, depth: apex.depth };
    });
    return best;
  }

  pointAt(x, y) {
    const { model } = this, matrix = new THREE.Matrix4().multiplyMatrices(this.camera.projectionMatrix, this.camera.matrixWorldInverse).elements;
    const width = this.canvas.clientWidth / 2, height = this.canvas.clientHeight / 2;
    let best = null;
    for (let point = 0, i = 0; point < model.num_points; point++, i += 3) {
      const a = model.xyz[i], b = model.xyz[i + 1], c = model.xyz[i + 2];
      const w = matrix[3] * a + matrix[7] * b + matrix[11] * c + matrix[15];
      if (w <= 0) continue;
      const px = ((matrix[0] * a + matrix[4] * b + matrix[8] * c + matrix[12]) / w + 1) * width - x;
      const py = (1 - (matrix[1] * a + matrix[5] * b + matrix[9] * c + matrix[13]) / w) * height - y;
      const distance = px * px + py * py;
      // Of points under the cursor, the nearest to the eye.
      if (distance < CLICK_PX * CLICK_PX && (!best || w * (1 + distance) < best.rank)) best = { point, depth: w, rank: w * (1 + distance) };
    }
    return best;
  }

  listen() {
    const { canvas } = this;
    let start = null;
    canvas.addEventListener("pointerdown", (event) => { start = [event.clientX, event.clientY]; });
    canvas.addEventListener("pointerup", (event) => {
      if (!start || Math.hypot(event.clientX - start[0], event.clientY - start[1]) > 4 || event.button !== 0) return;
      const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
      const camera = this.cameraScale > 0 ? this.cameraAt(x, y) : null, point = this.pointAt(x, y);
      if (camera && (!point || camera.depth <= point.depth || !this.points.visible)) this.callbacks.camera(this.model.cameras[camera.row].image);
      else if (point) this.callbacks.point(point.point);
      else this.callbacks.nothing();
    });
    canvas.addEventListener("keydown", (event) => {
      const turns = { ArrowLeft: [0.08, 0], ArrowRight: [-0.08, 0], ArrowUp: [0, -0.08], ArrowDown: [0, 0.08] };
      const zooms = { "+": 0.9, "=": 0.9, "-": 1 / 0.9 };
      if (turns[event.key]) this.turn(...turns[event.key]);
      else if (zooms[event.key]) this.zoom(zooms[event.key]);
      else if (event.key === "r" || event.key === "R") this.resetPose();
      else if (event.key === "n" || event.key === "N") this.callbacks.step(1);
      else if (event.key === "p" || event.key === "P") this.callbacks.step(-1);
      else if (event.key === "Escape") this.callbacks.nothing();
      else return;
      event.preventDefault();
    });
  }

  turn(sideways, upwards) {
    const { target } = this.controls, arm = this.camera.position.clone().sub(target), { up } = this.camera;
    const side = new THREE.Vector3().crossVectors(up, arm).normalize();
    const angle = arm.angleTo(up) + upwards;
    arm.applyAxisAngle(up, sideways);
    if (angle > 0.05 && angle < Math.PI - 0.05) arm.applyAxisAngle(side.applyAxisAngle(up, sideways), upwards);
    this.camera.position.copy(target).add(arm);
    this.controls.update();
    this.draw();
  }

  zoom(factor) {
    this.camera.position.sub(this.controls.target).multiplyScalar(factor).add(this.controls.target);
    this.controls.update();
    this.draw();
  }
}

function isInside(polygon, x, y) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const a = polygon[i], b = polygon[j];
    if ((a.y > y) !== (b.y > y) && x < (b.x - a.x) * (y - a.y) / (b.y - a.y) + a.x) inside = !inside;
  }
  return inside;
}
