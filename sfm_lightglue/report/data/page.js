// What happens when a person chooses something.

const byId = (id) => document.getElementById(id);
const state = { image: null, point: null, pair: null, error: null };
let view = null;

const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
const px = (value) => (value === null ? "–" : `${value.toFixed(2)} px`);

function chooseImage(index, isScrolled = false) {
  state.image = index; state.point = null;
  showChosen();
  const image = report.images[index];
  byId("panel-title").textContent = image.name;
  byId("photo-text").textContent = describe(image);
  byId("details").replaceChildren();
  fillPartners(index);
  drawCurrent();
  if (view) {
    const row = model.cameraOf.get(index);
    view.choose(row === undefined ? null : row);
    view.mark([], [0, 0, 0]);
  }
  if (isScrolled) byId("model").scrollIntoView({ behavior: "smooth" });
}

function describe(image) {
  const parts = [image.status_text + (image.is_doubtful ? ", weakly supported" : "") + (image.reason ? `: ${image.reason}` : "")];
  if (image.num_keypoints !== null) parts.push(count(image.num_keypoints, "keypoint"));
  parts.push(count(image.num_points, "point"), count(image.num_pairs, "verified pair"));
  if (image.median_px !== null) parts.push(`residuals ${px(image.median_px)} (median), 90 % below ${px(image.high_px)}`);
  if (image.support !== null) parts.push(`${Math.round(100 * image.support)} % of its pairs agree`);
  return parts.join(" · ");
}

function drawCurrent() {
  if (state.image === null || !byId("photo")) return;
  byId("photo").dataset.image = state.image;
  drawPhoto(byId("photo"), state.image, { withLoose: byId("loose").checked, point: state.point });
}

function showChosen() {
  for (const row of document.querySelectorAll("#image-table tr[data-image]")) {
    row.classList.toggle("chosen", Number(row.dataset.image) === state.image);
  }
  for (const circle of document.querySelectorAll(".map circle")) {
    circle.classList.toggle("chosen", Number(circle.dataset.image) === state.image);
  }
  if (byId("image")) byId("image").value = state.image;
}

function choosePoint(point) {
  state.point = point;
  const length = model.starts[point + 1] - model.starts[point];
  const first = model.images[model.starts[point]];
  const images = [...model.images.subarray(model.starts[point], model.starts[point + 1])];
  if (!images.includes(state.image)) { chooseImage(first); state.point = point; }
  byId("panel-title").textContent = `Point seen in ${count(length, "image")}`;
  drawCurrent();
  drawTrack(byId("details"), point);
  const place = [...model.xyz.subarray(3 * point, 3 * point + 3)];
  view.mark(images.flatMap((image) => [place, model.cameras[model.cameraOf.get(image)].center]), CHOSEN);
}

function chooseNothing() {
  state.image = null; state.point = null;
  showChosen();
  byId("panel-title").textContent = "No image chosen";
  byId("photo-text").textContent = "";
  byId("details").replaceChildren();
  byId("photo").width = byId("photo").height = 10;
  view.choose(null);
  view.mark([], [0, 0, 0]);
}

function step(by) {
  const number = report.images.length;
  chooseImage(state.image === null ? (by > 0 ? 0 : number - 1) : (state.image + by + number) % number);
}

function fillPartners(index) {
  const partners = report.pairs.filter(([a, b]) => a === index || b === index)
    .map(([a, b, matches, inliers]) => ({ other: a === index ? b : a, matches, inliers }))
    .sort((one, two) => two.inliers - one.inliers || two.matches - one.matches);
  const options = partners.map(({ other, matches, inliers }) => new Option(`${report.images[other].name}: ${inliers} of ${matches}`, other));
  byId("partner").replaceChildren(new Option(partners.length ? "– second image –" : "– no pair –", ""), ...options);
}

async function choosePair(first, second) {
  const pair = byId("pair-view");
  if (!pair) return;
  const chosen = [first, second];
  state.pair = chosen;
  pair.hidden = false;
  byId("pair-title").textContent = `${report.images[first].name} – ${report.images[second].name}`;
  const found = report.pairs.find(([a, b]) => (a === first && b === second) || (a === second && b === first));
  const drawn = await drawPair(byId("pair"), first, second, () => state.pair === chosen);
  if (!drawn) return; // another pair was chosen meanwhile
  const { number, isDoubtful } = drawn;
  const numbers = found ? `${count(found[2], "match").replace("matchs", "matches")}, ${count(found[3], "inlier")}. ` : "Not matched. ";
  byId("pair-text").textContent = numbers + (isDoubtful
    ? "Lines are matches: green inliers, red the others."
    : `${count(number, "common point")} of the model (of those in this report); colours are residuals, blue 0 px to red ${model ? model.scale_px : 1} px.`);
  pair.scrollIntoView({ behavior: "smooth", block: "nearest" });
}

function listenToPairs() {
  const matrix = byId("matrix");
  if (!matrix) return;
  const svg = matrix.querySelector("svg"), number = report.images.length;
  const cellOf = (event) => {
    const box = svg.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top].map((value, i) => Math.floor(value / (i ? box.height : box.width) * number));
  };
  const isCell = ([a, b]) => a !== b && a >= 0 && b >= 0 && a < number && b < number;
  svg.addEventListener("pointermove", (event) => {
    const [a, b] = cellOf(event);
    if (!isCell([a, b])) return;
    const found = report.pairs.find(([c, d]) => (c === a && d === b) || (c === b && d === a));
    const numbers = found ? `${found[2]} matches, ${found[3]} inliers` : "not matched";
    byId("cell").textContent = `${report.images[a].name} – ${report.images[b].name}: ${numbers}`;
  });
  svg.addEventListener("click", (event) => { const cell = cellOf(event); if (isCell(cell)) choosePair(Math.min(...cell), Math.max(...cell)); });
  for (const button of document.querySelectorAll("button[data-pair]")) {
    button.addEventListener("click", () => choosePair(...button.dataset.pair.split(",").map(Number)));
  }
  for (const circle of document.querySelectorAll(".map circle")) {
    circle.addEventListener("click", () => chooseImage(Number(circle.dataset.image), true));
  }
}

function listenToTables() {
  for (const button of document.querySelectorAll("button.link[data-image]")) {
    button.addEventListener("click", () => { if (byId("model")) chooseImage(Number(button.dataset.image), true); });
  }
  for (const button of document.querySelectorAll("table.sortable thead button")) {
    button.addEventListener("click", () => sortBy(button));
  }
}

function sortBy(button) {
  const head = button.closest("th"), column = [...head.parentNode.children].indexOf(head), body = button.closest("table").tBodies[0];
  const isAscending = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentNode.children) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
  const valueOf = (row) => row.children[column].dataset.value ?? row.children[column].textContent;
  const compare = button.dataset.kind === "number" ? (a, b) => valueOf(a) - valueOf(b) : (a, b) => valueOf(a).localeCompare(valueOf(b));
  body.append(...[...body.rows].sort((a, b) => (isAscending ? compare(a, b) : compare(b, a))));
}

function listenToTheme() {
  const button = byId("theme"), order = ["auto", "light", "dark"];
  let current = "auto";
  const apply = (value) => {
    current = value;
    if (value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = value;
    button.textContent = `Colours: ${value}`;
    button.setAttribute("aria-label", `Colours: ${value === "auto" ? "as the system" : value}`);
    try { localStorage.setItem("sfm-lightglue-theme", value); } catch { /* a page of a file may have no storage */ }
  };
  button.addEventListener("click", () => apply(order[(order.indexOf(current) + 1) % order.length]));
  let kept = null;
  try { kept = localStorage.getItem("sfm-lightglue-theme"); } catch { /* likewise */ }
  if (order.includes(kept)) apply(kept);
}

function listenToModel() {
  if (!byId("scene")) return;
  byId("image").replaceChildren(new Option("– choose an image –", ""), ...report.images.map((image, row) => new Option(image.name, row)));
  byId("image").addEventListener("change", (event) => { if (event.target.value !== "") chooseImage(Number(event.target.value)); });
  byId("next").addEventListener("click", () => step(1));
  byId("previous").addEventListener("click", () => step(-1));
  byId("loose").addEventListener("change", drawCurrent);
  byId("partner").addEventListener("change", (event) => { if (event.target.value !== "") choosePair(state.image, Number(event.target.value)); });
  try {
    view = new SceneView(byId("scene"), model, { camera: chooseImage, point: choosePoint, nothing: chooseNothing, step });
  } catch (error) {
    state.error = String(error);
    byId("scene-message").textContent = "This browser cannot show the model in 3D: it has no WebGL 2. The rest of the report works.";
    byId("scene").hidden = true;
    return;
  }
  byId("reset").addEventListener("click", () => view.resetPose());
  byId("point-size").addEventListener("input", (event) => { view.points.material.uniforms.size.value = Number(event.target.value); view.draw(); });
  byId("camera-size").addEventListener("input", (event) => { view.cameraScale = Number(event.target.value); view.placeCameras(); });
  byId("thumbnails").addEventListener("change", (event) => { view.showsPhotos = event.target.checked; view.placeCameras(); });
  byId("colouring").addEventListener("change", (event) => colourBy(event.target.value));
}

function colourBy(kind) {
  view.colourPoints(kind);
  const [low, high] = kind === "error" ? ["0 px", `${model.scale_px} px`] : ["10 or more", "2"], bar = document.createElement("i");
  byId("legend").replaceChildren(...(kind === "photo" ? [] : [low, bar, high]));
}

listenToTheme();
listenToTables();
listenToPairs();
listenToModel();

// For tests, and for the curious in the browser's console.
window.sfmReport = {
  report, state, choosePair, chooseImage,
  get view() { return view; },
  cameraOnScreen: (index) => { view.camera.updateMatrixWorld(); return view.onScreen(model.cameras[model.cameraOf.get(index)].center); },
  pointOnScreen: (point) => { view.camera.updateMatrixWorld(); return view.onScreen([...model.xyz.subarray(3 * point, 3 * point + 3)]); },
};
