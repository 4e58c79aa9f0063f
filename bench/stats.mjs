// From samples to what is reported of them.

/** @param {number[]} samples */
export function summarize(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  return {
    n: sorted.length,
    p50: percentile(sorted, 50),
    p95: percentile(sorted, 95),
    min: sorted[0],
    max: sorted.at(-1),
  };
}

/** Nearest rank. */
function percentile(sorted, percent) {
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)];
}

/**
 * How long `work` takes.
 *
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<[T, number]>} Its value and the time in milliseconds.
 */
export async function timed(work) {
  const started = performance.now();
  const value = await work();
  return [value, performance.now() - started];
}
