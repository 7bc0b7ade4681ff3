// Files from whatever the user gives: a choice, a drop, a paste, a folder.

const ENDINGS = /\.(png|jpe?g|dcm|dicom)$/i;
const OTHERS = /\.(csv|txt|md|json|xml|html?|pdf|zip|gz|tar|py|ini|log|docx?|xlsx?)$/i;

/** Of a folder's files those that may be radiographs: by ending, and those without one, as DICOM files often are. */
export const fromFolder = (files) =>
  files.filter(({ name }) => !name.startsWith(".") && name.toUpperCase() !== "DICOMDIR" && (ENDINGS.test(name) || !name.includes(".") || (/\.\d+$/.test(name) && !OTHERS.test(name))));

/** The files of a drop, folders opened. */
export async function fromDrop(transfer) {
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = await Promise.all(entries.filter(Boolean).map((entry) => (entry instanceof File ? [entry] : filesOf(entry, false))));
  return found.flat();
}

async function filesOf(entry, inFolder) {
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    return file ? (inFolder ? fromFolder([file]) : [file]) : [];
  }
  const reader = entry.createReader();
  const children = [];
  for (;;) {
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) break;
    children.push(...some);
  }
  children.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  return (await Promise.all(children.map((child) => filesOf(child, true)))).flat();
}

/** The images of a paste. */
export const fromPaste = (transfer) => [...(transfer?.files ?? [])];
