// The files that the user drops, pastes or chooses in a folder.

const IMAGE_SUFFIXES = /\.(png|jpe?g|dcm|dicom)$/i;
const OTHER_SUFFIXES = /\.(csv|txt|md|json|xml|html?|pdf|zip|gz|tar|py|ini|log|docx?|xlsx?)$/i;

/** The files of a folder that may be radiographs: by suffix, or without one, as many DICOM files are. */
export const imagesOfFolder = (files) =>
  files.filter(({ name }) => !name.startsWith(".") && name.toUpperCase() !== "DICOMDIR" && (IMAGE_SUFFIXES.test(name) || !name.includes(".") || (/\.\d+$/.test(name) && !OTHER_SUFFIXES.test(name))));

/** The files of a drop, with those in its folders. */
export async function filesOfDrop(transfer) {
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = await Promise.all(entries.filter(Boolean).map((entry) => (entry instanceof File ? [entry] : filesOf(entry, false))));
  return found.flat();
}

async function filesOf(entry, inFolder) {
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    return file ? (inFolder ? imagesOfFolder([file]) : [file]) : [];
  }
  const reader = entry.createReader();
  const children = [];
  for (;;) {
    const batch = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!batch.length) break;
    children.push(...batch);
  }
  children.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  return (await Promise.all(children.map((child) => filesOf(child, true)))).flat();
}

/** The files of a paste. */
export const filesOfPaste = (transfer) => [...(transfer?.files ?? [])];
