// All that is measured, through the public SDK. A group measures rows that come out of the same runs.

import { CLI } from "./cli.mjs";
import { COMMANDS } from "./commands.mjs";
import { COPIES } from "./copies.mjs";
import { CROWDS } from "./crowds.mjs";
import { FILES } from "./files.mjs";
import { LIFECYCLE } from "./lifecycle.mjs";
import { NETWORK } from "./network.mjs";
import { POOL } from "./pool.mjs";
import { STREAMS } from "./streams.mjs";

/** @typedef {{ stateDir: string, samples: number }} BenchOptions */
/**
 * `unit` is `ms` unless said otherwise; `phases`: the operations of the library whose phases are told with it;
 * `needs` says why it cannot be measured here, or `undefined`.
 *
 * @typedef {{ names: string[], unit?: string, phases?: string[],
 *   needs?: () => string | undefined,
 *   measure: (options: BenchOptions) => Promise<Record<string, number[]>> }} Group
 */

/** @type {Group[]} */
export const ROWS = [
  ...LIFECYCLE,
  ...POOL,
  ...COMMANDS,
  ...STREAMS,
  ...FILES,
  ...COPIES,
  ...CROWDS,
  ...NETWORK,
  ...CLI,
];
