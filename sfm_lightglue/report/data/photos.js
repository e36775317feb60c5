// Photos with keypoints, tracks of points, and pairs, drawn on 2D canvases.

const loadedPhotos = new Map();
function loadPhoto(index) {
  const url = report.images[index].photo;
  if (!url) return Promise.resolve(null);
  if (!loadedPhotos.has(index)) {
    loadedPhotos.set(index, new Promise((resolve) => {
      const picture = new Image();
      picture.onload = () => resolve(picture);
      picture.onerror = () => resolve(null);
      picture.src = url;
    }));
  }
  return loadedPhotos.get(index);
}

// A canvas of the photo's aspect: the photo, or a grey area where there is none.
function paint(context, picture, left, top, width, height) {
  if (picture) { context.drawImage(picture, left, top, width, height); return; }
  context.fillStyle = "#7d8790";
  context.fillRect(left, top, width, height);
}

function dot(context, x, y, radius, colour) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
}

async function drawPhoto(canvas, index, { withLoose, point }) {
  const picture = await loadPhoto(index), width = 800, height = Math.round(width / report.aspects[index]);
  if (Number(canvas.dataset.image) !== index) return; // another image was chosen meanwhile
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d");
  paint(context, picture, 0, 0, width, height);
  if (!model) return;
  if (withLoose) {
    context.strokeStyle = "rgba(255,255,255,.8)";
    for (const row of model.looseOf(index)) {
      context.strokeRect(model.looseXy[2 * row] / FULL * width - 2, model.looseXy[2 * row + 1] / FULL * height - 2, 4, 4);
    }
  }
  for (const row of model.observationsOf(index)) {
    const x = model.xy[2 * row] / FULL * width, y = model.xy[2 * row + 1] / FULL * height;
    dot(context, x, y, 2.6, css(scaleColour(residualOf(model, row) / model.scale_px)));
    if (model.pointOf[row] === point) {
      context.strokeStyle = "#ff2fd0"; context.lineWidth = 4;
      context.strokeRect(x - 14, y - 14, 28, 28);
      context.lineWidth = 1;
    }
  }
}

// Crops of the photos around the keypoints of a point.
async function drawTrack(holder, point) {
  const crops = [];
  for (let row = model.starts[point]; row < model.starts[point + 1]; row++) {
    const index = model.images[row], figure = document.createElement("figure"), canvas = document.createElement("canvas");
    canvas.width = canvas.height = 140;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `The point in ${report.images[index].name}`);
    const caption = document.createElement("figcaption");
    caption.textContent = `${report.images[index].name}: ${residualOf(model, row).toFixed(2)} px`;
    figure.append(canvas, caption);
    crops.push(figure);
    loadPhoto(index).then((picture) => {
      const context = canvas.getContext("2d");
      context.fillStyle = "#7d8790";
      context.fillRect(0, 0, 140, 140);
      if (picture) {
        const side = Math.round(picture.naturalWidth / 8);
        const x = model.xy[2 * row] / FULL * picture.naturalWidth, y = model.xy[2 * row + 1] / FULL * picture.naturalHeight;
        context.drawImage(picture, x - side / 2, y - side / 2, side, side, 0, 0, 140, 140);
      }
      context.strokeStyle = "#ff2fd0"; context.lineWidth = 2;
      context.strokeRect(60, 60, 20, 20);
    });
  }
  holder.replaceChildren(...crops);
}

// Fractions of both photos for each match of a pair, and its colour.
function matchesOfPair(first, second) {
  const doubtful = report.doubtful.find(({ images: [a, b] }) => (a === first && b === second) || (a === second && b === first));
  if (doubtful) {
    const sides = doubtful.xy.map(uint16);
    const [one, other] = doubtful.images[0] === first ? sides : [sides[1], sides[0]];
    return { isDoubtful: true, matches: doubtful.inliers.map((isInlier, i) => ({
      from: [one[2 * i], one[2 * i + 1]], to: [other[2 * i], other[2 * i + 1]], colour: isInlier ? "#37d67a" : "#ff5a4d",
    })) };
  }
  const matches = [];
  if (model) {
    const rowOf = new Map();
    for (const row of model.observationsOf(first)) rowOf.set(model.pointOf[row], row);
    for (const row of model.observationsOf(second)) {
      const partner = rowOf.get(model.pointOf[row]);
      if (partner === undefined) continue;
      matches.push({
        from: [model.xy[2 * partner], model.xy[2 * partner + 1]], to: [model.xy[2 * row], model.xy[2 * row + 1]],
        colour: css(scaleColour(Math.max(residualOf(model, row), residualOf(model, partner)) / model.scale_px)),
      });
    }
  }
  return { isDoubtful: false, matches };
}

// Draws nothing, and returns null, if the pair is no longer the chosen one when its photos are there.
async function drawPair(canvas, first, second, isChosen) {
  const [one, other] = await Promise.all([loadPhoto(first), loadPhoto(second)]);
  if (!isChosen()) return null;
  const height = 520, gap = 8, widths = [first, second].map((index) => Math.round(height * report.aspects[index]));
  canvas.width = widths[0] + gap + widths[1]; canvas.height = height;
  const context = canvas.getContext("2d");
  paint(context, one, 0, 0, widths[0], height);
  paint(context, other, widths[0] + gap, 0, widths[1], height);
  const { matches, isDoubtful } = matchesOfPair(first, second), step = Math.max(1, Math.ceil(matches.length / 200));
  context.lineWidth = 1.2;
  for (let i = 0; i < matches.length; i += step) {
    const { from, to, colour } = matches[i];
    const start = [from[0] / FULL * widths[0], from[1] / FULL * height];
    const end = [widths[0] + gap + to[0] / FULL * widths[1], to[1] / FULL * height];
    context.strokeStyle = colour;
    context.beginPath(); context.moveTo(...start); context.lineTo(...end); context.stroke();
    dot(context, ...start, 2.5, colour); dot(context, ...end, 2.5, colour);
  }
  return { number: matches.length, isDoubtful };
}
