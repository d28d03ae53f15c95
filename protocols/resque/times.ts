/** Times as Resque writes them, all in UTC: of each form, what its readers compare or parse. */

/** `2026-11-21T00:15:42Z`: `run_at`. worker.rb working_on. */
export function isoSecond(at: Date): string {
  return `${at.toISOString().slice(0, 19)}Z`;
}

/** `2026-11-21T00:15:37+00:00`: a heartbeat. worker.rb heartbeat!. */
export function isoOffset(at: Date): string {
  return `${at.toISOString().slice(0, 19)}+00:00`;
}

/** `2026-11-21 00:15:37 +0000`: `started` and `last_enqueued_at`, Ruby's Time#to_s. */
export function rubyTime(at: Date): string {
  const iso = at.toISOString();
  return `${iso.slice(0, 10)} ${iso.slice(11, 19)} +0000`;
}

/** `2026/11/21 00:15:44 UTC`: `failed_at` and `retried_at`. failure/redis.rb save. Without the zone: resque-retry's suppressed failures. */
export function failedAt(at: Date, zone = ' UTC'): string {
  const iso = at.toISOString();
  return `${iso.slice(0, 10).replaceAll('-', '/')} ${iso.slice(11, 19)}${zone}`;
}

/** Any of them, and what other workers write; undefined for what is no time. Without a zone it is UTC. */
export function readTime(text: string): Date | undefined {
  const match = /^(\d{4})[-/](\d\d)[-/](\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d(?:\.\d+)?))?)? ?(.*)$/.exec(text.trim());
  if (match === null) return undefined;
  const [, year, month, day, hour = '00', minute = '00', second = '00', zone = ''] = match;
  const offset = zoneText(zone);
  if (offset === undefined) return undefined;
  const at = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second.padEnd(2, '0')}${offset}`);
  return Number.isNaN(at.getTime()) ? undefined : at;
}

function zoneText(zone: string): string | undefined {
  if (zone === '' || /^(?:Z|UTC|GMT)$/i.test(zone)) return 'Z';
  const offset = /^([+-]\d\d):?(\d\d)$/.exec(zone);
  return offset === null ? undefined : `${offset[1]}:${offset[2]}`;
}
