// Sizes and ages for people.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
const UNIT_STEP = 1024;

/** E.g. `"312 MiB"`, `"1.5 GiB"`. */
export function size(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= UNIT_STEP && unit < UNITS.length - 1) {
    value /= UNIT_STEP;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** How long ago an ISO 8601 time was, in its largest unit, e.g. `"3 h"`. */
export function age(time: string, nowMs = Date.now()): string {
  const ms = Math.max(0, nowMs - Date.parse(time));
  if (ms < MINUTE_MS) return `${Math.floor(ms / 1000)} s`;
  if (ms < HOUR_MS) return `${Math.floor(ms / MINUTE_MS)} min`;
  return ms < DAY_MS ? `${Math.floor(ms / HOUR_MS)} h` : `${Math.floor(ms / DAY_MS)} d`;
}
