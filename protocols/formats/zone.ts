import { WireError } from '../errors.ts';

/**
 * A time zone, for schedules. A wall time is the time that a clock in the zone shows, as the milliseconds since 1970 that the same digits would be in
 * UTC. Adding to it is what Python does when it adds to a datetime with a zone.
 */
export interface Zone {
  /** The IANA name: `Europe/Berlin`. */
  readonly name: string;
  /** The wall time at this moment. */
  toWall(ms: number): number;
  /**
   * The moment of a wall time, as Python's zoneinfo with fold=0 defines it. A wall time that occurs twice is the first of the two moments. A wall
   * time that never occurs gets the offset from before the change.
   */
  fromWall(wallMs: number): number;
}

export const utc: Zone = { name: 'UTC', toWall: (ms) => ms, fromWall: (wallMs) => wallMs };

/** The zone of an IANA name, from the runtime's own tables. Throws WireError `timezone` for an unknown name. */
export function zoneOf(name: string): Zone {
  if (name === 'UTC') return utc;
  let found = zones.get(name);
  if (found === undefined) zones.set(name, (found = new IntlZone(name)));
  return found;
}

const zones = new Map<string, Zone>();

/** No zone changes its offset twice within this time. */
const DAY_MS = 86_400_000;

class IntlZone implements Zone {
  readonly name: string;
  readonly #format: Intl.DateTimeFormat;

  constructor(name: string) {
    this.name = name;
    try {
      this.#format = new Intl.DateTimeFormat('en-US', {
        timeZone: name,
        calendar: 'gregory',
        numberingSystem: 'latn',
        hourCycle: 'h23',
        era: 'short',
        year: 'numeric',
        month: 'numeric',
        day: 'numeric',
        hour: 'numeric',
        minute: 'numeric',
        second: 'numeric',
      });
    } catch (cause) {
      throw new WireError('timezone', 'timezone', `there is no time zone '${name}'; names are IANA's: Europe/Berlin`, {
        cause,
      });
    }
  }

  toWall(ms: number): number {
    return ms + this.#offset(ms);
  }

  fromWall(wallMs: number): number {
    const before = this.#offset(wallMs - DAY_MS);
    const early = wallMs - before;
    if (this.#offset(early) === before) return early;
    const after = this.#offset(wallMs + DAY_MS);
    const late = wallMs - after;
    return this.#offset(late) === after ? late : early;
  }

  /** Milliseconds east of UTC. */
  #offset(ms: number): number {
    const second = Math.floor(ms / 1000) * 1000;
    const shown = { era: 'AD', year: 0, month: 1, day: 1, hour: 0, minute: 0, second: 0 };
    for (const { type, value } of this.#format.formatToParts(second)) {
      if (type === 'era') shown.era = value;
      else if (type in shown) shown[type as 'year'] = Number(value);
    }
    const wall = new Date(0);
    wall.setUTCFullYear(shown.era === 'AD' ? shown.year : 1 - shown.year, shown.month - 1, shown.day);
    wall.setUTCHours(shown.hour, shown.minute, shown.second);
    return wall.getTime() - second;
  }
}
