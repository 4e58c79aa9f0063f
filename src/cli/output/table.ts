// Aligned columns and key/value lists.

/** @returns Rows below their titles, columns two spaces apart, without a final newline. */
export function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [titles, ...rows];
  const widths = titles.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** @returns One line per entry, values aligned; entries without a value are left out. */
export function keyValues(entries: Readonly<Record<string, string | number | null | undefined>>): string {
  const given = Object.entries(entries).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const width = Math.max(0, ...given.map(([key]) => key.length)) + 1;
  return given.map(([key, value]) => `${`${key}:`.padEnd(width)} ${value}`).join("\n");
}
