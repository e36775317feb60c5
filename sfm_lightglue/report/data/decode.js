// The numbers of the report, and how they are unpacked.

const holder = document.getElementById("report-data");
const report = holder ? JSON.parse(holder.textContent) : window.sfmReportData;

function bytesOf(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

// Numbers of the report are little-endian, as all machines with a browser are.
const int16 = (text) => new Int16Array(bytesOf(text).buffer);
const uint16 = (text) => new Uint16Array(bytesOf(text).buffer);
const uint32 = (text) => new Uint32Array(bytesOf(text).buffer);

function unpackModel(packed) {
  if (!packed) return null;
  const imageRows = packed.row_bits === 32 ? uint32 : uint16;
  const steps = int16(packed.xyz);
  const xyz = new Float32Array(steps.length);
  for (let i = 0; i < steps.length; i++) xyz[i] = steps[i] * packed.scale + packed.offset[i % 3];
  const model = {
    ...packed, xyz,
    rgb: bytesOf(packed.rgb),
    starts: uint32(packed.track_starts),
    images: imageRows(packed.track_images),
    xy: uint16(packed.track_xy),
    px: bytesOf(packed.track_px),
    looseImages: imageRows(packed.loose_images),
    looseXy: uint16(packed.loose_xy),
  };
  model.pointOf = new Uint32Array(model.images.length);
  for (let point = 0; point < packed.num_points; point++) model.pointOf.fill(point, model.starts[point], model.starts[point + 1]);
  model.observationsOf = grouped(model.images, report.images.length);
  model.looseOf = grouped(model.looseImages, report.images.length);
  model.cameraOf = new Map(packed.cameras.map((camera, index) => [camera.image, index]));
  return model;
}

// Rows of each value of an array, without an object for each row.
function grouped(values, count) {
  const starts = new Uint32Array(count + 1);
  for (const value of values) starts[value + 1]++;
  for (let i = 0; i < count; i++) starts[i + 1] += starts[i];
  const rows = new Uint32Array(values.length);
  const next = starts.slice();
  values.forEach((value, row) => { rows[next[value]++] = row; });
  return (value) => rows.subarray(starts[value], starts[value + 1]);
}

const residualOf = (model, observation) => model.px[observation] / 255 * model.max_residual_px;

// Blue, green, yellow, red for 0 to 1; also the colours of the legend.
const STOPS = [[52, 87, 213], [53, 183, 121], [253, 231, 37], [230, 67, 47]];
function scaleColour(value) {
  const place = Math.min(Math.max(value, 0), 1) * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[low].map((channel, i) => Math.round(channel + (STOPS[low + 1][i] - channel) * (place - low)));
}
const css = (rgb) => `rgb(${rgb.join(",")})`;

const FULL = 65535;
const model = unpackModel(report.model);
