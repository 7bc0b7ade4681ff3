// Heatmaps: gray levels from the service, coloured here.

import { percentsAlike } from "./format.js";

// Matplotlib's inferno at nine levels: its lightness rises evenly, so it is ordered for every kind of colour vision.
const INFERNO = [
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164],
];

const COLOURS = Array.from({ length: 256 }, (_, level) => {
  const place = (level / 255) * (INFERNO.length - 1);
  const from = Math.min(Math.floor(place), INFERNO.length - 2);
  return [0, 1, 2].map((channel) => INFERNO[from][channel] + (INFERNO[from + 1][channel] - INFERNO[from][channel]) * (place - from));
});

// Low levels are transparent, so that the radiograph is covered only where the heatmap is high.
const opacity = (level) => {
  const rise = Math.min(1, Math.max(0, (level / 255 - 0.12) / 0.45));
  return 255 * rise * rise * (3 - 2 * rise);
};

/**
 * The service's answer as a coloured canvas, to be drawn over the whole radiograph. `isBlank` is whether the heatmap is
 * zero everywhere, `occlusion` its occlusion check.
 */
export async function colourHeatmap(response) {
  const bitmap = await createImageBitmap(await response.blob());
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = image;
  let maximum = 0;
  for (let place = 0; place < data.length; place += 4) {
    const level = data[place];
    maximum = Math.max(maximum, level);
    [data[place], data[place + 1], data[place + 2]] = COLOURS[level];
    data[place + 3] = opacity(level);
  }
  context.putImageData(image, 0, 0);
  canvas.isBlank = maximum === 0;
  canvas.occlusion = JSON.parse(response.headers.get("Hilum-Occlusion") ?? "null");
  return canvas;
}

/** The occlusion check in a sentence; empty for a blank heatmap. */
export function describeOcclusion({ isBlank, occlusion }) {
  if (isBlank || !occlusion) return "";
  const [whole, hidden] = percentsAlike([occlusion.probability, occlusion.hidden]);
  if (occlusion.lowers) return `Hiding the hottest area lowers the probability from ${whole} to ${hidden}.`;
  return `Hiding the hottest area does not lower the probability (${whole} before, ${hidden} after): the model does not need it.`;
}
