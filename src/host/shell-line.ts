// Shows an argv as a line that a person can paste into a shell. Never used to run anything.

/** Characters that need no quoting in any shell. */
const PLAIN = /^[A-Za-z0-9_@%+=:,./-]+$/;

/** The argv as one line of POSIX shell. */
export function shellLine(argv: readonly string[]): string {
  return argv.map((word) => (PLAIN.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(" ");
}
