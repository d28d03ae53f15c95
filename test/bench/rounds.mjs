// The rows of a bench, measured in rounds.
import { brief, summary } from './report.mjs';

/**
 * Measures each row once a round and gives the rows of the report.
 * @param rows `{ group, system, variant, measure, rounds? }`: `measure()` gives one round's figures
 * @param only the groups to run; @param match a part of "system, variant"
 */
export async function measured(rows, { only, match, rounds, progress }) {
  const chosen = rows.filter((row) => only.includes(row.group) && `${row.system}, ${row.variant}`.includes(match));
  const found = new Map(chosen.map((row) => [row, []]));
  for (let round = 1; round <= rounds; round++) {
    // Every other round runs backwards, so that no one always follows the same neighbour.
    for (const row of round % 2 === 1 ? chosen : chosen.toReversed()) {
      if (round > (row.rounds ?? rounds)) continue;
      const figures = await row.measure().catch((error) => ({ error: error.message }));
      found.get(row).push(figures);
      progress(`[${round}/${rounds}] ${row.system}, ${row.variant}: ${brief(figures)}`);
    }
  }
  return chosen.map((row) => summary(row, found.get(row)));
}

/** The figures of a row by name and variant. A name may be the beginning of the row's, up to a space. */
export function finder(rows) {
  return (system, variant) => rows.find((one) => `${one.system} `.startsWith(`${system} `) && one.variant === variant);
}

/** A row that was not run, on either side, makes no ratio. */
export function known(ratios) {
  return Object.fromEntries(Object.entries(ratios).filter(([, { value }]) => value !== null));
}
