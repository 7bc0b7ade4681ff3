// Numbers and names as text.

const MAX_DIGITS = 3;
const UNIT = "\u00a0%"; // no line break between a number and its unit

export const displayName = (name) => name.replaceAll("_", " ");

/** 0.8312 is "83 %", 0.0123 "1.2 %", 0.00000031 "3e-5 %"; a value just below 1 is "> 99 %", not "100 %". */
export function percent(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "n/a";
  const hundredths = 100 * value;
  if (hundredths > 0 && hundredths < 0.01) return `${hundredths.toExponential(0)}${UNIT}`;
  if (hundredths > 99 && hundredths < 100) return `>\u00a099${UNIT}`;
  if (hundredths < 1) return `${hundredths.toFixed(2)}${UNIT}`;
  return `${hundredths.toFixed(hundredths < 10 ? 1 : 0)}${UNIT}`;
}

/** With a fixed number of decimals: 0.57 is "57.0 %". A value above 0 is never "0 %", one below 1 never "100 %". */
export function percentFixed(value, digits) {
  const hundredths = 100 * value;
  const text = hundredths.toFixed(digits);
  if (hundredths > 0 && Number(text) === 0) return `${hundredths.toExponential(0)}${UNIT}`;
  if (hundredths < 100 && Number(text) >= 100) return `>\u00a0${(100 - 10 ** -digits).toFixed(digits)}${UNIT}`;
  return `${text}${UNIT}`;
}

/** The fewest decimals, 1 to 3, with which the values of each pair differ as text and none rounds to 0. */
export function digitsFor(pairs) {
  for (let digits = 1; digits < MAX_DIGITS; digits += 1) {
    const differ = pairs.every(([a, b]) => a === b || percentFixed(a, digits) !== percentFixed(b, digits));
    const nonzero = pairs.every(([, b]) => !(b > 0) || 100 * b >= 10 ** -digits);
    if (differ && nonzero) return digits;
  }
  return MAX_DIGITS;
}

/** Two values that are compared, with the same number of decimals. */
export const percentsAlike = (values) => values.map((value) => percentFixed(value, digitsFor([values])));

export const formatScore = (value) => (value === null || value === undefined ? "n/a" : value.toFixed(3));

export const formatSigned = (value) =>
  value === null || value === undefined ? "n/a" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
